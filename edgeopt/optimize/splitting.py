"""Activations held twice, half a step apart: together they have one bit more than int8.

Of a tensor x with the step s, the copies x + s/4 and x - s/4 round differently, and the mean of
both is x in steps of s/2 (Hermite's identity): a quarter of the noise; k copies leave 1/k^2.
This is the quantization-aware splitting of Zhao et al., "Improving Neural Network Quantization
without Retraining using Outlier Channel Splitting", ICML 2019, of whole activations instead of
single weights. What makes the tensor gets its weights k times with biases that lie apart, what
reads it the same weights a k-th as large: plain int8 operations, only wider, so it costs work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import TYPE_CHECKING, Any

from edgeopt.facts import Operator, Subgraph, Tensor
from edgeopt.optimize.equalize_graph import floats, integers
from edgeopt.optimize.splitting_units import WEIGHING, Unit, flattened, operand
from edgeopt.optimize.work import multiplications

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Split", "left_noise", "split", "work_of"]

_STEPS = 255  # of an int8 activation, asymmetric
_PERMUTED = 4  # copies whose orders are all tried: 24

Bounds = Mapping[str, tuple[list[float], list[float]]]  # by tensor name, lows and highs


@dataclass(frozen=True, kw_only=True)
class Split:
    """`model` is the .tflite with its activations split; `left` is, by tensor name, the share of
    the rounding noise that its copies leave where what is rounded varies by more than a step."""

    model: bytes
    left: Mapping[str, float]


def split(data: bytes, ranges: Bounds, wanted: Mapping[Unit, int], *, apart: bool = True) -> Split:
    """The float .tflite with the tensors of each unit held as often as `wanted` says.

    `ranges` are those that it will be quantized with: they stay right for the copies, whose names
    stay. Not `apart`, all copies are equal and the function is the same; apart, a RELU changes what
    lies less than half a step from where it bends.
    """
    from edgeopt.model.packing import pack, unpack
    from edgeopt.model.tflite import parse

    graph = parse(data).subgraphs[0]
    wider = _Wider(unpack(data), graph, ranges, apart)
    wider.copies = {index: count for unit, count in wanted.items() for index in unit.tensors}
    for op in graph.operators:
        wider.widen(op)
    names = {t.index: t.name for t in graph.tensors}
    left = {names[i]: left_noise(each, wider.step(i)) for i, each in wider.offsets.items()}
    return Split(model=pack(wider.model), left=left)


def left_noise(offsets: Sequence[float], step: float) -> float:
    """The variance of the mean of copies rounded at these offsets, as a share of one copy's.

    Two roundings of one number that lie d steps apart have the covariance B2(d mod 1) / 2 with the
    Bernoulli polynomial B2(d) = d^2 - d + 1/6 (that of sawtooth waves), in squared steps.
    """
    import numpy as np

    places = np.asarray(offsets, float) / (step or 1.0)
    d = (places[:, None] - places) % 1
    return float(6 * (d * d - d + 1 / 6).mean())


def work_of(graph: Subgraph, wanted: Mapping[Unit, int]) -> int:
    """The multiplications of one inference once the units are held as often as `wanted`."""
    copies = {index: count for unit, count in wanted.items() for index in unit.tensors}
    total = 0
    for op in graph.operators:
        made = copies.get(op.outputs[0].index, 1) if op.outputs else 1
        source = operand(op) if op.op in WEIGHING else None
        read = 1 if source is None or op.op == "DEPTHWISE_CONV_2D" else copies.get(source.index, 1)
        total += multiplications(op) * made * read
    return total


@dataclass
class _Wider:
    """A model whose operations are widened one after the other. A split tensor's channels are its
    `layout`: which channel of the original each place holds, and which copy of it."""

    model: Any
    graph: Subgraph
    ranges: Bounds
    apart: bool
    copies: dict[int, int] = field(default_factory=dict)
    layout: dict[int, tuple[NDArray[Any], NDArray[Any]]] = field(default_factory=dict)
    offsets: dict[int, list[float]] = field(default_factory=dict)

    def step(self, index: int) -> float:
        """Of the tensor once it is int8, whose range always has zero."""
        low, high = self.ranges[self.graph.tensors[index].name]
        return (max(float(max(high)), 0.0) - min(float(min(low)), 0.0)) / _STEPS

    def widen(self, op: Operator) -> None:
        if op.op in WEIGHING:
            self.weighing(op)
        elif op.outputs and op.outputs[0].index in self.copies:
            self.passing(op)

    def passing(self, op: Operator) -> None:
        """What does the same to every channel: copies stay where they are."""
        import numpy as np

        result = op.outputs[0]
        sources = [t for t in op.inputs if t is not None and t.index in self.layout]
        channel, copy = self.layout[sources[0].index]
        offsets = self.offsets[sources[0].index]
        if op.op == "CONCATENATION":
            starts = np.cumsum([0, *(int((t.shape or (0,))[-1]) for t in sources)])
            parts = [self.layout[t.index] for t in sources]
            channel = np.concatenate([p[0] + at for p, at in zip(parts, starts, strict=False)])
            copy = np.concatenate([p[1] for p in parts])
        elif op.op == "ADD" and len(sources) == 2:
            other = self.offsets[sources[1].index]
            offsets = [a + b for a, b in zip(offsets, other, strict=True)]
        repeats = flattened(sources[0], result) if op.op == "RESHAPE" else 1
        if repeats > 1:
            width = int((sources[0].shape or (0,))[-1])
            channel = np.concatenate([channel + width * i for i in range(repeats)])
            copy = np.tile(copy, repeats)
        self.place(result, channel, copy, offsets)
        if op.op == "RESHAPE":
            self.reshape(op, len(channel))

    def place(
        self, tensor: Tensor, channel: NDArray[Any], copy: NDArray[Any], offsets: list[float]
    ) -> None:
        self.layout[tensor.index] = (channel, copy)
        self.offsets[tensor.index] = offsets
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
        """Rows for every copy that is made, columns for every copy that is read."""
        import numpy as np

        source, result, weights = operand(op), op.outputs[0], op.inputs[1]
        assert source is not None
        assert weights is not None
        count = self.copies.get(result.index, 1)
        read = self.layout.get(source.index)
        if count == 1 and read is None:
            return
        values: Any = floats(weights).astype(np.float64)
        given = self.bias(op)
        if op.op == "DEPTHWISE_CONV_2D":
            assert read is not None
            channel, copy = read
            offsets = self.chosen(result, count)
            lifted = np.array(self.offsets[source.index])[copy]
            sums = values.sum(axis=tuple(range(values.ndim - 1)))[channel] * lifted
            self.place(result, channel, copy, offsets)
            moved = given[channel] + np.array(offsets)[copy] - sums
            self.rewrite(op, values[..., channel], moved)
            return
        if read is not None:
            values = self.columns(values, read[0], source)
        if count > 1:
            width = len(given)
            offsets = self.chosen(result, count)
            channel, copy = np.tile(np.arange(width), count), np.repeat(np.arange(count), width)
            self.place(result, channel, copy, offsets)
            values, given = values[channel], given[channel] + np.array(offsets)[copy]
        self.rewrite(op, values, given)

    def columns(self, values: Any, channel: NDArray[Any], source: Tensor) -> Any:
        """The weights that read each copy: a k-th of the channel's. A dense layer flattens."""
        import numpy as np

        width = int((source.shape or (1,))[-1])
        repeats = values.shape[-1] // width
        places = np.concatenate([channel + width * i for i in range(repeats)])
        return values[..., places] / self.copies[source.index]

    def bias(self, op: Operator) -> NDArray[Any]:
        import numpy as np

        bias = op.inputs[2] if len(op.inputs) > 2 else None
        width = int((op.outputs[0].shape or (1,))[-1])
        return np.zeros(width) if bias is None else floats(bias).astype(np.float64).reshape(-1)

    def rewrite(self, op: Operator, values: NDArray[Any], bias: NDArray[Any]) -> None:
        from edgeopt.optimize.constants import add_constant

        operator = self.model.subgraphs[0].operators[op.index]
        weights = op.inputs[1]
        assert weights is not None
        name = weights.name
        made = add_constant(self.model, weights.index, list(values.shape), values, f"{name}/split")
        name = f"{op.outputs[0].name}/split_bias"
        raised = add_constant(self.model, weights.index, [len(bias)], bias, name)
        operator.inputs = [int(operator.inputs[0]), made, raised]

    # Where the copies lie.

    def chosen(self, result: Tensor, count: int) -> list[float]:
        """An offset for each copy of what a layer makes: evenly over a step, or, where it is added
        to what was made before, so that the sum's copies lie evenly over the sum's own step."""
        if not self.apart:
            return [0.0] * count
        even = _even(self.step(result.index), count)
        for op in self.graph.operators:
            inputs = [t.index for t in op.inputs if t is not None]
            if op.op != "ADD" or result.index not in inputs or len(inputs) != 2:
                continue
            other = inputs[1 - inputs.index(result.index)]
            if other not in self.offsets or other == result.index:
                continue
            return self.beside(self.offsets[other], result, op.outputs[0])
        return even

    def beside(self, other: list[float], result: Tensor, made: Tensor) -> list[float]:
        own = self.step(result.index)
        aims = _even(self.step(made.index), len(other))
        orders = permutations(aims) if len(aims) <= _PERMUTED else [tuple(aims), tuple(aims[::-1])]
        ways = [[a - b for a, b in zip(aim, other, strict=True)] for aim in orders]
        return min(ways, key=lambda way: left_noise(way, own))


def _even(step: float, count: int) -> list[float]:
    return [step * ((2 * i + 1) / (2 * count) - 0.5) for i in range(count)][::-1]
