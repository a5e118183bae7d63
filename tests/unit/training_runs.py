"""Trainings of a small network in one process with legacy Keras: what came of each, as JSON.

Run by test_train_trainer.py; TensorFlow takes longer to import than all of this takes to run.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeopt.errors import EdgeoptError
from edgeopt.train.checkpoint import load_state, save_state
from edgeopt.train.trainer import Trainer
from edgeopt.training import TrainingRequest


def samples() -> tuple[np.ndarray, np.ndarray]:
    """Three classes: a bright row, a bright column, a bright corner, in noise."""
    random = np.random.default_rng(1)
    y = np.arange(300) % 3
    x = random.normal(0, 0.3, (300, 8, 8, 1)).astype(np.float32)
    x[y == 0, 2] += 1
    x[y == 1, :, 5] += 1
    x[y == 2, :3, :3] += 1
    return x, y.astype(np.int64)


def network(ending: str = "softmax", outputs: int = 3) -> Any:
    tf.keras.utils.set_random_seed(3)
    inputs = tf_keras.Input((8, 8, 1))
    z = layers.Conv2D(8, 3, padding="same", use_bias=False, name="first")(inputs)
    z = layers.ReLU()(layers.BatchNormalization()(z))
    z = layers.DepthwiseConv2D(3, padding="same", name="depth")(z)
    z = layers.Conv2D(12, 1, activation="relu", name="point")(z)
    z = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(z))
    model = tf_keras.Model(inputs, layers.Dense(outputs, activation=ending, name="last")(z))
    if ending == "softmax":
        x, y = samples()
        model.compile(tf_keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
        model.fit(x, y, batch_size=32, epochs=4, verbose=0)
    return model


def run(
    folder: Path, model: Any, *, copies: dict[int, Path] | None = None, y: Any = 0, **asked: Any
) -> Trainer:
    """Train a copy; `copies` names folders for the checkpoints of phase * 100 + epoch."""
    x, own = samples()
    copy = tf_keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    request = TrainingRequest(**{"batch_size": 32, **asked})
    tf.keras.utils.set_random_seed(request.seed)
    trainer = Trainer(copy, request, [x], own if isinstance(y, int) else y, folder)
    trainer.said = []
    for message in trainer.run():
        trainer.said.append(message)
        stored = load_state(folder) if copies else None
        reached = stored[0]["phase"] * 100 + stored[0]["epoch"] if stored else -1
        if copies and reached in copies:
            shutil.copytree(folder, copies.pop(reached))
    return trainer


def notes(trainer: Trainer) -> str:
    return " ".join(m["note"] for m in trainer.said if "note" in m)


def same(one: Trainer, other: Trainer) -> bool:
    pairs = zip(one.model.get_weights(), other.model.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def refused(folder: Path, model: Any, **asked: Any) -> dict[str, Any]:
    try:
        run(folder, model, **asked)
    except EdgeoptError as error:
        return error.to_json()
    return {}


def kernels(trainer: Trainer) -> dict[str, dict[str, float]]:
    found = {}
    for name in ("first", "depth", "point", "last"):
        kernel = trainer.model.get_layer(name).get_weights()[0]
        found[name] = {"zeros": float((kernel == 0).mean()), "values": len(np.unique(kernel))}
    return found


def spoiled(folder: Path, model: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """Go on from a checkpoint whose trained variables are NaN: every loss will be."""
    stored = load_state(folder / "nan")
    assert stored is not None
    facts, arrays = stored
    nan = {n: a * np.nan if n[0] == "v" and a.dtype == np.float32 else a for n, a in arrays.items()}
    save_state(folder / "nan", facts, nan)
    trainer = run(folder / "nan", model, **asked)
    finite = all(np.isfinite(w).all() for w in trainer.model.get_weights())
    return {**trainer.result(), "notes": notes(trainer), "finite": bool(finite)}


def outcomes(folder: Path) -> dict[str, Any]:
    tf.config.experimental.enable_op_determinism()
    model = network()
    all3 = {"techniques": ("prune", "cluster", "qat"), "epochs": 3, "clusters": 8}
    stops = {"prune": 2, "cluster": 101, "qat": 202}
    whole = run(folder / "whole", model, copies={at: folder / n for n, at in stops.items()}, **all3)
    found: dict[str, Any] = {"all": {**whole.result(), "kernels": kernels(whole)}}
    shutil.copytree(folder / "qat", folder / "nan")
    for name in stops:
        resumed = run(folder / name, model, **all3)
        found[f"resumed in {name}"] = [same(whole, resumed), resumed.resumed_from]
    found["nan"] = spoiled(folder, model, all3)
    named = {"techniques": ("prune",), "epochs": 1, "layers": ("depth", "poi*", "!first")}
    found["named"] = kernels(run(folder / "named", model, **named))
    wild = run(folder / "wild", model, techniques=("qat",), epochs=2, learning_rate=5.0)
    found["wild"] = {**wild.result(), "notes": notes(wild)}
    _, y = samples()
    for name, value in (("labels", y + 1), ("negative", y - 1)):
        found[name] = refused(folder / name, model, techniques=("qat",), epochs=1, y=value)
    turned = run(folder / "turned", model, techniques=("qat",), epochs=1, y=(y + 1) % 3)
    found["turned"] = {"notes": notes(turned), "before": turned.before.accuracy}
    found["pattern"] = refused(folder / "pattern", model, techniques=("prune",), layers=("none*",))
    logits = network("linear")
    found["unlabelled"] = run(
        folder / "unlabelled", logits, techniques=("qat",), epochs=1, y=None
    ).result()
    found["several answers"] = run(
        folder / "several", network("sigmoid", 4), techniques=("prune",), epochs=2
    ).result()
    found["few classes"] = refused(folder / "few", network("linear", 2), techniques=("qat",))
    broken = tf_keras.models.clone_model(model)
    broken.set_weights([w * np.nan for w in model.get_weights()])
    found["broken"] = refused(folder / "broken", broken, techniques=("qat",), epochs=1)
    budget = {"techniques": ("prune",), "final_sparsity": 0.1, "epochs": 6}
    kept = run(folder / "budget", model, max_accuracy_drop=0.5, **budget)
    found["budget"] = {**kept.result(), "notes": notes(kept)}
    return found


if __name__ == "__main__":
    print(json.dumps(outcomes(Path(sys.argv[1]))))
