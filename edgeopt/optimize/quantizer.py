"""The LiteRT quantizer (no TensorFlow): recipe, calibrated ranges in, a quantized file out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.child import Child, ChildDied
from edgeopt.dataset import Dataset
from edgeopt.errors import ModelError
from edgeopt.optimize.calibration import Ranges, calibrate
from edgeopt.optimize.recipes import ConversionRequest
from edgeopt.optimize.selection import plain_quality
from edgeopt.optimize.statistics import fitted_samples
from edgeopt.progress import Progress

if TYPE_CHECKING:
    from edgeopt.optimize.selection_run import Improved

__all__ = ["Quantized", "quantize_file", "requantize"]

_WORKER = "edgeopt.optimize.quantizer_worker"


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """`measured` has the ranges that `model` was quantized with, None where none were needed.
    `reference` is the float model whose tensors the quantized ones should equal: the given one,
    or an equalized one. `quality` says what was tried, None where nothing beyond plain was.
    `rewritten` is the given model with other operations or logits of the same answers, which was
    what all else began with; None where that is the given one. `unsplit`, `held_twice`
    and `single` are those of `Improved`."""

    model: Path
    reference: Path
    measured: Ranges | None = None
    quality: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    rewritten: Path | None = None
    unsplit: tuple[Path, Path] | None = None
    held_twice: tuple[str, ...] = ()
    single: Path | None = None

    @property
    def edited(self) -> tuple[Path, Path]:
        """The float model once channels are equalized, and once weights and biases are its last:
        both with the tensors of the given one."""
        return self.unsplit or (self.reference, self.model)


def quantize_file(
    float_path: Path,
    request: ConversionRequest,
    result: Path,
    *,
    dataset: Dataset | None,
    progress: Progress,
    good: Callable[[], bool] = lambda: True,
) -> Quantized:
    """Write `float_path` in the request's scheme to `result`, whose folder takes what lies between.

    Where plain int8 is not `good` (it holds float parts), nothing better is tried. Raises
    ModelError with the quantizer's reason when it cannot.
    """
    if dataset is None or not request.calibrated:
        _run(float_path, request, result, None, progress)
        return Quantized(model=float_path, reference=float_path)
    try:
        return _calibrated(float_path, request, result, dataset, progress, good)
    except ModelError as error:
        if "QSV" not in error.message and "min/max" not in error.message:
            raise
    # The profiler sees no tensors inside control flow: watch every tensor instead.
    measured = _measure(float_path, request, dataset, progress, every_tensor=True)
    _run(float_path, request, result, measured, progress)
    return _only_plain(float_path, request, measured, "it has control flow")


def _calibrated(
    float_path: Path,
    request: ConversionRequest,
    result: Path,
    dataset: Dataset,
    progress: Progress,
    good: Callable[[], bool],
) -> Quantized:
    from edgeopt.optimize.rounding_run import refine, rivals_wanted
    from edgeopt.optimize.selection_run import improve
    from edgeopt.optimize.splitting_run import hold_twice

    why_not = _why_only_plain(float_path)
    if request.quality.unimproved or why_not:
        measured = _measure(float_path, request, dataset, progress, every_tensor=False)
        _run(float_path, request, result, measured, progress)
        return _only_plain(float_path, request, measured, why_not)
    given = float_path
    float_path, rewritten = _rewritten(float_path, request, result)
    seen = result.with_name("statistics")
    seen.mkdir()
    measured = _measure(float_path, request, dataset, progress, statistics=seen)

    def job(model: Path, output: Path, ranges: Mapping[str, Any]) -> dict[str, Any]:
        return _job(model, request, output, ranges)

    progress.stage(f"Quantizing to {request.scheme}")
    files = sorted(seen.iterdir())

    def drawn(most: int) -> list[Any]:
        return fitted_samples(dataset, request.samples, measured.samples, most)

    better = improve(
        float_path, request, result, measured, files, job=job, good=good, drawn=drawn,
        progress=progress, rounded=rivals_wanted(request, float_path),
    )  # fmt: skip
    if better is None:
        measured = replace(measured, kept=())
        return Quantized(model=float_path, reference=float_path, measured=measured)
    better = refine(
        better, float_path, request, result, measured, dataset, job=job, progress=progress
    )
    better = hold_twice(
        better, float_path, request, result, measured, drawn, job=job, progress=progress
    )
    found = _quantized(better, replace(measured, kept=()), rewritten)
    return found if float_path == given else replace(found, rewritten=float_path)


def _quantized(better: Improved, measured: Ranges, rewritten: dict[str, Any]) -> Quantized:
    return Quantized(
        model=better.model,
        reference=better.reference,
        measured=replace(measured, ranges=better.ranges),
        quality=better.quality | rewritten,
        notes=better.notes,
        unsplit=better.unsplit,
        held_twice=better.held_twice,
        single=better.single,
    )


def _why_only_plain(float_path: Path) -> str:
    """What stands in the way of more than minimum and maximum; "" where nothing does."""
    from edgeopt.model import read
    from edgeopt.optimize.checks import open_inputs

    facts = read(float_path)
    if len(facts.subgraphs) > 1:
        return "it has control flow"
    return "its inputs have open sides" if open_inputs(facts) else ""


def _rewritten(
    float_path: Path, request: ConversionRequest, result: Path
) -> tuple[Path, dict[str, int]]:
    """A model with the same answers that suits int8 better, and how often what was changed: pools
    over a whole map have scales of their own, logits nothing in common."""
    from edgeopt.optimize.logits import centred_logits
    from edgeopt.optimize.pooling import mean_of_pools

    said = {"pools_as_mean": 0, "logits_centred": 0}
    if request.scheme != "int8" or request.quality.equalization == "off":
        return float_path, said
    data = float_path.read_bytes()
    # The Edge TPU compiler maps a MEAN over sides that are multiples of 4 (see its profile).
    data, said["pools_as_mean"] = mean_of_pools(data, multiple=4 if request.legacy_ops else 1)
    if not request.keep:  # zeros and clusters would be gone
        data, said["logits_centred"] = centred_logits(data)
    if not any(said.values()):
        return float_path, said
    changed = result.with_name("rewritten.tflite")
    changed.write_bytes(data)
    return changed, said


def _only_plain(
    float_path: Path, request: ConversionRequest, measured: Ranges, why: str
) -> Quantized:
    """Says so where more was asked for."""
    plain = Quantized(model=float_path, reference=float_path, measured=measured)
    if request.quality.unimproved:
        return plain
    note = f"Ranges are plain minimum and maximum, nothing was equalized or corrected: {why}."
    return replace(plain, quality=plain_quality(why), notes=(note,))


def requantize(
    float_path: Path,
    request: ConversionRequest,
    result: Path,
    measured: Ranges,
    *,
    layers: Sequence[str],
    progress: Progress,
) -> None:
    """`quantize_file` with ranges that are known, and the operations whose results are `layers` as
    the request's fallback says. Raises ModelError with the quantizer's reason when it cannot."""
    _run(float_path, request, result, measured, progress, layers)


def _measure(
    float_path: Path,
    request: ConversionRequest,
    dataset: Dataset,
    progress: Progress,
    *,
    every_tensor: bool = False,
    statistics: Path | None = None,
) -> Ranges:
    return calibrate(
        float_path,
        dataset,
        limit=request.samples,
        processes=request.processes,
        progress=progress,
        every_tensor=every_tensor,
        statistics=statistics,
    )


def _run(
    float_path: Path,
    request: ConversionRequest,
    result: Path,
    measured: Ranges | None,
    progress: Progress,
    layers: Sequence[str] = (),
) -> None:
    rest = f", {len(layers)} of its layers to {request.quality.fallback}" if layers else ""
    progress.stage(f"Quantizing to {request.scheme}{rest}")
    job = _job(float_path, request, result, measured.ranges if measured else {}, layers)
    with Child(_WORKER) as child:
        try:
            child.send(job)
            child.answer()
        except ChildDied as error:
            raise ModelError(
                f"The LiteRT quantizer crashed on {float_path.name}.", details={"log": str(error)}
            ) from error


def _job(
    model: Path,
    request: ConversionRequest,
    output: Path,
    ranges: Mapping[str, Any],
    layers: Sequence[str] = (),
) -> dict[str, Any]:
    """What `quantizer_worker.quantize` takes."""
    return {
        "model": str(model),
        "output": str(output),
        "scheme": request.scheme,
        "per_channel": request.per_channel,
        "legacy_ops": request.legacy_ops,
        "ranges": dict(ranges),
        "fallback": request.quality.fallback,
        "keep": list(request.keep),
        "fallback_layers": list(layers),
    }
