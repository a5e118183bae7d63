"""Which operations of a quantized model cost accuracy: each held against its float model.

Three figures for an operation, over a few calibration samples. `sqnr_db`: its result in the whole
quantized model, errors of all before it included. `alone_sqnr_db`: its result when its inputs are
the float model's, so its own weights, input and output types only. `output_sqnr_db`: what of that
reaches the model's output when everything else stays float; `share` is its part of the sum of these
over all operations. Outputs are taken before a last SOFTMAX or LOGISTIC, less their mean over the
classes. SQNR is 10 log10 of the sum of squares of the signal over that of the difference.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.child import Child, ChildDied
from edgeopt.errors import ModelError
from edgeopt.facts import ModelFacts, Operator
from edgeopt.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeopt.dataset import Dataset

__all__ = ["LayerError", "LayerErrors", "layer_errors", "output_sqnr_db", "what_was_done"]

_WORKER = "edgeopt.optimize.layer_errors_worker"
_CHILDREN = 2  # a fixed number: which operations are followed to the output depends on it
_MOST, _LEAST = 32, 2  # samples
_WORK = 40e9  # multiplications for all; a processor of 2020 does 20e9 a second in float32
_REFERENCE = 35  # how much longer 16-bit kernels take (measured, see the profile of cpu-int8)
_PASSES = 2  # each sample goes through the model as a whole, and operation by operation
_LONGEST = 1000e9  # multiplications at an 8-bit kernel's speed: a minute; more is not begun
_KEPT_BYTES = 256 << 20  # activations of all samples, in each child
_WEIGHED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_3D")


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """One operation of the quantized model; decibels are None where there is no error at all or
    nothing was measured (`share` None: not followed to the output). `name` is its result's."""

    index: int
    op: str
    name: str
    weighed: bool
    sqnr_db: float | None
    alone_sqnr_db: float | None
    output_sqnr_db: float | None
    share: float | None
    done: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "done": list(self.done)}


@dataclass(frozen=True, kw_only=True)
class LayerErrors:
    """`layers` in the order in which they run; `output_sqnr_db` is the whole model's."""

    samples: int
    seconds: float
    output_sqnr_db: float | None
    layers: tuple[LayerError, ...]

    def worst(self, count: int) -> list[LayerError]:
        """Those with the largest share of the output's error, worst first."""
        known = [layer for layer in self.layers if layer.share]
        return sorted(known, key=lambda layer: (-(layer.share or 0), layer.index))[:count]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "layers": [layer.to_json() for layer in self.layers]}


def layer_errors(
    float_path: Path,
    made: Path,
    dataset: Dataset,
    *,
    progress: Progress,
    done: Mapping[str, tuple[str, ...]] | None = None,
) -> LayerErrors:
    """Compare the quantized `made` with the float model of the same function and tensor names.

    `dataset` is matched to the float model. `done` says by result name what was done to a layer.
    The count of samples follows from the model's size, never from the clock, so the answer is the
    same each time. Raises ModelError when a model cannot be run in parts (several subgraphs), or is
    too slow to be run so often.
    """
    from edgeopt.model import read

    began = time.perf_counter()
    floats, facts = read(float_path), read(made)
    if len(floats.subgraphs) > 1 or len(facts.subgraphs) > 1:
        raise ModelError(f"{float_path.name} has several subgraphs: no part of it runs alone.")
    _refuse_hours(facts)
    budget = _Budget.of(floats)
    progress.stage("Measuring each layer's error")
    samples = _samples(dataset, budget.samples)
    job = {"do": "load", "float": str(float_path), "made": str(made)}
    found = _measure(job, samples, budget.cones)
    layers = tuple(_layers(facts, found, done or {}))
    return LayerErrors(
        samples=len(samples[0]),
        seconds=round(time.perf_counter() - began, 3),
        output_sqnr_db=_decibels(found.end),
        layers=layers,
    )


def _refuse_hours(made: ModelFacts) -> None:
    """Raises ModelError where even the fewest samples would take minutes or hours."""
    wide = any(t.dtype == "int16" for op in made.operators() for t in op.outputs)
    work = sum(map(_multiplications, made.operators())) * _LEAST * _PASSES
    if wide and work * _REFERENCE > _LONGEST:
        raise ModelError(
            f"{made.path.name} is too large to run again and again with 16-bit activations."
        )


def output_sqnr_db(float_path: Path, made: Path, dataset: Dataset) -> float | None:
    """What `layer_errors` says of the output, without looking at the layers; None: no error."""
    from edgeopt.model import read

    samples = _samples(dataset, _Budget.of(read(float_path)).samples)
    with Child(_WORKER) as child:
        try:
            child.send({"do": "load", "float": str(float_path), "made": str(made)}, samples)
            child.answer()
            child.send({"do": "together"})
            return _decibels(child.answer()["end"])
        except ChildDied as error:
            raise ModelError(
                f"The runtime crashed on {made.name}.", details={"log": str(error)}
            ) from error


