"""The child that trains: a job in, progress on the way, a plain .h5 and its history out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeopt.child import serve

__all__ = ["main"]


def train(job: dict[str, Any], _arrays: list[Any]) -> Iterator[dict[str, Any]]:
    """Do `job` (see edgeopt.train.process): answers of "stage", "done" or "note", then "made"."""
    import numpy as np
    import tensorflow as tf

    from edgeopt.train.rebuild import load_for_training
    from edgeopt.train.trainer import Trainer
    from edgeopt.training import TrainingRequest

    tf.config.experimental.enable_op_determinism()
    folder = Path(job["data"])
    inputs = [np.load(folder / name, mmap_mode="r") for name in job["inputs"]]
    labels = np.load(folder / "labels.npy") if job["labels"] else None
    values: dict[str, Any] = job["request"]
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    request = TrainingRequest(**{**values, **lists})
    tf.keras.utils.set_random_seed(request.seed)
    rebuilt = load_for_training(Path(job["source"]))
    for note in rebuilt.notes:
        yield {"note": note}
    trainer = Trainer(rebuilt.model, request, inputs, labels, Path(job["checkpoints"]))
    yield from trainer.run()
    trainer.model.save(job["output"], save_format="h5", include_optimizer=False)
    yield {"made": trainer.result()}


def main() -> None:
    serve(train, what="TensorFlow Model Optimization", package="'edgeopt[train]'")
