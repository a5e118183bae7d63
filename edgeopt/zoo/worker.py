"""The child that holds Keras: build an architecture, load its weights when there are any, save it.

Job: `make` ("module:function" of this package), `options`, `weights` (a path or None), `seed`,
`settle` (see `_settle`), `output` (a .keras file, or a folder for a SavedModel).
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from edgeopt.child import serve
from edgeopt.errors import InputError

__all__ = ["main"]

_NOISY_SAMPLES = 2


def make(job: dict[str, Any], _arrays: list[Any]) -> dict[str, Any]:
    import keras

    keras.utils.set_random_seed(job["seed"])
    module, _, function = job["make"].partition(":")
    model = getattr(import_module(f"edgeopt.zoo.{module}"), function)(**job["options"])
    if job["weights"]:
        _load(model, Path(job["weights"]))
    elif job["settle"]:
        _settle(model, job["seed"])
    _save(model, Path(job["output"]))
    return {
        "parameters": int(model.count_params()),
        "versions": {"keras": keras.__version__},
    }


def _settle(model: Any, seed: int) -> None:
    """Give random weights the statistics that their normalizations would have learned, from one
    batch of noise: without them the signal of a deep model fades to nothing, and there are no
    ranges to calibrate."""
    import keras
    import numpy as np

    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    shape = (_NOISY_SAMPLES, *model.inputs[0].shape[1:])
    noise = np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)
    model(noise, training=True)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum


def _save(model: Any, output: Path) -> None:
    """A .keras where its layers are Keras's own; else a SavedModel, which needs no code to load."""
    if output.suffix == ".keras":
        model.save(output)
    else:
        model.export(output, verbose=False)


def _load(model: Any, weights: Path) -> None:
    """Weights of a .weights.h5 or legacy .h5, or of a whole .keras model of the same shape."""
    import keras

    try:
        if weights.suffix == ".keras":
            given = keras.models.load_model(weights, compile=False, safe_mode=True)
            model.set_weights(given.get_weights())
        else:
            model.load_weights(weights)
    except (ValueError, OSError, KeyError, TypeError) as error:
        text = " ".join(str(error).split())[:300]
        raise InputError(
            f"{weights} does not fit {model.name}: {text}",
            "Give weights of this very architecture (.weights.h5, .h5 or .keras), with the row's "
            "options (classes, alpha, ...) as they were trained.",
        ) from error


def main() -> None:
    serve(make, what="TensorFlow", package="'edgeopt[tf]'")
