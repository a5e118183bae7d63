"""The child that measures what each operation of a quantized model does wrong.

`load` names the float model and the quantized one and brings the samples; then `alone` (for some
operations) and `together`. Sums of squares go back; the parent makes decibels of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.child import serve
from edgeopt.dataset.fitting import plain_name
from edgeopt.facts import Subgraph, Tensor
from edgeopt.feed import feed, real_values
from edgeopt.optimize.layer_errors_parts import compared, cone, counterparts, decision, part
from edgeopt.optimize.logits import logit_floors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = dict[int, NDArray[np.generic]]  # of one sample, by tensor index

__all__ = ["main"]


def _interpreter(content: bytes, *, watch: bool = False) -> Any:
    """With `watch` every tensor keeps its values, which the delegate's fused kernels would not."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    options: dict[str, Any] = {}
    if watch:
        options["experimental_preserve_all_tensors"] = True
        options["experimental_op_resolver_type"] = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    made = Interpreter(model_content=content, num_threads=1, **options)
    made.allocate_tensors()
    return made


class _Model:
    """A file as the interpreter runs it, as our reader sees it, and as the schema's objects."""

    def __init__(self, path: Path) -> None:
        from edgeopt.model import read
        from edgeopt.model.packing import unpack

        self.content = path.read_bytes()
        self.graph: Subgraph = read(path).subgraphs[0]
        self.objects = unpack(self.content)

    def run(
        self, samples: Iterable[Sequence[Any]], keep: set[int], names: list[str]
    ) -> list[Values]:
        """The values of the tensors `keep`, a dict a sample; `names` are the inputs that a sample
        has arrays for, as two conversions may order them differently."""
        mine = [plain_name(t.name) for t in self.graph.inputs]
        order = [names.index(n) for n in mine] if sorted(names) == sorted(mine) else None
        interpreter = _interpreter(self.content, watch=True)
        places = [d["index"] for d in interpreter.get_input_details()]
        found = []
        for given in samples:
            sample = [given[i] for i in order] if order else given
            for index, array in zip(places, feed(sample, self.graph.inputs), strict=True):
                interpreter.set_tensor(index, array)
            interpreter.invoke()
            found.append({index: interpreter.get_tensor(index) for index in keep})
            interpreter.reset_all_variables()
        return found


class _Part:
    """A part of a model, ready to run on values by index of the whole."""

    def __init__(
        self, model: _Model, operators: list[int], inputs: list[int], outputs: list[int]
    ) -> None:
        content = part(model.objects, operators, inputs, outputs)
        self._interpreter = _interpreter(content)
        self._inputs = list(zip(inputs, self._interpreter.get_input_details(), strict=True))
        self._outputs = list(zip(outputs, self._interpreter.get_output_details(), strict=True))

    def __call__(self, values: Mapping[int, Any]) -> Values:
        for index, detail in self._inputs:
            self._interpreter.set_tensor(detail["index"], values[index])
        self._interpreter.invoke()
        return {i: self._interpreter.get_tensor(d["index"]) for i, d in self._outputs}


