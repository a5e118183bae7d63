"""Activations held twice, half a step apart: together they have one bit more than int8.

Of a tensor x with the step s, the copies x + s/4 and x - s/4 round differently, and the mean of
both is x in steps of s/2 (Hermite's identity): a quarter of the noise. This is the
quantization-aware splitting of Zhao et al., "Improving Neural Network Quantization without
Retraining using Outlier Channel Splitting", ICML 2019, of whole activations instead of single
weights. What makes the tensor gets its weights twice, with biases that lie apart, what reads it the
same weights halved: plain int8 operations, only wider, so it costs work. Copies that are held twice
once more, an eighth of a step to either side, leave a sixteenth of the noise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeopt.facts import Operator, Subgraph, Tensor
from edgeopt.optimize.copies import Copies
from edgeopt.optimize.equalize_graph import floats, integers
from edgeopt.optimize.splitting_offsets import left_noise, offsets
from edgeopt.optimize.splitting_units import WEIGHING, Unit, flattened, operand
from edgeopt.optimize.work import multiplications

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Split", "split", "work_of"]

_STEPS = 255  # of an int8 activation, asymmetric
_MOSTLY = 0.5

Bounds = Mapping[str, tuple[list[float], list[float]]]  # by tensor name, lows and highs


@dataclass(frozen=True, kw_only=True)
class Split:
    """`model` is the .tflite with its activations split; `left` is, by tensor name, the share of
    the rounding noise that its copies leave where what is rounded varies by more than a step, and
    `copies` where they stand."""

    model: bytes
    left: Mapping[str, float]
    copies: Mapping[str, Copies]


def split(
    data: bytes,
    ranges: Bounds,
    chosen: Collection[Unit],
    *,
    costs: Mapping[str, float] | None = None,
    live: Mapping[str, Sequence[float]] | None = None,
    apart: bool = True,
) -> Split:
    """The float .tflite with the tensors of the `chosen` units held twice, of units that are there
    twice four times.

    `ranges` are those that it will be quantized with: they stay right for the copies, whose names
    stay. `costs` is what rounding a tensor adds at the answers, by name (else its variance), `live`
    how often a value is none that a RELU clamps to, for each channel of a tensor (else always). Not
    `apart`, both copies are equal and the function is the same; apart, a RELU changes what lies
    less than half a step from where it bends.
    """
    from edgeopt.model.packing import pack, unpack
    from edgeopt.model.tflite import parse

    before, left, copies = dict[int, float](), dict[str, float](), dict[str, Copies]()
    doublings = _doublings(chosen)
    for number in range(1, max(doublings.values(), default=0) + 1):
        graph = parse(data).subgraphs[0]
        names = {t.index: t.name for t in graph.tensors}
        held = [index for index, count in doublings.items() if count >= number]
        steps = _steps(graph, {index: _step(ranges[names[index]]) for index in held})
        weights = {i: steps[i] ** 2 if costs is None else costs.get(names[i], 0.0) for i in held}
        found = dict.fromkeys(held, 0.0)
        if apart:
            found = offsets(graph, held, steps, weights, before)
        moving = {
            index: _moving(live[name], copies.get(name))
            for index, name in names.items()
            if live is not None and name in live
        }
        wider = _Wider(unpack(data), graph, found, moving)
        for op in graph.operators:
            wider.widen(op)
        left |= {names[i]: left_noise(found[i], steps[i], before.get(i)) for i in held}
        for i in held:
            channel, sign = wider.layout[i]
            offset, known = sign * found[i], copies.get(names[i])
            copies[names[i]] = (
                known.again(channel, offset) if known else Copies(channel=channel, offset=offset)
            )
        data, before = pack(wider.model), found
    return Split(model=data, left=left, copies=copies)


def _moving(live: Sequence[float], copies: Copies | None) -> NDArray[Any]:
    """Which channels lie apart in their copies more often than not: those that a RELU clamps are
    zero in all of them."""
    import numpy as np

    found = np.asarray(live) > _MOSTLY
    return found if copies is None else np.asarray(found[copies.channel])


def work_of(graph: Subgraph, chosen: Collection[Unit]) -> int:
    """The multiplications of one inference once the `chosen` units are held twice, those named
    twice four times."""
    doublings, total = _doublings(chosen), 0
    for op in graph.operators:
        source = operand(op) if op.op in WEIGHING and op.op != "DEPTHWISE_CONV_2D" else None
        made = doublings[op.outputs[0].index] if op.outputs else 0
        read = 0 if source is None else doublings[source.index]
        total += multiplications(op) * 2 ** (made + read)
    return total


def _doublings(chosen: Collection[Unit]) -> Counter[int]:
    """How often each tensor's copies are doubled."""
    return Counter(index for unit in chosen for index in unit.tensors)


def _step(ends: tuple[list[float], list[float]]) -> float:
    """Of a tensor once it is int8, whose range always has zero."""
    return (max(*ends[1], 0.0) - min(*ends[0], 0.0)) / _STEPS


def _steps(graph: Subgraph, own: Mapping[int, float]) -> dict[int, float]:
    """The steps that tensors get: what is concatenated has the scale of the whole, as the 8-bit
    quantization specification of TensorFlow Lite has it."""
    found = dict(own)
    for op in reversed(graph.operators):
        if op.op == "CONCATENATION" and op.outputs[0].index in found:
            found |= {t.index: found[op.outputs[0].index] for t in op.inputs if t is not None}
    return found


