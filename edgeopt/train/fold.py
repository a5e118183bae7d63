"""Batch normalization folded into the layer before it: the weights that ship. For a child with
tf_keras.

Converters fold them anyway; masks and centroids that are put on the weights before that are lost in
it, so pruning and clustering want them folded first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeopt.train.rebuilt_check import compare, outputs_of, random_inputs
from edgeopt.train.rebuilt_graph import Names, calls, inputs_like, replay

__all__ = ["fold_batch_norm"]

# The axis of a kernel that runs over the output's channels; two when they are its product.
_CHANNELS = {"Conv1D": (2,), "Conv2D": (3,), "Conv3D": (4,), "Dense": (1,),
             "DepthwiseConv1D": (1, 2), "DepthwiseConv2D": (2, 3),
             "SeparableConv1D": (2,), "SeparableConv2D": (3,),
             "Conv1DTranspose": (1,), "Conv2DTranspose": (2,), "Conv3DTranspose": (3,)}  # fmt: skip
_TOLERANCE = 1e-4  # of the largest output: products are rounded elsewhere in every layer


@dataclass(frozen=True)
class _Pair:
    layer: Any
    norm: Any


def fold_batch_norm(model: Any) -> Any:
    """A copy of the flat tf_keras model `model` without the batch normalizations that follow a
    linear convolution or dense layer which nothing else reads; other layers keep their weights.
    A layer that is called several times keeps its normalization.

    With s = gamma / sqrt(variance + epsilon): kernel * s, bias = beta + (bias - mean) * s (Jacob et
    al., arXiv:1712.05877, 3.2). Raises ModelError when the outputs differ beyond rounding.
    """
    import tf_keras

    pairs = {id(pair.layer): pair for pair in _pairs(model)}
    norms = {id(pair.norm) for pair in pairs.values()}
    if not pairs:
        return model
    made: dict[int, Any] = {}

    def make(layer: Any, _frozen: bool) -> Callable[..., Any]:
        if id(layer) in norms:
            return lambda x, **_: x
        if id(layer) not in made:
            config = layer.get_config()
            if id(layer) in pairs:
                config |= {"use_bias": True, **_unbound(config)}
            made[id(layer)] = type(layer).from_config(config)
        return made[id(layer)]  # type: ignore[no-any-return]

    inputs = inputs_like(model, Names())
    outputs = replay(model, inputs, make)
    folded = tf_keras.Model(_one_or_all(inputs), _one_or_all(outputs), name=model.name)
    for layer in model.layers:
        if id(layer) in made:
            weights = layer.get_weights()
            pair = pairs.get(id(layer))
            made[id(layer)].set_weights(_folded(pair, weights) if pair else weights)
    _prove(model, folded)
    return folded


def _unbound(config: dict[str, Any]) -> dict[str, None]:
    """Penalties and limits were set for a kernel whose scale the normalization undid."""
    kinds = ("kernel", "bias", "depthwise", "pointwise")
    ends = ("_regularizer", "_constraint")
    return {key: None for key in config if key.startswith(kinds) and key.endswith(ends)}


def _one_or_all(tensors: list[Any]) -> Any:
    return tensors if len(tensors) > 1 else tensors[0]


def _pairs(model: Any) -> list[_Pair]:
    listed = list(calls(model))
    uses = Counter(id(call.layer) for call in listed)
    readers: dict[int, list[Any]] = {id(tensor): [None] for tensor in model.outputs}
    for call in listed:
        for tensor in call.inputs:
            readers.setdefault(id(tensor), []).append(call.layer)
    found = []
    for call in listed:
        if not _is_linear(call.layer) or uses[id(call.layer)] > 1 or len(call.outputs) > 1:
            continue
        norm, *others = readers.get(id(call.outputs[0]), [None])
        if others or norm is None or uses[id(norm)] > 1:
            continue
        if _is_norm(norm, len(call.outputs[0].shape)):
            found.append(_Pair(call.layer, norm))
    return found


def _is_linear(layer: Any) -> bool:
    if type(layer).__name__ not in _CHANNELS or type(layer).__module__.split(".")[0] != "tf_keras":
        return False
    if getattr(layer.activation, "__name__", "") != "linear":
        return False
    return getattr(layer, "data_format", "channels_last") == "channels_last"


def _is_norm(layer: Any, rank: int) -> bool:
    if type(layer).__name__ != "BatchNormalization":
        return False
    axis = layer.axis if isinstance(layer.axis, int) else list(layer.axis)[-1]
    several = not isinstance(layer.axis, int) and len(layer.axis) > 1
    return not several and axis % rank == rank - 1


def _folded(pair: _Pair, weights: list[Any]) -> list[Any]:
    """The kernels and the bias, computed in float64 and rounded once."""
    import numpy as np

    scale, shift = _scale_and_shift(pair.norm)
    bias = np.asarray(weights.pop(), np.float64) if pair.layer.use_bias else 0.0
    *before, kernel = weights
    axes = _CHANNELS[type(pair.layer).__name__]
    sides = [kernel.shape[axis] if axis in axes else 1 for axis in range(kernel.ndim)]
    scaled = kernel.astype(np.float64) * scale.reshape(sides)
    values = [*before, scaled, bias * scale + shift]
    return [np.asarray(value, kernel.dtype) for value in values]


def _scale_and_shift(norm: Any) -> tuple[Any, Any]:
    """s and beta - mean * s of a batch normalization in inference, float64, one for a channel."""
    import numpy as np

    def value(variable: Any, default: float) -> Any:
        return default if variable is None else variable.numpy().astype(np.float64)

    mean, variance = value(norm.moving_mean, 0.0), value(norm.moving_variance, 1.0)
    scale = value(norm.gamma, 1.0) / np.sqrt(variance + norm.epsilon)
    return scale, value(norm.beta, 0.0) - mean * scale


def _prove(model: Any, folded: Any) -> None:
    def pack(_graph: Any, rows: list[Any]) -> Any:
        return _one_or_all(rows)

    inputs = random_inputs(model)
    compare(outputs_of(model, inputs, pack), outputs_of(folded, inputs, pack), within=_TOLERANCE)
