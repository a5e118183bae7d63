"""Train: pruning, clustering and quantization-aware training, in a subprocess with tf_keras."""

from __future__ import annotations

from pathlib import Path

from edgeopt.dataset import Dataset
from edgeopt.progress import Progress
from edgeopt.train.trained import Trained, TrainedLayer
from edgeopt.training import TrainingRequest

__all__ = ["Trained", "TrainedLayer", "train"]


def train(
    source: Path,
    request: TrainingRequest,
    data: Dataset,
    output: Path,
    *,
    checkpoints: Path,
    progress: Progress,
) -> Trained:
    """Train the Keras model at `source` and write it to `output`, a .h5 with plain layers.

    `checkpoints` is a folder that outlives an interruption: a later call with the same arguments
    goes on from there. It is the caller's to remove once `output` is safe. Raises InputError for
    data or layers that do not fit, ModelError for a model that cannot be trained or a training
    without a usable result, ToolError without the `train` extra.
    """
    import shutil
    import tempfile

    from edgeopt.train import process

    process.need_tools()
    if not request.resume:
        shutil.rmtree(checkpoints, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".edgeopt-", dir=output.parent) as folder:
        made, notes = process.run(
            source,
            request,
            data,
            output,
            checkpoints=checkpoints,
            folder=Path(folder),
            progress=progress,
        )
    layers = tuple(
        TrainedLayer(**{**row, "techniques": tuple(row["techniques"])}) for row in made["layers"]
    )
    return Trained(
        path=output,
        layers=layers,
        history=tuple(made["history"]),
        stopped=made["stopped"],
        resumed_from=made["resumed_from"],
        held_back=made["held_back"],
        seconds=made["seconds"],
        notes=(*data.notes, *notes),
        versions=process.versions(),
    )
