"""Feed: turn data set samples into the arrays that a model's inputs take, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError
from edgeopt.facts import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

__all__ = ["feed", "real_inputs", "real_values", "seeded_inputs", "typed"]


def feed(sample: Sequence[Array], inputs: Sequence[Tensor]) -> tuple[Array, ...]:
    """One sample (an array per input, no batch axis) as the arrays the interpreter wants.

    A sample that already has the input's type is passed as it is; real values are quantized with
    q = round(x / scale) + zero_point, clipped to the type (TensorFlow Lite's affine scheme). The
    sample is repeated along a static batch above 1. Raises InputError when shapes do not fit.
    """
    if len(sample) != len(inputs):
        raise InputError(
            f"The data has {len(sample)} arrays a sample, the model {len(inputs)} inputs."
        )
    return tuple(_feed_one(array, tensor) for array, tensor in zip(sample, inputs, strict=True))


def _feed_one(array: Array, tensor: Tensor) -> Array:
    import numpy as np

    shape = tensor.shape or ()
    value = typed(np.asarray(array), tensor)
    if value.ndim == len(shape) - 1:
        value = value[np.newaxis]
        value = value if shape[0] <= 1 else np.repeat(value, shape[0], axis=0)
    fits = value.ndim == len(shape) and all(
        want in (-1, have) for want, have in zip(shape, value.shape, strict=True)
    )
    if not fits:
        raise InputError(
            f"A sample of shape {tuple(np.shape(array))} does not fit the input {tensor.name} "
            f"of shape {tuple(shape)}.",
            "Check --preprocess (resize=...) and the arrays that were named.",
        )
    return np.asarray(value, order="C")  # ascontiguousarray would make a scalar an array of one


def typed(value: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """Values of any shape in the input's type, each by itself: quantized where it is quantized and
    they are not yet."""
    import numpy as np

    quantization = tensor.quantization
    if value.dtype != np.dtype(tensor.dtype) and quantization and quantization.scales:
        kind = np.iinfo(tensor.dtype)
        steps = np.rint(value.astype(np.float64) / quantization.scales[0])
        steps += quantization.zero_points[0]
        value = np.clip(steps, kind.min, kind.max)
    return value.astype(tensor.dtype, copy=False)


def real_inputs(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The inputs as they were before quantization: what real values are matched with, so that a
    stored byte is a value still, not a quantized one. `feed` quantizes it afterwards."""
    return tuple(
        replace(t, dtype="float32", quantization=None)
        if t.quantization and t.quantization.scales and t.dtype in ("int8", "uint8", "int16")
        else t
        for t in inputs
    )


def seeded_inputs(
    inputs: Sequence[Tensor], count: int, seed: int = 0
) -> tuple[tuple[Array, ...], ...]:
    """`count` reproducible random samples: floats in [0, 1), quantized types over their whole
    range, other integers zero (they may be indices)."""
    import numpy as np

    generator = np.random.default_rng(seed)

    def one(tensor: Tensor) -> Array:
        shape = tuple(max(d, 1) for d in tensor.shape or ())
        kind = np.dtype(tensor.dtype)
        if kind.kind == "f":
            return generator.random(shape).astype(kind)
        if tensor.quantization and kind.kind in "iu":
            limits = np.iinfo(kind)
            return generator.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
        return np.zeros(shape, kind)

    return tuple(tuple(one(t) for t in inputs) for _ in range(count))


def real_values(
    arrays: Iterable[Array], outputs: Sequence[Tensor]
) -> tuple[NDArray[np.float64], ...]:
    """Outputs in real units: scale * (q - zero_point) for quantized ones, floats as they are."""
    import numpy as np

    values: list[NDArray[np.float64]] = []
    for array, tensor in zip(arrays, outputs, strict=True):
        quantization = tensor.quantization
        if quantization and quantization.scales and array.dtype.kind in "iu":
            steps = array.astype(np.float64) - quantization.zero_points[0]
            values.append(steps * quantization.scales[0])
        else:
            values.append(array.astype(np.float64))
    return tuple(values)