@dataclass
class _Wider:
    """A model whose operations are widened one after the other. `offsets` are those of the tensors
    held twice; `moving` which channels lie apart in the copies of a tensor, where not all do. The
    `layout` of one that was made is, for each of its channels, which of the original it holds, and
    1 for the copy above or -1 for the one below."""

    model: Any
    graph: Subgraph
    offsets: Mapping[int, float]
    moving: Mapping[int, NDArray[Any]] = field(default_factory=dict)
    layout: dict[int, tuple[NDArray[Any], NDArray[Any]]] = field(default_factory=dict)

    def widen(self, op: Operator) -> None:
        if op.op in WEIGHING:
            self.weighing(op)
        elif op.outputs and op.outputs[0].index in self.offsets:
            self.passing(op)

    def passing(self, op: Operator) -> None:
        """What does the same to every channel: copies stay where they are."""
        import numpy as np

        result = op.outputs[0]
        sources = [t for t in op.inputs if t is not None and t.index in self.layout]
        channel, sign = self.layout[sources[0].index]
        if op.op == "CONCATENATION":
            starts = np.cumsum([0, *(int((t.shape or (0,))[-1]) for t in sources)])
            parts = [self.layout[t.index] for t in sources]
            channel = np.concatenate([p[0] + at for p, at in zip(parts, starts, strict=False)])
            sign = np.concatenate([p[1] for p in parts])
        repeats = flattened(sources[0], result) if op.op == "RESHAPE" else 1
        if repeats > 1:
            width = int((sources[0].shape or (0,))[-1])
            channel = np.concatenate([channel + width * i for i in range(repeats)])
            sign = np.tile(sign, repeats)
        self.place(result, channel, sign)
        if op.op == "RESHAPE":
            self.reshape(op, len(channel))

    def place(self, tensor: Tensor, channel: NDArray[Any], sign: NDArray[Any]) -> None:
        self.layout[tensor.index] = (channel, sign)
        self.shape(tensor.index, [*(tensor.shape or ())[:-1], len(channel)])

    def shape(self, index: int, sides: Sequence[int]) -> None:
        tensor = self.model.subgraphs[0].tensors[index]
        tensor.shape = [int(side) for side in sides]
        if tensor.shapeSignature is not None:
            tensor.shapeSignature = list(tensor.shape)

    def reshape(self, op: Operator, width: int) -> None:
        """The new shape is said in a constant, in an option, or in both."""
        import numpy as np

        from edgeopt.optimize.constants import replace_constant

        operator = self.model.subgraphs[0].operators[op.index]
        if operator.builtinOptions is not None and operator.builtinOptions.newShape is not None:
            said = [int(side) for side in operator.builtinOptions.newShape]
            operator.builtinOptions.newShape = [*said[:-1], width]
        said_too = integers(op.inputs[1]) if len(op.inputs) > 1 else None
        if said_too is not None and op.inputs[1] is not None:
            values = np.array([*said_too[:-1], width], "<i4").view("<f4")  # the same bytes
            replace_constant(self.model, op.index, op.inputs[1].index, values)

    def weighing(self, op: Operator) -> None:
        """Rows for both copies of what is made, columns for both of what is read."""
        import numpy as np

        source, result, weights = operand(op), op.outputs[0], op.inputs[1]
        assert source is not None
        assert weights is not None
        read, apart = self.layout.get(source.index), self.offsets.get(result.index)
        if read is None and apart is None:
            return
        values: Any = floats(weights).astype(np.float64)
        bias = self.bias(op)
        if op.op == "DEPTHWISE_CONV_2D":
            assert read is not None
            assert apart is not None
            channel, sign = read
            carried = values.sum(axis=tuple(range(values.ndim - 1))) * self.offsets[source.index]
            carried = carried * self.moving.get(source.index, 1.0)
            self.place(result, channel, sign)
            self.rewrite(
                op, values[..., channel], bias[channel] + sign * (apart - carried[channel])
            )
            return
        if read is not None:
            values = self.columns(values, read[0], source)
        if apart is not None:
            channel = np.tile(np.arange(len(bias)), 2)
            sign = np.repeat([1.0, -1.0], len(bias))
            self.place(result, channel, sign)
            values, bias = values[channel], bias[channel] + sign * apart
        self.rewrite(op, values, bias)

    def columns(self, values: Any, channel: NDArray[Any], source: Tensor) -> Any:
        """The weights that read each copy: half the channel's. A dense layer flattens."""
        import numpy as np

        width = int((source.shape or (1,))[-1])
        repeats = values.shape[-1] // width
        places = np.concatenate([channel + width * i for i in range(repeats)])
        return values[..., places] / 2

    def bias(self, op: Operator) -> NDArray[Any]:
        import numpy as np

        bias = op.inputs[2] if len(op.inputs) > 2 else None
        width = int((op.outputs[0].shape or (1,))[-1])
        return np.zeros(width) if bias is None else floats(bias).astype(np.float64).reshape(-1)

    def rewrite(self, op: Operator, values: NDArray[Any], bias: NDArray[Any]) -> None:
        from edgeopt.optimize.constants import add_constant, replace_constant

        operator = self.model.subgraphs[0].operators[op.index]
        weights, given = op.inputs[1], op.inputs[2] if len(op.inputs) > 2 else None
        assert weights is not None
        replace_constant(self.model, op.index, weights.index, values)
        self.shape(int(operator.inputs[1]), values.shape)
        if given is not None:
            replace_constant(self.model, op.index, given.index, bias)
            self.shape(int(operator.inputs[2]), bias.shape)
            return
        name = f"{op.outputs[0].name}/split_bias"
        made = add_constant(self.model, int(operator.inputs[1]), [len(bias)], bias, name)
        operator.inputs = [*(int(i) for i in operator.inputs[:2]), made]
