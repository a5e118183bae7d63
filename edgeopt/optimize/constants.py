"""Change float constants of an unpacked .tflite, without touching those that share their bytes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["add_constant", "replace_constant"]


def replace_constant(model: Any, operator: int | None, tensor: int, values: NDArray[Any]) -> None:
    """Give `tensor` of the main subgraph these values, in a buffer that no other tensor shares.

    Where other operators than number `operator` read the tensor too, that operator gets a copy
    (None: nothing else reads it).
    """
    from edgeopt.model.packing import add_buffer

    graph = model.subgraphs[0]
    if operator is not None and _readers(graph, tensor) > 1:
        old, tensor = tensor, _copied(graph, tensor)
        inputs = [int(i) for i in graph.operators[operator].inputs]
        graph.operators[operator].inputs = [tensor if i == old else i for i in inputs]
    buffer = graph.tensors[tensor].buffer
    if sum(each.buffer == buffer for part in model.subgraphs for each in part.tensors) > 1:
        graph.tensors[tensor].buffer = buffer = add_buffer(model)
    model.buffers[buffer].data = values.astype("<f4").tobytes()


def add_constant(model: Any, like: int, shape: list[int], values: NDArray[Any], name: str) -> int:
    """A new float constant of the main subgraph with the flags of tensor `like`; its index."""
    from edgeopt.model.packing import add_buffer

    graph = model.subgraphs[0]
    index = _copied(graph, like)
    tensor = graph.tensors[index]
    tensor.name, tensor.shape, tensor.shapeSignature = name.encode(), shape, None
    tensor.buffer = add_buffer(model)
    model.buffers[tensor.buffer].data = values.astype("<f4").tobytes()
    return index


def _readers(graph: Any, tensor: int) -> int:
    return sum(tensor in [int(i) for i in op.inputs] for op in graph.operators)


def _copied(graph: Any, tensor: int) -> int:
    made = copy.copy(graph.tensors[tensor])
    made.name = made.name + f"_{len(graph.tensors)}".encode()
    graph.tensors.append(made)
    return len(graph.tensors) - 1
