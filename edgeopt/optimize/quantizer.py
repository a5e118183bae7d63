"""The LiteRT quantizer (no TensorFlow): recipe, calibrated ranges in, a quantized file out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeopt.child import Child, ChildDied
from edgeopt.dataset import Dataset
from edgeopt.errors import ModelError
from edgeopt.optimize.calibration import Ranges, calibrate
from edgeopt.optimize.recipes import ConversionRequest
from edgeopt.progress import Progress

__all__ = ["quantize_file", "requantize"]

_WORKER = "edgeopt.optimize.quantizer_worker"


def quantize_file(
    float_path: Path,
    request: ConversionRequest,
    result: Path,
    *,
    dataset: Dataset | None,
    progress: Progress,
) -> Ranges | None:
    """Write `float_path` in the request's scheme to `result`; the ranges that were measured.

    Raises ModelError with the quantizer's reason when it cannot.
    """
    if dataset is None or not request.calibrated:
        _run(float_path, request, result, None, progress)
        return None
    measured = _measure(float_path, request, dataset, progress, every_tensor=False)
    try:
        _run(float_path, request, result, measured, progress)
    except ModelError as error:
        if "QSV" not in error.message and "min/max" not in error.message:
            raise
        # The profiler sees no tensors inside control flow: watch every tensor instead.
        measured = _measure(float_path, request, dataset, progress, every_tensor=True)
        _run(float_path, request, result, measured, progress)
    return measured


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
    every_tensor: bool,
) -> Ranges:
    return calibrate(
        float_path,
        dataset,
        limit=request.samples,
        processes=request.processes,
        progress=progress,
        every_tensor=every_tensor,
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
    job = {
        "model": str(float_path),
        "output": str(result),
        "scheme": request.scheme,
        "per_channel": request.per_channel,
        "legacy_ops": request.legacy_ops,
        "ranges": dict(measured.ranges) if measured else {},
        "fallback": request.quality.fallback,
        "keep": list(request.keep),
        "fallback_layers": list(layers),
    }
    with Child(_WORKER) as child:
        try:
            child.send(job)
            child.answer()
        except ChildDied as error:
            raise ModelError(
                f"The LiteRT quantizer crashed on {float_path.name}.", details={"log": str(error)}
            ) from error
