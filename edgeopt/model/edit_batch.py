"""Close a .tflite's open batch dimension, where that is provably the same model.

Converters of dynamic models write the shapes for a batch of one and mark the first dimension open
in shape_signature; other writers put -1 into the shape itself. Only a first dimension is closed.
"""

from __future__ import annotations

import struct
from math import prod
from typing import Any

from edgeopt.errors import InputError, ModelError
from edgeopt.facts import Operator, Tensor
from edgeopt.model.packing import pack, unpack
from edgeopt.model.tflite import parse

__all__ = ["set_batch"]

_HINT = "Export it with a fixed input shape, such as (1, 224, 224, 3), and convert it again."
# Operators that treat every sample of a batch alike, whatever their options.
_PER_SAMPLE = """
    ABS ADD AVERAGE_POOL_2D CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV ELU EXP GELU
    HARD_SWISH L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D
    MINIMUM MUL NEG POW PRELU QUANTIZE RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR RSQRT SOFTMAX SPACE_TO_DEPTH SQRT SQUARE SQUARED_DIFFERENCE SUB TANH
"""
_BROADCAST = "ADD DIV MAXIMUM MINIMUM MUL POW PRELU SQUARED_DIFFERENCE SUB"
_ALONG_LAST = "L2_NORMALIZATION LOG_SOFTMAX SOFTMAX"  # of a vector, that is the batch itself


def set_batch(data: bytes, batch: int = 1) -> bytes:
    """The same model for exactly `batch` samples; `data` itself when no dimension is open.

    Raises ModelError when another dimension is open, or when an operator on the way might mix
    samples or hold the old batch in a constant; InputError for a batch below one.
    """
    if batch < 1:
        raise InputError(f"A batch of {batch} makes no model.", "Give 1 or more.")
    contents = parse(data)
    opened = {
        (graph.index, tensor.index): tensor
        for graph in contents.subgraphs
        for tensor in graph.tensors
        if _is_open(tensor)
    }
    if not opened:
        return data
    for tensor in opened.values():
        _only_batch(tensor)
    if any((tensor.shape or ())[0] != batch for tensor in opened.values()):
        operators = [op for graph in contents.subgraphs for op in graph.operators]
        for operator in operators:
            _per_sample(operator)
    return _close(data, opened, batch)


def _is_open(tensor: Tensor) -> bool:
    return tensor.dynamic or any(d < 0 for d in tensor.signature or ())


def _only_batch(tensor: Tensor) -> None:
    dimensions = tensor.signature or tensor.shape or ()
    shape = tensor.shape or ()
    if len(dimensions) != len(shape) or any(d < 0 for d in (*dimensions[1:], *shape[1:])):
        raise ModelError(
            f"{tensor.name or f'tensor {tensor.index}'} is open in more than its first dimension: "
            f"{list(dimensions)}.",
            _HINT,
        )


def _per_sample(operator: Operator) -> None:
    """Raise ModelError unless the operator does to each sample what it did to one."""
    results = [_is_open(tensor) for tensor in operator.outputs]
    sources = [_is_open(t) for t in operator.inputs if t is not None]
    if not any(sources) and not any(results):
        return
    if any(sources) and all(results) and _keeps_samples(operator):
        return
    raise ModelError(f"{operator.where} may depend on the size of the batch.", _HINT)


def _keeps_samples(operator: Operator) -> bool:
    if not operator.inputs or not operator.outputs:
        return False
    op, source, result = operator.op, operator.inputs[0], operator.outputs[0]
    if op in _PER_SAMPLE.split():
        return _elementwise(operator)
    if op == "CONCATENATION":
        every = all(_is_open(t) for t in operator.inputs if t is not None)
        return every and int(operator.options.get("axis", 0)) % (result.rank or 1) != 0
    other = operator.inputs[1] if len(operator.inputs) > 1 else None
    if source is None or other is None:
        return False
    before, after = prod((source.shape or ())[1:]), prod((result.shape or ())[1:])
    if op == "FULLY_CONNECTED":
        return bool(other.shape) and before == (other.shape or (0,))[-1]
    values = _integers(other)
    if values is None:
        return False
    if op == "RESHAPE":
        return before == after and values[:1] == (-1,)
    if op in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"):
        return all(value % (source.rank or 1) for value in values)
    if op == "TRANSPOSE":
        return values[:1] == (0,)
    return op in ("PAD", "PADV2", "MIRROR_PAD") and values[:2] == (0, 0)


def _elementwise(operator: Operator) -> bool:
    """Ranks agree, and what is broadcast over the batch does not have a batch of its own."""
    rank = operator.outputs[0].rank or 0
    if operator.op in _ALONG_LAST.split() and rank < 2:
        return False
    present = [tensor for tensor in operator.inputs if tensor is not None]
    if any(tensor.rank != rank for tensor in present if _is_open(tensor)):
        return False
    fixed = [t for t in present if not _is_open(t) and t.shape and t.rank == rank]
    return operator.op not in _BROADCAST.split() or all((t.shape or (1,))[0] == 1 for t in fixed)


def _integers(tensor: Tensor | None) -> tuple[int, ...] | None:
    """A constant int32 or int64 vector, None for anything else."""
    if tensor is None or tensor.data is None or tensor.dtype not in ("int32", "int64"):
        return None
    width, code = (4, "i") if tensor.dtype == "int32" else (8, "q")
    count = len(tensor.data) // width
    return struct.unpack(f"<{count}{code}", tensor.data[: count * width])


def _close(data: bytes, opened: dict[tuple[int, int], Tensor], batch: int) -> bytes:
    model: Any = unpack(data)
    for (graph, index), tensor in opened.items():
        target = model.subgraphs[graph].tensors[index]
        target.shape = [batch, *(tensor.shape or ())[1:]]
        target.shapeSignature = None
    return pack(model)
