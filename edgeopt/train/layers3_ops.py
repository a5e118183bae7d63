"""An operation of Keras 3 (keras.ops, or + on tensors) in tf_keras. For a child with both.

Where a layer does the same it is used, so that the result has plain layers, which can be trained
for quantization; else TensorFlow's function, which tf_keras keeps as a TFOpLambda layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from edgeopt.errors import ModelError
from edgeopt.train.layers3_activations import hard_sigmoid, hard_silu

__all__ = ["OPERATIONS", "tf_keras_operation"]

Tensor = Any
Claim = Callable[[str], str]
_Run = Callable[..., Any]

# Keras 3's class: TensorFlow's function of the same arguments.
_DIRECT = {
    "Abs": "abs", "Absolute": "abs", "Ceil": "math.ceil", "Cos": "cos", "Equal": "equal",
    "Erf": "math.erf", "Exp": "exp", "Expm1": "math.expm1", "Floor": "floor",
    "FloorDivide": "math.floordiv", "Greater": "greater", "GreaterEqual": "greater_equal",
    "Less": "less", "LessEqual": "less_equal", "Log": "math.log", "Log1p": "math.log1p",
    "LogSigmoid": "math.log_sigmoid", "LogicalAnd": "logical_and", "LogicalNot": "logical_not",
    "LogicalOr": "logical_or", "Matmul": "matmul", "Maximum": "maximum", "Minimum": "minimum",
    "Mod": "math.floormod", "Negative": "negative", "NotEqual": "not_equal", "Power": "pow",
    "Reciprocal": "math.reciprocal", "Round": "round", "Rsqrt": "math.rsqrt", "Sign": "sign",
    "Sin": "sin", "Sqrt": "sqrt", "Square": "square", "StopGradient": "stop_gradient",
    "ZerosLike": "zeros_like", "OnesLike": "ones_like", "Where": "where", "Copy": "identity",
}  # fmt: skip
_REDUCTIONS = {
    "Sum": "reduce_sum", "Max": "reduce_max", "Amax": "reduce_max", "Min": "reduce_min",
    "Amin": "reduce_min", "Prod": "reduce_prod", "Var": "math.reduce_variance",
    "Std": "math.reduce_std", "Logsumexp": "reduce_logsumexp",
}  # fmt: skip
_ACTIVATIONS = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Softplus": "softplus", "Silu": "swish",
                "Softsign": "softsign", "Selu": "selu"}  # fmt: skip


def tf_keras_operation(op: Any, claim: Claim) -> _Run:
    """What to call with the operation's arguments; `claim` names the layers that it needs.

    Raises ModelError naming the operation for one that is not known here.
    """
    kind, module = type(op).__name__, type(op).__module__
    if module.startswith("keras.src.ops."):
        if kind in _DIRECT:
            return _function(_DIRECT[kind])
        if kind in _REDUCTIONS and not getattr(op, "initial", None):
            reduce = _function(_REDUCTIONS[kind])
            return lambda x: reduce(x, axis=_axes(op.axis), keepdims=op.keepdims)
        if kind in _ACTIVATIONS:
            return _activation(_ACTIVATIONS[kind], claim)
        if kind in _OWN:
            return _OWN[kind](op, claim)
    raise ModelError(
        f"The operation {op.name} ({kind}) cannot be rebuilt in tf_keras, where training takes "
        "place: its counterpart is not known.",
        "Use a layer or another operation for it in the model, or deploy without --technique.",
        details={"layer": op.name, "class": kind},
    )


def _function(path: str) -> _Run:
    import tensorflow as tf

    found: Any = tf
    for part in path.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def _layers() -> Any:
    import tf_keras

    return tf_keras.layers


def _activation(name: str, claim: Claim) -> _Run:
    run: _Run = _layers().Activation(name, name=claim(name))
    return run


def _is_tensor(value: Any) -> bool:
    import tf_keras

    return hasattr(value, "shape") and bool(tf_keras.backend.is_keras_tensor(value))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _axes(axis: Any) -> Any:
    return list(axis) if isinstance(axis, list | tuple) else axis


def _arithmetic(layer: str, function: str, rescaled: Callable[..., tuple[float, float] | None]) -> (
    Callable[[Any, Claim], _Run]
):  # fmt: skip
    """Two tensors of one shape: the layer. A tensor and a number: Rescaling. Else the function."""

    def make(_op: Any, claim: Claim) -> _Run:
        def call(a: Any, b: Any) -> Any:
            if layer and _alike(a, b):
                return getattr(_layers(), layer)(name=claim(layer.lower()))([a, b])
            scaled = _scaled(a, b, rescaled)
            if scaled is not None:
                x = a if _is_tensor(a) else b
                return _layers().Rescaling(*scaled, name=claim("rescaling"))(x)
            return _function(function)(a, b)

        return call

    return make


def _alike(a: Any, b: Any) -> bool:
    if not (_is_tensor(a) and _is_tensor(b)):
        return False
    return len(a.shape) > 1 and a.shape[1:] == b.shape[1:] and bool(a.dtype == b.dtype)


def _scaled(a: Any, b: Any, rescaled: _Run) -> tuple[float, float] | None:
    """Scale and offset when one of both is a number and the other a tensor of floats."""
    tensor = a if _is_tensor(a) else b
    if not _is_tensor(tensor) or not tensor.dtype.is_floating:
        return None
    found: tuple[float, float] | None = rescaled(_number(a), _number(b))
    return found


def _added(a: float | None, b: float | None) -> tuple[float, float] | None:
    number = a if b is None else b
    return None if number is None else (1.0, number)


def _subtracted(a: float | None, b: float | None) -> tuple[float, float] | None:
    if b is not None:
        return 1.0, -b
    return None if a is None else (-1.0, a)


def _multiplied(a: float | None, b: float | None) -> tuple[float, float] | None:
    number = a if b is None else b
    return None if number is None else (number, 0.0)


def _divided(_a: float | None, b: float | None) -> tuple[float, float] | None:
    return None if not b else (1.0 / b, 0.0)


def _mean(op: Any, claim: Claim) -> _Run:
    def call(x: Tensor) -> Any:
        axes = sorted(_whole(op.axis, len(x.shape)))
        inner = list(range(1, len(x.shape) - 1))
        pools = {1: "GlobalAveragePooling1D", 2: "GlobalAveragePooling2D"}
        if axes == inner and len(inner) in pools:
            layer = getattr(_layers(), pools[len(inner)])
            return layer(keepdims=bool(op.keepdims), name=claim("mean"))(x)
        return _function("reduce_mean")(x, axis=_axes(op.axis), keepdims=op.keepdims)

    return call


def _whole(axis: Any, rank: int) -> list[int]:
    if axis is None:
        return list(range(rank))
    listed = axis if isinstance(axis, list | tuple) else [axis]
    return [a % rank for a in listed]


def _reshape(op: Any, claim: Claim) -> _Run:
    def call(x: Tensor) -> Any:
        shape, sides = list(op.newshape), list(x.shape)[1:]
        shape = [-1 if side is None else side for side in shape]
        size = None if None in sides else math.prod(sides)
        if shape[0] == -1 and -1 not in shape[1:] and size == math.prod(shape[1:]):
            return _layers().Reshape(shape[1:], name=claim("reshape"))(x)
        return _function("reshape")(x, shape)

    return call


def _transpose(op: Any, claim: Claim) -> _Run:
    def call(x: Tensor) -> Any:
        rank = len(x.shape)
        if type(op).__name__ == "Transpose":
            order = list(op.axes) if op.axes is not None else list(range(rank))[::-1]
        else:
            order = _moved(op, rank)
        order = [axis % rank for axis in order]
        if order[0] == 0 and rank > 1:
            return _layers().Permute(order[1:], name=claim("permute"))(x)
        return _function("transpose")(x, order)

    return call


def _moved(op: Any, rank: int) -> list[int]:
    """The order of axes that Swapaxes or Moveaxis leaves."""
    order = list(range(rank))
    if type(op).__name__ == "Swapaxes":
        a, b = op.axis1 % rank, op.axis2 % rank
        order[a], order[b] = order[b], order[a]
        return order
    pairs = zip(_whole(op.destination, rank), _whole(op.source, rank), strict=True)
    placed = dict(pairs)
    rest = iter([axis for axis in order if axis not in placed.values()])
    return [placed[at] if at in placed else next(rest) for at in order]


def _split(op: Any, _claim: Claim) -> _Run:
    def call(x: Tensor) -> Any:
        parts = op.indices_or_sections
        if not isinstance(parts, int):
            edges = [0, *(int(edge) for edge in parts), int(x.shape[op.axis])]
            parts = [high - low for low, high in pairwise(edges)]
        return _function("split")(x, parts, axis=op.axis)

    return call


def _pad(op: Any, claim: Claim) -> _Run:
    def call(x: Tensor, constant_values: Any = None) -> Any:
        sides = [list(pair) for pair in op.pad_width]
        if len(sides) == 1:
            sides = sides * len(x.shape)
        plain = op.mode == "constant" and not constant_values
        if plain and len(sides) == 4 and sides[0] == sides[3] == [0, 0]:
            return _layers().ZeroPadding2D(sides[1:3], name=claim("pad"))(x)
        return _function("pad")(
            x, sides, mode=op.mode.upper(), constant_values=constant_values or 0
        )

    return call


def _concatenate(op: Any, claim: Claim) -> _Run:
    def call(xs: Any) -> Any:
        if all(_is_tensor(x) for x in xs) and op.axis != 0:
            return _layers().Concatenate(axis=op.axis, name=claim("concatenate"))(list(xs))
        return _function("concat")(list(xs), axis=op.axis)

    return call


def _normalize(op: Any, _claim: Claim) -> _Run:
    if op.order != 2:
        raise ModelError(f"The operation {op.name} (Normalize) has order {op.order}, which cannot "
                         "be rebuilt in tf_keras.", "Use order 2.")  # fmt: skip
    # keras.ops.normalize divides by max(norm, epsilon), l2_normalize by sqrt(max(norm^2, epsilon))
    epsilon = 1e-7 if op.epsilon is None else op.epsilon
    return lambda x: _function("math.l2_normalize")(x, axis=_axes(op.axis), epsilon=epsilon**2)


def _resize(op: Any, _claim: Claim) -> _Run:
    def call(x: Tensor) -> Any:
        resized = _function("image.resize")
        return resized(x, list(op.size), method=op.interpolation, antialias=op.antialias)

    return call


def _softmax(op: Any, claim: Claim) -> _Run:
    layer: _Run = _layers().Softmax(axis=op.axis, name=claim("softmax"))
    return layer


def _relu(limit: float | None) -> Callable[[Any, Claim], _Run]:
    def make(_op: Any, claim: Claim) -> _Run:
        layer: _Run = _layers().ReLU(limit, name=claim("relu"))
        return layer

    return make


def _one_hot(op: Any, _claim: Claim) -> _Run:
    dtype = getattr(op, "dtype", None) or "float32"
    return lambda x: _function("one_hot")(x, op.num_classes, axis=op.axis, dtype=dtype)


def _take(op: Any, _claim: Claim) -> _Run:
    return lambda x, indices: _function("gather")(x, indices, axis=op.axis)


# The operation's own fields are arguments; what it is called with are the tensors.
_OWN: dict[str, Callable[[Any, Claim], _Run]] = {
    "Add": _arithmetic("Add", "add", _added),
    "Subtract": _arithmetic("Subtract", "subtract", _subtracted),
    "Multiply": _arithmetic("Multiply", "multiply", _multiplied),
    "Divide": _arithmetic("", "divide", _divided),
    "TrueDivide": _arithmetic("", "divide", _divided),
    "Mean": _mean,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Swapaxes": _transpose,
    "Moveaxis": _transpose,
    "Split": _split,
    "Pad": _pad,
    "Concatenate": _concatenate,
    "Normalize": _normalize,
    "Resize": _resize,
    "Softmax": _softmax,
    "Relu": _relu(None),
    "Relu6": _relu(6.0),
    "OneHot": _one_hot,
    "Take": _take,
    "HardSigmoid": lambda _op, claim: hard_sigmoid(claim),
    "HardSilu": lambda _op, claim: hard_silu(claim),
    "LeakyRelu": lambda op, claim: _layers().LeakyReLU(op.negative_slope, name=claim("leaky_relu")),
    "Elu": lambda op, claim: _layers().ELU(op.alpha, name=claim("elu")),
    "Gelu": lambda op, _c: lambda x: _function("nn.gelu")(x, approximate=op.approximate),
    "LogSoftmax": lambda op, _c: lambda x: _function("nn.log_softmax")(x, axis=op.axis),
    "Stack": lambda op, _c: lambda x: _function("stack")(list(x), axis=op.axis),
    "Unstack": lambda op, _c: lambda x: _function("unstack")(x, num=op.num, axis=op.axis),
    "ExpandDims": lambda op, _c: lambda x: _function("expand_dims")(x, axis=op.axis),
    "Squeeze": lambda op, _c: lambda x: _function("squeeze")(x, axis=op.axis),
    "GetItem": lambda op, _c: lambda x, key: x[key],
    "Flip": lambda op, _c: lambda x: _function("reverse")(x, _whole(op.axis, len(x.shape))),
    "Tile": lambda op, _c: lambda x: _function("tile")(x, _axes(op.repeats)),
    "Repeat": lambda op, _c: lambda x: _function("repeat")(x, op.repeats, axis=op.axis),
    "Roll": lambda op, _c: lambda x: _function("roll")(x, op.shift, axis=op.axis),
    "Cast": lambda op, _c: lambda x: _function("cast")(x, op.dtype),
    "Clip": lambda op, _c: lambda x: _function("clip_by_value")(x, op.x_min, op.x_max),
    "BroadcastTo": lambda op, _c: lambda x: _function("broadcast_to")(x, _axes(op.shape)),
    "Argmax": lambda op, _c: lambda x: _function("argmax")(x, axis=op.axis, output_type="int32"),
    "DepthToSpace": lambda op, _c: lambda x: _function("nn.depth_to_space")(x, op.block_size),
    "SpaceToDepth": lambda op, _c: lambda x: _function("nn.space_to_depth")(x, op.block_size),
}
OPERATIONS = frozenset({*_DIRECT, *_REDUCTIONS, *_ACTIVATIONS, *_OWN})
