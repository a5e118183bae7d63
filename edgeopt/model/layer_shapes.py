"""The shape a Keras layer gives, worked out from its configuration; None where that is not easy.

Shapes have the batch first and -1 for an open dimension. Source: the compute_output_shape
methods of Keras, which agree between Keras 2 and 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

__all__ = ["Shape", "output_shape"]

Shape = tuple[int, ...]
Config = Mapping[str, Any]

_SAME_SHAPE = frozenset(
    """Activation ReLU LeakyReLU PReLU ELU Softmax ThresholdedReLU BatchNormalization
    LayerNormalization GroupNormalization UnitNormalization Rescaling Normalization
    Relu Relu6 Sigmoid Tanh Exp""".split()  # noqa: SIM905  one word a line is no clearer
)
_ELEMENTWISE = frozenset(
    ["Add", "Average", "Subtract", "Multiply", "Maximum", "Minimum", "Divide", "TrueDivide"]
)
# tf.* calls in a functional model (TFOpLambda): one source, or two that are broadcast.
_FUNCTIONS = (
    *("__operators__.add", "math.add", "math.subtract", "math.multiply", "math.truediv"),
    *("nn.relu", "nn.relu6", "nn.softmax", "math.sigmoid", "math.tanh"),
)


def output_shape(kind: str, config: Config, shapes: Sequence[Shape | None]) -> Shape | None:
    """The shape of the first output of a layer of class `kind`."""
    known = [shape for shape in shapes if shape is not None]
    if not known or len(known) != len(shapes):
        return None
    if kind in _SAME_SHAPE:
        return known[0]
    if kind in _ELEMENTWISE or config.get("function") in _FUNCTIONS:
        return _broadcast(known)
    if kind == "Concatenate":
        return _concatenate(known, int(config.get("axis", -1)))
    if config.get("data_format") == "channels_first":
        return None
    shape = known[0]
    for suffix, function in _BY_NAME:
        if kind.endswith(suffix):
            return function(kind, config, shape)
    return None


def _broadcast(shapes: Sequence[Shape]) -> Shape | None:
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(-1 if -1 in sizes else max(sizes) for sizes in zip(*padded, strict=True))


def _concatenate(shapes: Sequence[Shape], axis: int) -> Shape | None:
    rank = len(shapes[0])
    if any(len(shape) != rank for shape in shapes) or not -rank <= axis < rank:
        return None
    axis %= rank
    along = [shape[axis] for shape in shapes]
    total = -1 if -1 in along else sum(along)
    return (*shapes[0][:axis], total, *shapes[0][axis + 1 :])


def _per_axis(value: Any, count: int, default: int = 1) -> list[int]:
    if value is None:
        return [default] * count
    values = list(value) if isinstance(value, Sequence) else [value] * count
    return [int(v) for v in values[:count]]


def _windows(config: Config, sizes: Shape, kernel: Any) -> list[int]:
    """Each spatial size after a sliding window."""
    count = len(sizes)
    kernels = _per_axis(kernel, count)
    strides = _per_axis(config.get("strides", kernel if "pool_size" in config else 1), count)
    dilations = _per_axis(config.get("dilation_rate"), count)
    found = []
    for size, k, stride, dilation in zip(sizes, kernels, strides, dilations, strict=True):
        if size >= 0 and config.get("padding") == "valid":
            size = max(0, size - dilation * (k - 1))
        found.append(size if size < 0 else -(-size // stride))
    return found


def _convolution(kind: str, config: Config, shape: Shape) -> Shape | None:
    spatial = _windows(config, shape[1:-1], config["kernel_size"])
    if kind.startswith("Depthwise"):
        channels = shape[-1] * int(config.get("depth_multiplier", 1)) if shape[-1] > 0 else -1
    else:
        channels = int(config["filters"])
    return (shape[0], *spatial, channels)


def _transposed(kind: str, config: Config, shape: Shape) -> Shape | None:
    if config.get("output_padding") is not None or config.get("padding") not in ("same", "valid"):
        return None  # a rule of its own, and rare
    count = len(shape) - 2
    kernels = _per_axis(config["kernel_size"], count)
    strides = _per_axis(config.get("strides"), count)
    beyond = [0] * count
    if config["padding"] == "valid":
        beyond = [max(0, k - s) for k, s in zip(kernels, strides, strict=True)]
    spatial = [
        size if size < 0 else size * stride + more
        for size, stride, more in zip(shape[1:-1], strides, beyond, strict=True)
    ]
    return (shape[0], *spatial, int(config["filters"]))


def _attention(kind: str, config: Config, shape: Shape) -> Shape | None:
    return shape if config.get("output_shape") is None else None


def _each_step(kind: str, config: Config, shape: Shape) -> Shape | None:
    """TimeDistributed: the layer inside, on what is left of a step."""
    inner = config["layer"]
    step = output_shape(str(inner["class_name"]), inner["config"], [(shape[0], *shape[2:])])
    return None if step is None else (shape[0], shape[1], *step[1:])


def _both_ways(kind: str, config: Config, shape: Shape) -> Shape | None:
    inner = config["layer"]
    once = output_shape(str(inner["class_name"]), inner["config"], [shape])
    if once is None or config.get("merge_mode", "concat") != "concat":
        return once if config.get("merge_mode") else None
    return (*once[:-1], 2 * once[-1])


def _pooling(kind: str, config: Config, shape: Shape) -> Shape | None:
    if kind.startswith("Global"):
        ones = (1,) * (len(shape) - 2) if config.get("keepdims") else ()
        return (shape[0], *ones, shape[-1])
    return (shape[0], *_windows(config, shape[1:-1], config["pool_size"]), shape[-1])


def _dense(kind: str, config: Config, shape: Shape) -> Shape | None:
    return (*shape[:-1], int(config["units"]))


def _flatten(kind: str, config: Config, shape: Shape) -> Shape | None:
    return (shape[0], -1 if -1 in shape[1:] else prod(shape[1:]))


def _reshape(kind: str, config: Config, shape: Shape) -> Shape | None:
    target = [int(d) for d in config["target_shape"]]
    if -1 in target:
        rest = prod(d for d in target if d != -1)
        if -1 in shape[1:] or not rest:
            return (shape[0], *target)
        target[target.index(-1)] = prod(shape[1:]) // rest
    return (shape[0], *target)


def _permute(kind: str, config: Config, shape: Shape) -> Shape | None:
    return (shape[0], *(shape[int(d)] for d in config["dims"]))


def _repeat(kind: str, config: Config, shape: Shape) -> Shape | None:
    return (shape[0], int(config["n"]), shape[-1])


def _margins(kind: str, config: Config, shape: Shape) -> Shape | None:
    """Zero padding adds what its configuration says on both sides; cropping takes it away."""
    sign = 1 if "Padding" in kind else -1
    amounts = config["padding" if sign > 0 else "cropping"]
    count = len(shape) - 2
    if count == 1 and isinstance(amounts, Sequence) and not isinstance(amounts[0], Sequence):
        amounts = [amounts]
    each = amounts if isinstance(amounts, Sequence) else [amounts] * count
    spatial = [
        size if size < 0 else size + sign * (sum(pair) if isinstance(pair, Sequence) else 2 * pair)
        for size, pair in zip(shape[1:-1], each, strict=True)
    ]
    return (shape[0], *spatial, shape[-1])


def _upsampling(kind: str, config: Config, shape: Shape) -> Shape | None:
    factors = _per_axis(config.get("size"), len(shape) - 2)
    spatial = [s if s < 0 else s * f for s, f in zip(shape[1:-1], factors, strict=True)]
    return (shape[0], *spatial, shape[-1])


def _resizing(kind: str, config: Config, shape: Shape) -> Shape | None:
    return (shape[0], int(config["height"]), int(config["width"]), shape[-1])


def _embedding(kind: str, config: Config, shape: Shape) -> Shape | None:
    return (*shape, int(config["output_dim"]))


def _recurrent(kind: str, config: Config, shape: Shape) -> Shape | None:
    steps = (shape[1],) if config.get("return_sequences") else ()
    return (shape[0], *steps, int(config["units"]))


# By the end of the class name: Conv2D and DepthwiseConv2D, AveragePooling2D and so on.
_BY_NAME = (
    *((f"Conv{n}DTranspose", _transposed) for n in (1, 2, 3)),
    ("MultiHeadAttention", _attention),
    ("TimeDistributed", _each_step),
    ("Bidirectional", _both_ways),
    *((f"Conv{n}D", _convolution) for n in (1, 2, 3)),
    *((f"Pooling{n}D", _pooling) for n in (1, 2, 3)),
    *((f"ZeroPadding{n}D", _margins) for n in (1, 2, 3)),
    *((f"Cropping{n}D", _margins) for n in (1, 2, 3)),
    *((f"UpSampling{n}D", _upsampling) for n in (1, 2, 3)),
    ("Dense", _dense),
    ("Flatten", _flatten),
    ("Reshape", _reshape),
    ("Permute", _permute),
    ("RepeatVector", _repeat),
    ("Resizing", _resizing),
    ("Embedding", _embedding),
    ("LSTM", _recurrent),
    ("GRU", _recurrent),
    ("SimpleRNN", _recurrent),
)
