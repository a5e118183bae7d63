"""Train: pruning, clustering and quantization-aware training, in a subprocess with tf_keras."""

from __future__ import annotations

from pathlib import Path

from edgeopt.dataset import Dataset
from edgeopt.errors import InputError
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
    goes on from there.
    """
    raise InputError("--technique is not available in this version.")