class _Worker:
    def __init__(self) -> None:
        self.floats: _Model
        self.made: _Model
        self.samples: list[tuple[Any, ...]] = []
        self.wanted: list[Values] = []

    def answer(self, message: dict[str, Any], arrays: list[Any]) -> dict[str, Any]:
        if message["do"] == "load":
            return self.load(message, arrays)
        if message["do"] == "together":
            return self.together()
        return self.alone(message["first"], message["step"], message["cones"])

    def load(self, message: dict[str, Any], arrays: list[Any]) -> dict[str, Any]:
        self.floats, self.made = _Model(Path(message["float"])), _Model(Path(message["made"]))
        self.samples = list(zip(*arrays, strict=True))
        self.same = counterparts(self.made.graph, self.floats.graph)
        self.compared = compared(self.made.graph, self.same)
        self.ends = decision(self.floats.graph)
        names = {t.index: t.name for t in self.floats.graph.tensors}
        floors = logit_floors(Path(message["float"]).read_bytes())
        self.floors = {i: floors.get(name, -math.inf) for i, name in names.items()}
        graph = self.floats.graph
        edges = {t.index for op in graph.operators for t in (*op.inputs, *op.outputs) if t}
        keep = {t.index for t in graph.tensors if t.index in edges and not t.constant}
        self.names = [plain_name(t.name) for t in graph.inputs]
        self.wanted = self.floats.run(self.samples, keep, self.names)
        return {"operations": len(self.compared)}

    def together(self) -> dict[str, Any]:
        """The whole quantized model against the float one: sums for each operation's results."""
        by_float = {theirs: ours for ours, theirs in self.same.items()}
        shown = {t.index for op in self.compared for t in op.outputs}
        ends = [by_float[end] for end in self.ends if end in by_float]
        found = self.made.run(self.samples, shown | set(ends), self.names)
        sums = {
            str(op.index): self._sums(found, [t.index for t in op.outputs]) for op in self.compared
        }
        return {"sums": sums, "end": self._sums(found, ends, centred=True)}

    def _sums(
        self, found: list[Values], indices: list[int], *, centred: bool = False
    ) -> list[float]:
        """[signal, noise]: sums of squares over all samples and `indices` of the quantized one."""
        total = [0.0, 0.0]
        for values, wanted in zip(found, self.wanted, strict=True):
            for index in indices:
                real = self._real(values[index], index)
                floor = self.floors.get(self.same[index], -math.inf)
                _add(total, real, wanted[self.same[index]], floor, centred)
        return total

    def _real(self, array: Any, index: int) -> NDArray[np.float64]:
        return real_values([array], [self.made.graph.tensors[index]])[0]

    def alone(self, first: int, step: int, cones: int) -> dict[str, Any]:
        """Every `step`-th operation from `first`: what it adds by itself, with the float model's
        values as its input; and, for the `cones` with the most noise of these, what of it reaches
        the output when all others stay float."""
        mine = self.compared[first::step]
        sums, results = {}, {}
        for op in mine:
            results[op.index] = self._by_itself(op)
            sums[op.index] = self._sums(results[op.index], [t.index for t in op.outputs])
        worst = sorted(mine, key=lambda op: (-_ratio(sums[op.index]), op.index))[:cones]
        ends = {op.index: self._at_the_end(op, results[op.index]) for op in worst}
        return {
            "sums": {str(index): pair for index, pair in sums.items()},
            "ends": {str(index): pair for index, pair in ends.items()},
        }

    def _by_itself(self, op: Any) -> list[Values]:
        read: list[Tensor] = [t for t in op.inputs if t is not None and not t.constant]
        read = list({t.index: t for t in read}.values())
        runs = _Part(self.made, [op.index], [t.index for t in read], [t.index for t in op.outputs])
        found = []
        for wanted in self.wanted:
            given = feed([wanted[self.same[t.index]] for t in read], read)
            found.append(runs({t.index: v for t, v in zip(read, given, strict=True)}))
        return found

    def _at_the_end(self, op: Any, results: list[Values]) -> list[float]:
        changed = {self.same[t.index]: t.index for t in op.outputs}
        operators, outside, ends = cone(self.floats.graph, changed, self.ends)
        runs = _Part(self.floats, operators, outside, ends) if operators else None
        total = [0.0, 0.0]
        for values, wanted in zip(results, self.wanted, strict=True):
            import numpy as np

            seen = {
                index: self._real(values[ours], ours).astype(np.float32)
                for index, ours in changed.items()
            }
            found = runs({**wanted, **seen}) if runs else seen
            for end in ends:
                _add(total, found[end].astype(np.float64), wanted[end], self.floors[end], True)
        return total


def _add(total: list[float], found: Any, wanted: Any, floor: float, centred: bool) -> None:
    """Add the squares of `wanted` (less each row's mean, when `centred`) and of the difference;
    what lies below `floor` does not count."""
    import numpy as np

    wanted = np.asarray(wanted, np.float64)
    if math.isfinite(floor):
        wanted, found = np.maximum(wanted, floor), np.maximum(found, floor)
    noise = found - wanted
    if centred and wanted.ndim and wanted.shape[-1] > 1:
        wanted = wanted - wanted.mean(-1, keepdims=True)
        noise = noise - noise.mean(-1, keepdims=True)
    total[0] += float(np.sum(wanted**2))
    total[1] += float(np.sum(noise**2))


def _ratio(pair: list[float]) -> float:
    """Noise over signal; infinite where a silent tensor became noisy."""
    signal, noise = pair
    return noise / signal if signal else (float("inf") if noise else 0.0)


def main() -> None:
    serve(_Worker().answer, what="Comparing the layers", package="ai-edge-litert")
