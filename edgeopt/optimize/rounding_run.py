"""Try rounded weights on the way to quantize that was chosen, and keep them when they lose less."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.child import Child, ChildDied
from edgeopt.errors import ModelError
from edgeopt.optimize.calibration import Ranges
from edgeopt.optimize.copies import Copies, write
from edgeopt.optimize.recipes import ConversionRequest
from edgeopt.optimize.selection import Candidate, Trial, answers_lost, leads_lost
from edgeopt.optimize.selection_run import Improved, Jobs
from edgeopt.optimize.statistics import FEWEST, fitted_samples
from edgeopt.optimize.work import samples_worth
from edgeopt.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeopt.dataset import Dataset

__all__ = [
    "Way",
    "compared",
    "fitted_count",
    "judged",
    "refine",
    "rivals_wanted",
    "round_weights",
    "rounding_wanted",
    "worth",
]

_WORKER = "edgeopt.optimize.rounding_worker"
_JUDGE = "edgeopt.optimize.selection_worker"
_CHILDREN = 2
_FITTED, _FITTED_LEAST = 128, 48  # samples
_FITTED_WORK = 60e9  # multiplications that running them is worth
_WORK = 20e9  # where it is so little, rivals are rounded too
_JUDGED = 40
_WORTH = 0.9  # of the loss before: half a decibel


def rivals_wanted(request: ConversionRequest, float_path: Path) -> bool:
    """Whether other ways to quantize are worth rounding too: of int8 models so small that running
    every sample is."""
    small = samples_worth(_WORK, float_path) >= _FITTED
    return rounding_wanted(request) and request.scheme == "int8" and small


def fitted_count(float_path: Path) -> int:
    """How many samples weights are fitted on."""
    return min(_FITTED, max(_FITTED_LEAST, samples_worth(_FITTED_WORK, float_path)))


def rounding_wanted(request: ConversionRequest) -> bool:
    """Whether weights may be rounded so that their errors cancel."""
    return request.quality.bias_correction == "auto" and not request.keep


def refine(
    better: Improved,
    float_path: Path,
    request: ConversionRequest,
    result: Path,
    measured: Ranges,
    dataset: Dataset,
    *,
    job: Jobs,
    progress: Progress,
) -> Improved:
    """`better`, or it or one of its rivals with rounded weights: `result` is then made anew.

    Weights are fitted on samples that are not held out, and judged on those that are. Nothing is
    tried where biases were not to be corrected by choice (`bias_correction` is not "auto"), where
    zeros or clusters must be kept, or with fewer samples than can be held out.
    """
    if not rounding_wanted(request) or measured.samples < FEWEST or not measured.kept:
        return better
    began = time.perf_counter()
    progress.stage("Rounding weights")
    most = fitted_count(float_path)
    fitted = fitted_samples(dataset, request.samples, measured.samples, most)
    ways = [better, *better.rivals]
    better = replace(better, rivals=())
    models = {way.reference: result.with_name(f"rounded_{i}.tflite") for i, way in enumerate(ways)}
    try:
        count = min(
            round_weights(path, [Way(path, out)], request, fitted) for path, out in models.items()
        )
    except ModelError as error:  # the result is good without
        note = f"Weights are rounded to the nearest step: {error.message}"
        return replace(better, notes=(*better.notes, note))
    if not count:
        return better
    made = [result.with_name(f"rounded_int8_{number}.tflite") for number in range(len(ways))]
    jobs = [job(better.model, result.with_name("again.tflite"), better.ranges)]
    jobs += [job(models[w.reference], out, w.ranges) for w, out in zip(ways, made, strict=True)]
    count = min(len(measured.kept), _JUDGED)
    kept = [measured.kept[i * len(measured.kept) // count] for i in range(count)]
    before, *after = judged(float_path, jobs, kept)
    best = _best(after)
    said: dict[str, Any] = {"layers": count, "fitted_samples": len(fitted[0]), "ways": len(ways)}
    said |= compared(before, after[best]) | {"seconds": round(time.perf_counter() - began, 3)}
    if not said["kept"]:
        return replace(better, quality={**better.quality, "rounding": said})
    made[best].replace(result)
    note = _note(count, before, after[best])
    quality = {"seconds": ways[0].quality["seconds"], "rounding": said}
    return _rounded(ways, best, models, quality, note)


def _rounded(
    ways: Sequence[Improved],
    best: int,
    models: Mapping[Path, Path],
    quality: Mapping[str, Any],
    note: str,
) -> Improved:
    """The best of `ways` with its rounded model, and the others as its rivals."""
    better, *rivals = [
        replace(
            way, model=models[way.reference], rivals=(), notes=(*way.notes, note),
            quality={**way.quality, **quality},
        )
        for way in (ways[best], *ways[:best], *ways[best + 1 :])
    ]  # fmt: skip
    return replace(better, rivals=tuple(rivals))


def _note(layers: int, before: Trial, after: Trial) -> str:
    return (
        f"Weights are rounded so that their errors cancel ({layers} layers): "
        f"{_text(after)} against {_text(before)} on {len(after.noise)} samples held out."
    )


def _best(after: Sequence[Trial]) -> int:
    """Which rounded way to take: the first, unless another loses so much less that it is no
    accident."""
    best = 0
    for number, trial in enumerate(after):
        if worth(after[best], trial):
            best = number
    return best


def compared(before: Trial, after: Trial) -> dict[str, Any]:
    """The figures of both for the report, and which is kept."""
    return {
        "kept": worth(before, after),
        "judged_samples": len(after.noise),
        "before": _figures(before),
        "after": _figures(after),
    }


def worth(before: Trial, after: Trial) -> bool:
    """Whether what came `after` has a tenth less noise or loss, no more noise, and loses no answers
    or leads but by chance."""
    if answers_lost(before, after) or leads_lost(before, after):
        return False
    noises = [math.fsum(each.noise) for each in (after, before)]
    less = noises[0] <= noises[1] * _WORTH or after.loss <= before.loss * _WORTH
    return less and noises[0] <= noises[1]


@dataclass(frozen=True)
class Way:
    """A float model whose weights are to be written to `output` as they are rounded: the one that
    they are fitted on, or that one with `copies` of its tensors."""

    model: Path
    output: Path
    copies: Mapping[str, Copies] = field(default_factory=dict)


def round_weights(
    reference: Path, ways: Sequence[Way], request: ConversionRequest, fitted: list[NDArray[Any]]
) -> int:
    """Write each way with rounded weights, all from one run of the float model `reference` on the
    samples `fitted` (an array an input); how many layers there are. Raises ModelError when the
    runtime crashes."""
    with ExitStack() as stack:
        children = [stack.enter_context(Child(_WORKER)) for _ in range(_CHILDREN)]
        try:
            return _round(reference, ways, request, fitted, children)
        except ChildDied as error:
            raise _crashed(error) from error


def _round(
    reference: Path,
    ways: Sequence[Way],
    request: ConversionRequest,
    fitted: list[NDArray[Any]],
    children: Sequence[Child],
) -> int:
    import numpy as np

    from edgeopt.optimize.rounding import Rounded, replaced

    copies = [way.output.with_name(f"{way.output.stem}_copies.npz") for way in ways]
    parts = [
        [way.output.with_name(f"{way.output.stem}_{number}.npz") for way in ways]
        for number in range(len(children))
    ]
    for way, path in zip(ways, copies, strict=True):
        write(path, way.copies)
    for number, child in enumerate(children):
        outputs = zip(parts[number], copies, strict=True)
        message = {
            "model": str(reference),
            "ways": [{"output": str(out), "copies": str(held)} for out, held in outputs],
            "first": number,
            "step": len(children),
            "per_channel": request.per_channel,
            "dense_per_tensor": request.legacy_ops,
        }
        child.send(message, fitted)
    for child in children:
        child.answer()
    counts = []
    for way, paths in zip(ways, zip(*parts, strict=True), strict=True):
        made: dict[int, Rounded] = {}
        for path in paths:
            with np.load(path) as stored:
                for name in stored.files:
                    kind, _, index = name.partition("_")
                    if kind == "weights":
                        made[int(index)] = Rounded(stored[name], stored[f"shift_{index}"])
        way.output.write_bytes(replaced(way.model.read_bytes(), made))
        counts.append(len(made))
    return min(counts)


def judged(
    float_path: Path, jobs: list[dict[str, Any]], kept: Sequence[tuple[NDArray[Any], ...]]
) -> list[Trial]:
    """The figures of each job's result on samples that nothing was fitted on."""
    import numpy as np

    with Child(_JUDGE) as child:
        try:
            arrays = [np.stack(each) for each in zip(*kept, strict=True)]
            child.send({"do": "hold", "model": str(float_path)}, arrays)
            child.answer()
            trials = []
            for job in jobs:
                child.send({"do": "try", "job": job})
                answer = child.answer()
                trials.append(
                    Trial(
                        candidate=Candidate(),
                        noise=tuple(answer["noise"]),
                        agrees=tuple(answer.get("agrees", ())),
                        margin_lost=tuple(answer.get("margin_lost", ())),
                    )
                )
            return trials
        except ChildDied as error:
            raise _crashed(error) from error


def _figures(trial: Trial) -> dict[str, Any]:
    names = ("loss", "sqnr_db", "agreement")
    return {name: value for name, value in trial.to_json().items() if name in names}


def _text(trial: Trial) -> str:
    return "no noise" if trial.sqnr_db is None else f"{trial.sqnr_db:.1f} dB"


def _crashed(error: ChildDied) -> ModelError:
    return ModelError(
        "The runtime crashed while weights were rounded.", details={"log": str(error)}
    )
