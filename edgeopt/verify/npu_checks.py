"""Rules over strides, kernels, scales and quantization, as NPU compilers state them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeopt.facts import Operator, Tensor
from edgeopt.verify.checks import _at, _joined, _out, _rule
from edgeopt.verify.graph import Graph, integers, known_shape

__all__: list[str] = []


@_rule("stride", "strides of at most {limit}", "Use smaller strides, or a pooling layer between.")
def _stride(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    """`free_padding`: with that padding and without dilation any stride is taken; padding SAME
    that adds nothing is the same (measured with vela 5.2.0)."""
    high, wide = op.options.get("stride_h"), op.options.get("stride_w")
    if high is None or wide is None:
        return None
    dilation = [op.options.get(f"dilation_{side}_factor", 1) for side in "hw"]
    free, padding = p.get("free_padding"), op.options.get("padding")
    flat = set(dilation) == {1} and (padding == free or _pads_nothing(op, (high, wide)))
    if free and flat:
        return ""
    return "" if max(high, wide) <= p["limit"] else f"a stride of {high} by {wide}"


def _pads_nothing(op: Operator, strides: tuple[int, int]) -> bool:
    source, result, weights = (known_shape(t) for t in (_at(op, 0), _out(op), _at(op, 1)))
    kernel = [op.options.get("filter_height"), op.options.get("filter_width")]
    if weights is not None and len(weights) == 4:
        kernel = list(weights[1:3])
    if source is None or result is None or len(source) != 4 or len(result) != 4:
        return False
    sizes = zip(source[1:3], result[1:3], kernel, strides, strict=True)
    return all(k is not None and (b - 1) * s + k <= a for a, b, k, s in sizes)


@_rule("kernel", "a kernel that is at most {side} high", "Pool in several steps.")
def _kernel(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    """`side` for the height, its square for the area; with padding SAME `same_side` for each."""
    high, wide = op.options.get("filter_height"), op.options.get("filter_width")
    if high is None or wide is None:
        return None
    narrow = p.get("same_side")
    if narrow is not None and op.options.get("padding") == "SAME":
        good = max(high, wide) <= narrow
    else:
        good = high <= p["side"] and high * wide <= p["side"] ** 2
    return "" if good else f"a kernel of {high} by {wide}"


@_rule(
    "resize_factor",
    "an enlargement by {factors} in both directions",
    "Resize several times by 2, or choose sizes with such a factor.",
)
def _resize_factor(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    """Equal shapes and an input of one pixel are always taken; one side may stay 1."""
    source, result = known_shape(_at(op, 0)), known_shape(_out(op))
    if source is None or result is None or len(source) != 4 or len(result) != 4:
        return None
    small, large = source[1:3], result[1:3]
    if small == (1, 1) or source == result:
        return ""
    less = 1 if op.options.get("align_corners") else 0
    half = bool(op.options.get("half_pixel_centers"))
    allowed = (p.get("half_pixel_factors") if half else None) or p["factors"]
    sides = [i for i in (0, 1) if not small[i] == large[i] == 1]
    pairs = [(large[i] - less, small[i] - less) for i in sides]
    if any(b <= 0 for _, b in pairs):
        return "a side of one pixel with align_corners"
    good = len({a / b for a, b in pairs}) == 1 and all(a % b == 0 for a, b in pairs)
    if good and pairs[0][0] // pairs[0][1] in allowed:
        return ""
    return f"{small[0]} by {small[1]} to {large[0]} by {large[1]}"


@_rule("last_axis", "the last axis, of at most {most} values", "Transpose it first.")
def _last_axis(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    shape, axes = known_shape(_at(op, 0)), integers(_at(op, 1))
    if not shape or axes is None or len(axes) != 1:
        return None
    if axes[0] not in (-1, len(shape) - 1):
        return f"axis {axes[0]} of {len(shape)}"
    return "" if shape[-1] <= p["most"] else f"{shape[-1]} values"


@_rule("same_type", "one type for input and output: {types}", "Quantize both alike.")
def _same_type(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    source, result = _at(op, 0), _out(op)
    if source is None or result is None:
        return None
    good = source.dtype == result.dtype and source.dtype in p["types"]
    return "" if good else f"{source.dtype} to {result.dtype}"


@_rule("same_shape", "an output of the input's shape")
def _same_shape(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    source, result = known_shape(_at(op, 0)), known_shape(_out(op))
    if source is None or result is None:
        return None
    return "" if source == result else f"{list(source)} to {list(result)}"


@_rule("same_quantization", "inputs quantized as the output", "Convert it with one range for all.")
def _same_quantization(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    result = _out(op)
    if result is None:
        return None

    def one(index: int) -> str | None:
        tensor = _at(op, index)
        if tensor is None:
            return None
        return "" if tensor.quantization == result.quantization else f"input {index} differs"

    return _joined(one(index) for index in p["inputs"])


@_rule("quantized", "a scale for every input and output", "Convert it with calibration data.")
def _quantized(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    def one(name: str, tensor: Tensor | None) -> str | None:
        if tensor is None or tensor.dtype not in ("int8", "uint8", "int16"):
            return ""
        scales = tensor.quantization.scales if tensor.quantization else ()
        if not scales:
            return f"{name} without a scale"
        return "" if min(scales) > 0 else f"{name} with a scale of {min(scales):g}"

    first = _at(op, 0)
    return _joined(iter((one("input 0", first), one("the output", _out(op)))))


@_rule("batch_one", "a batch of 1", "Fix the batch of the source model to 1.")
def _batch_one(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    shape = known_shape(_at(op, 0))
    if shape is None:
        return None
    return "" if len(shape) < 4 or shape[0] == 1 else f"a batch of {shape[0]}"


@_rule(
    "transposed_stride",
    "strides of 1 by 1 or 2 by 2",
    "Use a stride of 2, or resize and convolve.",
)
def _transposed_stride(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    """1 by 2 and 2 by 1 are taken where input and kernel have one pixel in the other direction."""
    strides = (op.options.get("stride_h"), op.options.get("stride_w"))
    if strides in ((1, 1), (2, 2)):
        return ""
    weights, source = known_shape(_at(op, 1)), known_shape(_at(op, 2))
    if None in strides or weights is None or source is None:
        return None
    high, wide = (a == b == 1 for a, b in zip(weights[1:3], source[1:3], strict=True))
    if (strides == (1, 2) and high) or (strides == (2, 1) and wide):
        return ""
    return f"strides of {strides[0]} by {strides[1]}"


@_rule(
    "depth_reduction",
    "no reduction over depth, or one side of height, width and depth that is 1",
    "Reshape it so that height or width is 1, or use a 1 x 1 convolution.",
)
def _depth_reduction(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    shape, axes = known_shape(_at(op, 0)), integers(_at(op, 1))
    if not shape or axes is None:
        return None
    depth = {-1, len(shape) - 1} & set(axes)
    sides = (1, 1, *shape)[-3:]
    return "" if not depth or 1 in sides else f"a reduction over depth of {list(shape)}"
