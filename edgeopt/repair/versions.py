"""Lower an operation's version to the first one that means what its attributes and types say.

A version number says which kernel features a file may use. A file that uses none of the newer ones
means the same with a lower number, and the reader of TensorFlow 2.5 accepts it.
"""

from __future__ import annotations

from edgeopt.facts import Operator, Tensor
from edgeopt.model.edit_graph import GraphEdit
from edgeopt.repair.repair import Need, Repaired

__all__ = ["lower_versions", "minimal_version"]

_EIGHT_BITS = ("int8", "uint8")
_INDICES = ("ARG_MAX",)  # their results are positions, not quantized numbers
_MOST_DIMS = 4  # a broadcast, slice or transpose of more has a version of its own

# The versions for uint8 and for int8 activations, where nothing but the type decides:
# tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc.
_FIRST_AND_SECOND = """
    ADD ARG_MAX AVERAGE_POOL_2D CONCATENATION L2_NORMALIZATION LOGISTIC MAXIMUM MAX_POOL_2D MEAN
    MINIMUM MIRROR_PAD PACK PAD REDUCE_MAX REDUCE_MIN RELU6 RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT
    SQUARED_DIFFERENCE SUB SUM TANH TRANSPOSE
"""
_BY_TYPE = {
    **dict.fromkeys(_FIRST_AND_SECOND.split(), (1, 2)),
    "RELU": (2, 2),
    "RESHAPE": (1, 1),
    "EXPAND_DIMS": (1, 1),
    "SQUEEZE": (1, 1),
    "PRELU": (1, 1),
    "LEAKY_RELU": (1, 1),
}


def lower_versions(data: bytes, need: Need) -> Repaired | None:
    """Lower what the profile's runtime or accelerator finds too new. None when nothing can be."""
    edit = GraphEdit(data)
    changes, touched = [], []
    for op in edit.facts.operators:
        least = minimal_version(op)
        if least is None or op.version is None or op.version <= least or not _too_new(op, need):
            continue
        edit.version(op, least)
        changes.append(f"{edit.named(op)}: version {op.version} is written as {least}.")
        touched.append(op.index)
    if not changes:
        return None
    return Repaired(data=edit.finish(), changes=tuple(changes), operators=tuple(touched))


def _too_new(op: Operator, need: Need) -> bool:
    """The file cannot be parsed with it, or the operation would be mapped without it."""
    if op.custom or (need.only is not None and op.index not in need.only):
        return False
    rule, span = need.profile.operations.get(op.op), need.profile.runtime.operations.get(op.op)
    version = op.version or 0
    if span is not None and version > span[1]:
        return True
    newest = rule.max_version if rule else None
    return newest is not None and version > newest and op.index in need.refused


def minimal_version(op: Operator) -> int | None:
    """The lowest version with the meaning of this 8-bit operation; None where that is not known."""
    if op.op in ("QUANTIZE", "DEQUANTIZE"):
        return _requantize(op)
    data = _data(op)
    results = () if op.op in _INDICES else op.outputs[:1]
    if data is None or any(t.dtype not in _EIGHT_BITS for t in (data, *results)):
        return None
    special = _SPECIAL.get(op.op)
    if special is not None:
        return special(op)
    if op.op not in _BY_TYPE:
        return None
    if any((t.rank or 0) > _MOST_DIMS for t in (*op.inputs, *op.outputs) if t is not None):
        return None
    return _BY_TYPE[op.op][data.dtype == "int8"]


def _data(op: Operator) -> Tensor | None:
    """The tensor whose type decides: SPLIT has its axis in front, TRANSPOSE_CONV its shape."""
    place = {"SPLIT": 1, "TRANSPOSE_CONV": 1}.get(op.op, 0)
    return op.inputs[place] if place < len(op.inputs) else None


def _at(op: Operator, index: int) -> Tensor | None:
    return op.inputs[index] if index < len(op.inputs) else None


def _weights(op: Operator) -> Tensor | None:
    """The 8-bit, dense weights of the same type as the data; None otherwise."""
    data, weights = _at(op, 0), _at(op, 1)
    good = data is not None and weights is not None and weights.dtype == data.dtype
    return weights if good and weights is not None and not weights.sparse else None


def _conv(op: Operator) -> int | None:
    data, weights = _at(op, 0), _weights(op)
    if data is None or weights is None or not data.shape or not weights.shape:
        return None
    grouped = weights.shape[-1] != data.shape[-1]
    return None if grouped else 3 if data.dtype == "int8" else 1


def _depthwise(op: Operator) -> int | None:
    weights = _weights(op)
    if weights is None:
        return None
    dilated = any(op.options.get(f"dilation_{side}_factor", 1) != 1 for side in "wh")
    return 3 if weights.dtype == "int8" else 2 if dilated else 1


def _dense(op: Operator) -> int | None:
    weights = _weights(op)
    if weights is None or len(op.inputs) < 3:  # two inputs mean version 6
        return None
    if op.options.get("weights_format", "DEFAULT") != "DEFAULT" or op.options.get("keep_num_dims"):
        return None
    several = weights.quantization is not None and weights.quantization.per_channel
    return None if several else 4 if weights.dtype == "int8" else 1


def _mul(op: Operator) -> int | None:
    """Version 3 is a rescaling of 1 or more."""
    scales = [t.quantization.scales[0] for t in (*op.inputs[:2], *op.outputs[:1])
              if t is not None and t.quantization is not None]  # fmt: skip
    first = _at(op, 0)
    if len(scales) != 3 or first is None or scales[2] <= 0:
        return None
    return 3 if scales[0] * scales[1] / scales[2] >= 1 else 2 if first.dtype == "int8" else 1


def _resize(op: Operator) -> int | None:
    first = _at(op, 0)
    newer = op.options.get("half_pixel_centers")
    if op.op == "RESIZE_NEAREST_NEIGHBOR":
        newer = newer or op.options.get("align_corners")
    return 3 if newer else 2 if first is not None and first.dtype == "int8" else 1


def _transpose_conv(op: Operator) -> int | None:
    if op.options.get("fused_activation", "NONE") != "NONE":
        return None
    bias, weights = _at(op, 3), _at(op, 1)
    return 3 if bias is not None else 2 if weights is not None and weights.dtype == "int8" else 1


def _requantize(op: Operator) -> int | None:
    tensors = [t for t in (*op.inputs, *op.outputs) if t is not None]
    known = (*_EIGHT_BITS, "float32")
    several = any(t.quantization is not None and t.quantization.per_channel for t in tensors)
    if several or any(t.dtype not in known for t in tensors):
        return None
    return 2 if op.op == "DEQUANTIZE" and tensors[0].dtype == "int8" else 1


def _slice(op: Operator) -> int | None:
    newer = ("offset", "ellipsis_mask", "new_axis_mask")
    tensors = (*op.inputs[:1], *op.outputs)
    if any(op.options.get(name) for name in newer) or any((t.rank or 0) > 4 for t in tensors if t):
        return None
    first = _at(op, 0)
    return 2 if first is not None and first.dtype == "int8" else 1


_SPECIAL = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "MUL": _mul,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "TRANSPOSE_CONV": _transpose_conv,
    "STRIDED_SLICE": _slice,
}
