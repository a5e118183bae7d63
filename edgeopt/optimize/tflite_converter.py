"""The fallback: TensorFlow's own converter, for operations that the LiteRT quantizer lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeopt.dataset import Dataset
from edgeopt.dataset.fitting import plain_name
from edgeopt.optimize.float_model import tensorflow_job
from edgeopt.optimize.recipes import ConversionRequest
from edgeopt.optimize.tf_process import run_tensorflow
from edgeopt.progress import Progress

__all__ = ["convert_with_tensorflow"]


def convert_with_tensorflow(
    source: Path,
    float_path: Path,
    request: ConversionRequest,
    folder: Path,
    *,
    dataset: Dataset | None,
    progress: Progress,
) -> dict[str, Any]:
    """Convert the original model `source` to `folder`/result.tflite; the worker's answer.

    `float_path` is its float .tflite, whose inputs `dataset` was matched to.
    """
    from edgeopt.model import detect

    progress.stage(f"Converting to {request.scheme} with TensorFlow")
    saved = folder / "fallback"
    job = tensorflow_job(
        source,
        detect(source),
        folder / "result.tflite",
        saved,
        request.batch,
        request.legacy_ops,
    )
    job.update(scheme=request.scheme, per_channel=request.per_channel)
    if request.calibrated and dataset is not None:
        job["samples"] = _store(dataset, float_path, request, folder)
    return run_tensorflow(job, source)


def _store(
    dataset: Dataset, float_path: Path, request: ConversionRequest, folder: Path
) -> dict[str, str]:
    """The calibration samples as one .npy per input (on disk, not in memory), batched."""
    import numpy as np

    from edgeopt.model import read

    inputs = read(float_path).inputs
    count = dataset.count(request.samples)
    files = [folder / f"input_{i}.npy" for i in range(len(inputs))]
    open_memmap: Any = np.lib.format.open_memmap  # typed from NumPy 2.3 on only
    maps: list[Any] = []
    for index, sample in enumerate(dataset.spread(request.samples)):
        for place, array in enumerate(sample):
            if index == 0:
                batch = (request.batch,) if inputs[place].shape else ()  # a scalar has none
                shape = (count, *batch, *array.shape)
                maps.append(open_memmap(files[place], "w+", dtype=array.dtype, shape=shape))
            maps[place][index] = array
    for stored in maps:
        stored.flush()
    return {plain_name(t.name): str(f) for t, f in zip(inputs, files, strict=True)}
