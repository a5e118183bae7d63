"""Train before converting: the trained model takes the source's place in what follows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeopt.artifact import Artifact
from edgeopt.dataset import load_dataset
from edgeopt.errors import InputError
from edgeopt.pipeline.converting import safe_stem, say_cached, versions
from edgeopt.pipeline.session import Session
from edgeopt.store import Store
from edgeopt.train import train as train_model
from edgeopt.train.checkpoint import forget_abandoned, has_state

__all__ = ["train"]


def train(session: Session) -> None:
    """Add the trained model; the float model of the source stays the baseline of accuracy."""
    request, source = session.job.training, session.report.artifacts[0]
    if session.facts.format == "tflite":
        raise InputError(
            f"{source.path.name} is a .tflite, which cannot be trained any more.",
            "Give the Keras model (.keras, .h5 or SavedModel) that it was made from.",
        )
    assert session.job.train_data is not None
    data = load_dataset(session.job.train_data, preprocess=session.job.preprocess)
    data = data.in_order_of(t.name for t in session.facts.inputs).match(session.facts.inputs)
    key = Store.key(
        stage="trained",
        source=source.sha256,
        request=request.to_json(),
        data=data.digest(),
        versions=versions("tensorflow", "tf-keras", "tensorflow-model-optimization"),
    )
    checkpoints = session.store.root.parent / "checkpoints" / key
    forget_abandoned(checkpoints.parent)

    def make(path: Path) -> Mapping[str, Any]:
        made = train_model(
            source.path,
            request,
            data,
            path,
            checkpoints=checkpoints,
            progress=session.progress,
        )
        return {"notes": list(made.notes), **made.to_json()}

    try:
        entry = session.store.build(key, f"{safe_stem(session)}_trained.h5", make)
    except KeyboardInterrupt:
        if has_state(checkpoints):
            how = "" if request.resume else " without --fresh"
            session.progress.note(
                f"The training is kept up to its last whole epoch: the same command{how} goes on."
            )
        raise
    shutil.rmtree(checkpoints, ignore_errors=True)  # only now: the result is safe
    say_cached(session, entry, "Trained model")
    for note in entry.meta["notes"]:
        session.note(note)
    about = {k: v for k, v in entry.meta.items() if k != "notes"}
    session.add(
        artifacts=(*session.report.artifacts, Artifact.of(entry.path, "trained", source)),
        training={**request.to_json(), **about, "cached": not entry.fresh},
    )
