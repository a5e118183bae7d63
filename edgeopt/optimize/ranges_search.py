"""Ranges by what they do to the model's answers: each activation's ends are drawn in while the
error at the output falls.

One tensor at a time is quantized in the float model, and only what follows it is computed again, on
samples that are to be fitted on. What comes after a tensor decides what its values are worth:
large negative ones before a RELU cost nothing to clip, however they are distributed. The worst
tensors come first, as many as fit a fixed amount of work: the result is always the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.facts import Tensor
from edgeopt.optimize.work import multiplications

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Shares", "descend", "noises", "quantized", "search"]

Shares = dict[str, tuple[float, float]]  # by tensor name, of the true minimum and maximum
Seen = dict[int, "NDArray[Any]"]  # one sample's values by tensor index

_TRIED = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
_GAIN = 0.97  # of the error before: less may be chance
_HOPELESS = 2.0  # times the least error: clipping more is worse still
_TRIALS = 12  # of a tensor, as seen on the shared models
_WORK = 120e9  # multiplications; a processor of 2020 does 20e9 a second in float32
_REACHED = 4  # a search that reaches only one tensor in so many is not begun
_ELEMENT = 50  # what quantizing a value costs, in multiplications
_MOST, _FEWEST, _RANKED = 64, 12, 2  # samples
_SIX = 6  # where RELU6 ends
_KEPT_BYTES = 256 << 20
# Their results have the scale of what they read: nothing of their own to choose.
_PASSED = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "MAX_POOL_2D", "AVERAGE_POOL_2D",
           "PAD", "SPLIT", "SLICE", "STRIDED_SLICE", "GATHER", "SOFTMAX", "LOGISTIC",
           "LOG_SOFTMAX", "TANH")  # fmt: skip


def quantized(values: NDArray[Any], low: float, high: float, *, bits: int = 8) -> NDArray[Any]:
    """`values` as an asymmetric tensor of so many bits between these ends keeps them (float32);
    zero is always one of its steps."""
    import numpy as np

    low, high, last = min(low, 0.0), max(high, 0.0), 2**bits - 1
    step = (high - low) / last
    if step <= 0:
        return np.zeros_like(values)
    zero = round(-low / step)
    codes = np.clip(np.rint(values / np.float32(step)) + zero, 0, last) - zero
    return np.asarray(codes * np.float32(step), np.float32)


def descend(error: Callable[[float, float], float], *, signed: bool) -> tuple[float, float]:
    """The shares (low, high) of the true ends with the least `error`, drawn in by turns; 1 where
    nothing is gained. Without `signed` there is no low end to move."""
    known: dict[tuple[float, float], float] = {}

    def cost(at: tuple[float, float]) -> float:
        if at not in known:
            known[at] = error(*at)
        return known[at]

    best, before = (1.0, 1.0), None
    while best != before:
        before = best
        for end in ("high", "low") if signed else ("high",):
            for share in (1.0, *_TRIED):
                at = (best[0], share) if end == "high" else (share, best[1])
                if cost(at) < cost(best) * _GAIN:
                    best = at
                elif cost(at) > cost(best) * _HOPELESS:
                    break
    return best


def search(
    path: Path,
    ranges: Mapping[str, tuple[list[float], list[float]]],
    arrays: Sequence[NDArray[Any]],
    *,
    ends: Sequence[int],
    centred: bool,
    bits: int = 8,
) -> Shares:
    """The shares of the true ends to keep, of those tensors for which it is less than all.

    `ranges` are the true ends by name; `arrays` has samples to fit on, one array an input; `ends`
    the tensors in which an error counts, less their mean over the last axis when `centred`. Empty
    for a model so large that most of its tensors would have to be left out.
    """
    bench = _Bench.of(path, arrays, ends, centred, bits)
    own = [t for t in bench.candidates() if t.name in ranges]
    least = sum(bench.work(t) for t in own) * _TRIALS * min(_FEWEST, len(arrays[0]))
    if least > _WORK * _REACHED or bench.size(own) * _RANKED > _KEPT_BYTES:
        return {}
    seen = bench.seen({t.index for t in own}, _RANKED)
    noise = {t.index: bench.costs(t, ranges[t.name], seen)(1.0, 1.0) for t in own}
    own.sort(key=lambda t: (-noise[t.index], t.index))
    found: Shares = {}
    left = float(_WORK)
    for tensor in own:
        work = bench.work(tensor) * _TRIALS
        count = min(int(left / work), len(arrays[0]), _MOST)
        if count < min(_FEWEST, len(arrays[0])) or noise[tensor.index] <= 0:
            continue
        left -= work * count
        low, high = ranges[tensor.name]
        error = bench.costs(tensor, (low, high), bench.seen({tensor.index}, count))
        shares = descend(error, signed=low[0] < 0 < high[0])
        if shares != (1.0, 1.0):
            found[tensor.name] = shares
    return found


def noises(
    path: Path,
    ranges: Mapping[str, tuple[list[float], list[float]]],
    arrays: Sequence[NDArray[Any]],
    *,
    ends: Sequence[int],
    centred: bool,
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """By tensor name, noise over signal at the answers when only that activation is int8, in the
    given ranges; the arguments are those of `search`. And of each channel of what depthwise layers
    read, how often a value is none that a RELU clamps to. Both empty for a model too large."""
    bench = _Bench.of(path, arrays, ends, centred, 8)
    own = [t for t in bench.candidates() if t.name in ranges]
    each = sum(bench.work(t) for t in own)
    count = int(min(_WORK / max(each, 1), len(arrays[0]), _MOST))
    count = min(count, int(_KEPT_BYTES / max(bench.size(own), 1)))
    if count < _RANKED:
        return {}, {}
    seen = bench.seen({t.index for t in own}, count)
    costs = {t.name: bench.costs(t, ranges[t.name], seen)(1.0, 1.0) for t in own}
    read = {op.inputs[0].index for op in bench.graph.operators if op.op == "DEPTHWISE_CONV_2D"}
    return costs, {
        t.name: _live([values[t.index] for values in seen]) for t in own if t.index in read
    }


def _live(seen: Sequence[NDArray[Any]]) -> list[float]:
    """Of each channel, the share of values that a RELU or RELU6 leaves as they are."""
    import numpy as np

    shares = [((v != 0) & (v != _SIX)).mean(axis=tuple(range(v.ndim - 1))) for v in seen]
    return [round(float(share), 4) for share in np.mean(shares, axis=0)]


@dataclass
class _Bench:
    """A float model of which parts are run again with one tensor changed."""

    graph: Any
    objects: Any
    arrays: Sequence[NDArray[Any]]
    ends: Sequence[int]
    centred: bool
    bits: int

    @classmethod
    def of(
        cls, path: Path, arrays: Sequence[Any], ends: Sequence[int], centred: bool, bits: int
    ) -> _Bench:
        from edgeopt.model import read
        from edgeopt.model.packing import unpack

        graph, objects = read(path).subgraphs[0], unpack(path.read_bytes())
        return cls(graph, objects, arrays, ends, centred, bits)

    def candidates(self) -> list[Tensor]:
        """Results with a scale of their own that reach an answer and are none."""
        edges = {t.index for t in self.graph.outputs} | set(self.ends)
        made = [t for op in self.graph.operators if op.op not in _PASSED for t in op.outputs]
        return [
            t
            for t in made
            if t.dtype == "float32" and t.index not in edges and self._after(t.index)[2]
        ]

    def _after(self, tensor: int) -> Any:
        from edgeopt.optimize.layer_errors_parts import cone

        return cone(self.graph, [tensor], self.ends)

    def work(self, tensor: Tensor) -> float:
        """Multiplications of one trial with one sample."""
        again = set(self._after(tensor.index)[0])
        each = sum(multiplications(op) for op in self.graph.operators if op.index in again)
        return each + float(_ELEMENT * prod(tensor.shape or ()))

    def size(self, tensors: Sequence[Tensor]) -> int:
        """Bytes of their values."""
        return sum(4 * prod(t.shape or ()) for t in tensors)

    def seen(self, tensors: Collection[int], count: int) -> list[Seen]:
        """What the parts after `tensors` read and answer, for `count` samples evenly spread."""
        parts = [self._after(tensor) for tensor in sorted(tensors)]
        wanted = {*tensors, *(t for _, outside, ends in parts for t in (*outside, *ends))}
        given = {t.index for t in self.graph.inputs}
        made = sorted(wanted - given)
        inputs = [t.index for t in self.graph.inputs]
        run = self._part([op.index for op in self.graph.operators], inputs, made)
        total = len(self.arrays[0])
        numbers = sorted({i * total // count for i in range(min(count, total))})
        found = []
        for number in numbers:
            sample = [array[number] for array in self.arrays]
            found.append(dict(zip(made, run(sample), strict=True)))
            found[-1].update(zip(inputs, map(self._batched, sample, inputs), strict=True))
        return found

    def costs(
        self, tensor: Tensor, ends: tuple[list[float], list[float]], seen: Sequence[Seen]
    ) -> Callable[[float, float], float]:
        """Noise over signal at the answers, over the samples `seen`, as a function of the shares
        of the tensor's true `ends` that are kept."""
        import numpy as np

        operators, outside, reached = self._after(tensor.index)
        given = sorted({*outside, tensor.index})
        after = self._part(operators, given, reached)
        real = [[self._answer(values[i]) for i in reached] for values in seen]
        signal = [sum(float((r[i] ** 2).sum()) for r in real) or 1.0 for i in range(len(reached))]
        low, high = ends[0][0], ends[1][0]

        def error(below: float, above: float) -> float:
            total = 0.0
            for values, wanted in zip(seen, real, strict=True):
                kept = quantized(values[tensor.index], low * below, high * above, bits=self.bits)
                found = after([kept if i == tensor.index else values[i] for i in given])
                for value, answer, size in zip(found, wanted, signal, strict=True):
                    total += float(((self._answer(value) - answer) ** 2).sum()) / size
            return total if np.isfinite(total) else float("inf")

        return error

    def _answer(self, value: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        found = value.astype(np.float64)
        if self.centred:
            found = found - found.mean(axis=-1, keepdims=True)
        return np.asarray(found)

    def _batched(self, value: Any, tensor: int) -> Any:
        """A sample as the model's input `tensor` takes it."""
        from edgeopt.optimize.calibration_worker import batched

        shape = self.graph.tensors[tensor].shape
        return batched(value, shape[0] if shape else None)

    def _part(
        self, operators: Sequence[int], inputs: Sequence[int], outputs: Sequence[int]
    ) -> Callable[[Sequence[Any]], list[Any]]:
        from ai_edge_litert.interpreter import Interpreter

        from edgeopt.optimize.layer_errors_parts import part

        content = part(self.objects, operators, inputs, outputs)
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        places = interpreter.get_input_details()
        results = [detail["index"] for detail in interpreter.get_output_details()]
        whole = list(inputs) == [t.index for t in self.graph.inputs]

        def run(values: Sequence[Any]) -> list[Any]:
            for detail, index, value in zip(places, inputs, values, strict=True):
                given = self._batched(value, index) if whole else value
                interpreter.set_tensor(detail["index"], given)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in results]

        return run
