"""Count trained values: the constants that operators use as weights, not as shapes or axes."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from edgeopt.facts import Operator, Subgraph, Tensor
from edgeopt.model.compiled import holds_code

__all__ = ["count_parameters"]

_FLOATS = {"float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2", "complex64"}
_WEIGHTS = _FLOATS | {"int2", "int4", "uint4", "int8", "uint8", "int16"}
# int32 and int64 constants are shapes, axes and indices, except the biases of these.
_BIASED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_3D"}


def count_parameters(subgraphs: tuple[Subgraph, ...]) -> int | None:
    """Elements of all weights and biases, each constant once; None when a payload hides some.

    Scalars are left out: converters make them of arithmetic such as x / 255.
    """
    seen: dict[tuple[int, int], int] = {}
    for subgraph in subgraphs:
        for operator in subgraph.operators:
            if holds_code(operator):
                return None
            for tensor in _weights(operator):
                seen[_identity(subgraph, tensor)] = prod(tensor.shape or ())
    return sum(seen.values())


def _weights(operator: Operator) -> Iterator[Tensor]:
    for position, tensor in enumerate(operator.inputs):
        if tensor is None or not tensor.constant or not tensor.shape:
            continue
        if any(d < 0 for d in tensor.shape):
            continue
        bias = tensor.dtype in ("int32", "int64") and (
            tensor.quantization is not None or (operator.op in _BIASED and position >= 2)
        )
        if tensor.dtype in _WEIGHTS or bias:
            yield tensor


def _identity(subgraph: Subgraph, tensor: Tensor) -> tuple[int, int]:
    """Tensors of several subgraphs may share one buffer: count its bytes once."""
    if tensor.data is not None:
        return (-1, id(tensor.data))
    return (subgraph.index, tensor.index)