@dataclass(frozen=True, kw_only=True)
class _Budget:
    """How many samples, and for how many operations (of each child) the output is computed."""

    samples: int
    cones: int

    @classmethod
    def of(cls, floats: ModelFacts) -> _Budget:
        operators = list(floats.operators())
        work = max(1.0, float(sum(map(_multiplications, operators))))
        held = sum(
            math.prod(t.shape or ()) * 4 for op in operators for t in op.outputs if not t.dynamic
        )
        per_sample = work * (len(operators) / 2 + 4)  # a cone is half the model on average
        count = min(_WORK / per_sample, _KEPT_BYTES / max(held, 1), _MOST)
        samples = max(_LEAST, int(count))
        cones = int(_WORK / (work / 2 * samples) / _CHILDREN)
        return cls(samples=samples, cones=max(4, cones))


def _multiplications(op: Operator) -> int:
    """Of one inference; the spatial sides of the result times the kernel."""
    if op.op not in _WEIGHED or not op.outputs or op.outputs[0].shape is None:
        return 0
    weights = op.inputs[1]
    kernel = math.prod(weights.shape or ()) if weights is not None else 0
    result = math.prod(op.outputs[0].shape)
    return kernel * result // max(1, op.outputs[0].shape[-1])


def _samples(dataset: Dataset, count: int) -> list[NDArray[Any]]:
    """An array per input, its first axis counting samples of one shape."""
    import numpy as np

    drawn = list(dataset.spread(count))
    shapes = [tuple(array.shape for array in sample) for sample in drawn]
    alike = [sample for sample, shape in zip(drawn, shapes, strict=True) if shape == shapes[0]]
    return [np.stack(arrays) for arrays in zip(*alike, strict=True)]


@dataclass
class _Found:
    """Sums of squares [signal, noise] by operation index."""

    together: dict[int, list[float]]
    alone: dict[int, list[float]]
    ends: dict[int, list[float]]
    end: list[float]


def _measure(job: dict[str, Any], samples: list[NDArray[Any]], cones: int) -> _Found:
    with ExitStack() as stack:
        children = [stack.enter_context(Child(_WORKER)) for _ in range(_CHILDREN)]
        try:
            for child in children:
                child.send(job, samples)
            for number, child in enumerate(children):
                child.answer()
                child.send({"do": "alone", "first": number, "step": _CHILDREN, "cones": cones})
            children[-1].send({"do": "together"})
            alone, ends = {}, {}
            for child in children:
                answer = child.answer()
                alone.update(_numbered(answer["sums"]))
                ends.update(_numbered(answer["ends"]))
            answer = children[-1].answer()
        except ChildDied as error:
            raise ModelError(
                "The runtime crashed while the layers were compared.", details={"log": str(error)}
            ) from error
    return _Found(_numbered(answer["sums"]), alone, ends, answer["end"])


def _numbered(sums: Mapping[str, list[float]]) -> dict[int, list[float]]:
    return {int(index): pair for index, pair in sums.items()}


def _layers(
    facts: ModelFacts, found: _Found, done: Mapping[str, tuple[str, ...]]
) -> Iterator[LayerError]:
    total = sum(pair[1] for pair in found.ends.values())
    for op in facts.operators():
        if op.index not in found.alone:
            continue
        end = found.ends.get(op.index)
        if end is not None:  # a result that reaches no output has no signal there
            end = [found.end[0], end[1]]
        yield LayerError(
            index=op.index,
            op=op.op,
            name=op.outputs[0].name,
            weighed=op.op in _WEIGHED,
            sqnr_db=_decibels(found.together[op.index]),
            alone_sqnr_db=_decibels(found.alone[op.index]),
            output_sqnr_db=_decibels(end),
            share=end[1] / total if end and total else None,
            done=done.get(op.outputs[0].name, ()),
        )


def _decibels(pair: list[float] | None) -> float | None:
    if pair is None or not pair[0] or not pair[1]:
        return None
    return round(10 * math.log10(pair[0] / pair[1]), 2)


def what_was_done(original: Path, scaled: Path, final: Path) -> dict[str, tuple[str, ...]]:
    """By result name, what two edits of a float model did to each layer: `scaled` is the original
    after equalization, `final` that after rounding and bias correction (each may be the file
    before it)."""
    from edgeopt.model import read

    steps = [{op.outputs[0].name: op for op in read(p).operators() if op.op in _WEIGHED}
             for p in (original, scaled, final)]  # fmt: skip
    found: dict[str, tuple[str, ...]] = {}
    for name, last in steps[2].items():
        first, middle = steps[0].get(name), steps[1].get(name)
        did = []
        if first is None or middle is None or _constants(first) != _constants(middle):
            did.append("equalized")
        if middle is not None:
            before, after = _constants(middle), _constants(last)
            did += ["weights rounded"] * (before[:1] != after[:1])
            did += ["bias corrected"] * (before[1:] != after[1:])
        found[name] = tuple(did)
    return {name: did for name, did in found.items() if did}


def _constants(op: Operator) -> list[bytes]:
    return [bytes(t.data) for t in op.inputs if t is not None and t.data is not None]
