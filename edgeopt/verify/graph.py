"""Who makes and who reads each tensor of a subgraph, and what its constants hold."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from math import prod

from edgeopt.facts import Operator, Subgraph, Tensor

__all__ = ["Graph", "elements", "integers", "known_shape"]

_CODES = {"int32": "i", "int64": "q", "int8": "b", "uint8": "B"}
_MOST_INTEGERS = 64  # axes, paddings, strides; never a whole weight tensor


class Graph:
    """Links of one subgraph. Every lookup is by tensor index."""

    def __init__(self, subgraph: Subgraph) -> None:
        self.subgraph = subgraph
        self.producer: dict[int, Operator] = {}
        self.consumers: dict[int, list[Operator]] = {}
        self.outputs = {tensor.index for tensor in subgraph.outputs}
        for operator in subgraph.operators:
            for tensor in operator.outputs:
                self.producer.setdefault(tensor.index, operator)
            for tensor in self.inputs(operator):
                self.consumers.setdefault(tensor.index, []).append(operator)

    @staticmethod
    def inputs(operator: Operator) -> Iterator[Tensor]:
        """The inputs that are there, each once."""
        seen: set[int] = set()
        for tensor in operator.inputs:
            if tensor is not None and tensor.index not in seen:
                seen.add(tensor.index)
                yield tensor

    def expands_constant(self, operator: Operator) -> bool:
        """A DEQUANTIZE of a float16 constant: weights stored at half size, no run-time work."""
        first = operator.inputs[0] if operator.inputs else None
        return (
            operator.op == "DEQUANTIZE"
            and first is not None
            and first.constant
            and first.dtype == "float16"
        )

    def constant(self, tensor: Tensor) -> bool:
        """Known before the model runs, be it behind a DEQUANTIZE."""
        maker = self.producer.get(tensor.index)
        return tensor.constant or (maker is not None and self.expands_constant(maker))


def known_shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    """The shape, None when the file leaves it or one of its dimensions open."""
    if tensor is None or tensor.shape is None or tensor.dynamic:
        return None
    return tensor.shape


def elements(tensor: Tensor | None) -> int | None:
    shape = known_shape(tensor)
    return None if shape is None else prod(shape)


def integers(tensor: Tensor | None) -> tuple[int, ...] | None:
    """A small constant's numbers; None where the file does not hold them."""
    if tensor is None or tensor.data is None or tensor.dtype not in _CODES:
        return None
    count = elements(tensor)
    if count is None or count > _MOST_INTEGERS:
        return None
    item = 8 if tensor.dtype == "int64" else 4 if tensor.dtype == "int32" else 1
    raw = bytes(tensor.data[: count * item])
    if len(raw) < count * item or sys.byteorder != "little":
        return None
    return tuple(memoryview(raw).cast(_CODES[tensor.dtype]))  # type: ignore[call-overload]
