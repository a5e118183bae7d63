"""The proof that a rebuilt model is the original: the same weights, the same outputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from edgeopt.errors import ModelError
from edgeopt.train.rebuilt_graph import calls, inner_model

__all__ = ["EXACT", "HALF", "compare", "copy_weights", "outputs_of", "random_inputs"]

SAMPLES = 4
_OPEN_SIDE = 64  # stands for a side of an input that the model leaves open
EXACT = 1e-5  # of the largest output: float32 sums in another order
HALF = 2e-2  # where the original computes in half precision (7 or 10 bits)

Arrays = list[Any]


def copy_weights(pairs: list[tuple[Any, Any]]) -> int:
    """Put each original layer's weights into the layer rebuilt from it; the number of arrays.

    Raises ModelError naming the layer when shapes differ or a value did not arrive bit for bit.
    """
    import numpy as np

    count = 0
    for original, rebuilt in pairs:
        if hasattr(original, "_trainable_weights"):  # tf_keras lists frozen ones in another order
            given = [variable.numpy() for variable in _variables(original)]
        else:
            given = [np.asarray(value) for value in original.get_weights()]
        variables = _variables(rebuilt)
        shapes = [tuple(variable.shape) for variable in variables]
        if [value.shape for value in given] != shapes:
            raise ModelError(
                f"The weights of the layer {original.name} ({type(original).__name__}) have other "
                f"shapes in tf_keras: {[v.shape for v in given]} and {shapes}.",
                "Replace it in the model, or deploy without --technique.",
            )
        for variable, value in zip(variables, given, strict=True):
            variable.assign(value)
            if not np.array_equal(variable.numpy(), value, equal_nan=value.dtype.kind == "f"):
                raise ModelError(f"A weight of the layer {original.name} cannot be kept exactly.",
                                 "Save the model in float32.")  # fmt: skip
        count += len(given)
    return count


def _variables(layer: Any) -> list[Any]:
    """A layer's weights in Keras 3's order: its own, then those of the layers in it, in turn."""
    own = [*layer._trainable_weights, *layer._non_trainable_weights]
    for inner in layer._flatten_layers(recursive=False, include_self=False):
        own += _variables(inner)
    seen: set[int] = set()
    return [v for v in own if not (id(v) in seen or seen.add(id(v)))]  # type: ignore[func-returns-value]


def random_inputs(model: Any, *, count: int = SAMPLES, seed: int = 0) -> Arrays:
    """`count` seeded samples for each input of a Keras 3 or tf_keras model, in its likely range:
    0 to 255 where it rescales them itself, indices where it looks them up, else -1 to 1."""
    import numpy as np

    random = np.random.default_rng(seed)
    graph = inner_model(model)
    assert graph is not None
    made: Arrays = []
    for tensor in graph.inputs:
        shape = (count, *(_OPEN_SIDE if side is None else side for side in tuple(tensor.shape)[1:]))
        dtype = np.dtype(getattr(tensor.dtype, "as_numpy_dtype", tensor.dtype))
        low, high, whole = _range(graph, tensor, dtype)
        values: Any = random.uniform(low, high, shape)
        if whole:
            values = np.floor(values)
        else:  # fainter and fainter: a saturated softmax would hide differences
            values *= (0.3 ** np.arange(count)).reshape(-1, *[1] * (len(shape) - 1))
        made.append(values.astype(dtype))
    return made


def _range(graph: Any, tensor: Any, dtype: Any) -> tuple[float, float, bool]:
    """Bounds, and whether values are whole numbers."""
    taken_by = [call.layer for call in calls(graph) if any(t is tensor for t in call.inputs)]
    bounds = [_entries(layer) for layer in taken_by]
    if dtype.kind not in "fiub":
        raise ModelError(f"An input has the type {dtype}.", "Training needs numbers.")
    if any(bounds) or dtype.kind in "iub":
        known = [b for b in bounds or [_entries(call.layer) for call in calls(graph)] if b]
        return 0, min(known, default=256 if dtype == "uint8" else 2), True
    if any(type(layer).__name__ in ("Rescaling", "Normalization") for layer in taken_by):
        return 0.0, 255.0, False
    return -1.0, 1.0, False


def _entries(layer: Any) -> int:
    """How many indices a layer can look up; 0 for one that looks none up."""
    return int(getattr(layer, "input_dim", 0) or getattr(layer, "num_tokens", 0) or 0)


def outputs_of(model: Any, inputs: Arrays, pack: Callable[[Any, Arrays], Any]) -> Arrays:
    """The outputs in inference, flat; a model of a fixed batch is run a batch at a time."""
    import numpy as np
    import tensorflow as tf

    graph = inner_model(model)
    assert graph is not None
    batch = next(iter(tuple(graph.inputs[0].shape)), None) or len(inputs[0])
    parts = []
    for start in range(0, len(inputs[0]), batch):
        rows = [
            np.resize(array[start : start + batch], (batch, *array.shape[1:])) for array in inputs
        ]
        found = model(pack(graph, [tf.constant(row) for row in rows]), training=False)
        parts.append([np.asarray(value) for value in tf.nest.flatten(found)])
    wanted = len(inputs[0])
    return [np.concatenate(column)[:wanted] for column in zip(*parts, strict=True)]


def compare(wanted: Arrays, found: Arrays, *, within: float = EXACT) -> dict[str, float]:
    """The largest difference and the largest output. Raises ModelError when one differs by more
    than `within` (a share of its largest value)."""
    import numpy as np

    worst, largest = 0.0, 0.0
    for index, (a, b) in enumerate(zip(wanted, found, strict=True)):
        if a.shape != b.shape or not np.array_equal(np.isfinite(a), np.isfinite(b)):
            raise _differs(index, f"shape {a.shape}", f"shape {b.shape}, or infinite elsewhere")
        finite = np.isfinite(a)
        a, b = a[finite].astype(np.float64), b[finite].astype(np.float64)
        difference = float(np.max(np.abs(a - b), initial=0.0))
        scale = float(np.max(np.abs(a), initial=0.0))
        if difference > within * scale or math.isnan(difference):
            raise _differs(index, f"{scale:.4g} at most", f"off by up to {difference:.3g}")
        worst, largest = max(worst, difference), max(largest, scale)
    return {"largest_difference": worst, "largest_output": largest}


def _differs(index: int, wanted: str, found: str) -> ModelError:
    return ModelError(
        f"Rebuilt in tf_keras, where training takes place, the model computes something else: "
        f"output {index} is {wanted} in the original, and {found} in the rebuilt one.",
        "Deploy it without --technique.",
    )
