"""The parent's side of training: samples to disk, a child that trains, its words passed on."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.child import Child, ChildDied
from edgeopt.dataset import Dataset
from edgeopt.errors import InputError, ToolError
from edgeopt.progress import Progress
from edgeopt.training import TrainingRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["need_tools", "run", "versions"]

_WORKER = "edgeopt.train.worker"
_TOOLS = ("tensorflow", "tf_keras", "tensorflow_model_optimization")


def need_tools() -> None:
    """Raises ToolError when a library of the `train` extra is missing."""
    missing = [name for name in _TOOLS if importlib.util.find_spec(name) is None]
    if missing:
        raise ToolError(
            f"Training needs {', '.join(missing)}, which is not installed.",
            "pip install 'edgeopt[train]'",
        )


def versions() -> dict[str, str]:
    """The versions of what training is done with."""
    names = ("tensorflow", "tf-keras", "tensorflow-model-optimization")
    return {name: metadata.version(name) for name in names}


def run(
    source: Path,
    request: TrainingRequest,
    data: Dataset,
    output: Path,
    *,
    checkpoints: Path,
    folder: Path,
    progress: Progress,
) -> tuple[dict[str, Any], list[str]]:
    """Train in a child: what came of it and the notes. `folder` holds the samples meanwhile.

    Raises InputError for samples or labels that cannot be trained on, ModelError when training
    gives nothing usable, ToolError when the child dies.
    """
    names, labelled = _store(data, folder, progress)
    job = {
        "source": str(source.resolve()),
        "output": str(output.resolve()),
        "data": str(folder.resolve()),
        "inputs": names,
        "labels": labelled,
        "request": {**request.to_json(), "resume": request.resume},
        "checkpoints": str(checkpoints.resolve()),
    }
    progress.stage("Starting TensorFlow Model Optimization")
    with Child(_WORKER, variables={"TF_USE_LEGACY_KERAS": "1"}) as child:
        try:
            child.send(job)
            return _listen(child, progress)
        except ChildDied as error:
            raise _died(str(error), source) from error


def _listen(child: Child, progress: Progress) -> tuple[dict[str, Any], list[str]]:
    notes: list[str] = []
    while True:
        said: Mapping[str, Any] = child.answer()
        if "stage" in said:
            progress.stage(said["stage"], said["total"], said["unit"])
        elif "done" in said:
            progress.advance(said["done"], said["total"])
        elif "note" in said:
            notes.append(said["note"])
        else:
            return said["made"], notes


def _died(log: str, source: Path) -> ToolError:
    ended = log.splitlines()[0] if log else "no reason given"
    memory = "Free some memory, or lower --batch-size." if "SIGKILL" in ended else ""
    return ToolError(
        f"The training of {source.name} died ({ended}); it goes on from its last epoch when it is "
        "run again.",
        memory,
        details={"ended": ended, "log": log},
    )


def _store(data: Dataset, folder: Path, progress: Progress) -> tuple[list[str], bool]:
    """Write the samples as arrays that the child can map. Raises InputError when they differ in
    shape, do not fit the disk or lack labels."""
    import numpy as np
    from numpy.lib.format import open_memmap

    first = next(iter(data.samples(1)))
    count = data.count(2**62)
    need, free = sum(a.nbytes for a in first) * count, shutil.disk_usage(folder).free
    if need > 0.9 * free:
        raise InputError(
            f"{count} training samples take {need >> 20} MB on the disk; {free >> 20} MB are free.",
            "Free some space, set EDGEOPT_CACHE to another disk, or give fewer samples.",
        )
    names = [f"input{index}.npy" for index in range(len(first))]
    stored: list[NDArray[Any]] = [
        open_memmap(folder / name, mode="w+", dtype=array.dtype, shape=(count, *array.shape))
        for name, array in zip(names, first, strict=True)
    ]
    progress.stage("Preparing training samples", count, "samples")
    for index, sample in enumerate(data.samples()):
        for array, value in zip(stored, sample, strict=True):
            if value.shape != array.shape[1:]:
                raise InputError(
                    f"Sample {index} of {data.spec} has shape {value.shape}, the first "
                    f"{array.shape[1:]}: training needs one shape.",
                    "Add --preprocess resize=SIZE, or store them in one shape.",
                )
            array[index] = value
        if index % 500 == 0:
            progress.advance(index, count)
    labels = data.labels
    if labels is not None:
        np.save(folder / "labels.npy", labels.astype(np.int64))
    return names, labels is not None
