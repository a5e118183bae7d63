"""The parts of a quantized model that may stay in float: post-processing, and 8-bit input casts."""

from __future__ import annotations

from edgeopt.facts import Operator, Tensor
from edgeopt.profile import HardwareProfile
from edgeopt.verify.graph import Graph

__all__ = ["Relaxed"]

_EIGHT_BITS = ("int8", "uint8")


class Relaxed:
    """Which tensors may be float, by the profile's `[tail]`: everything that touches one must be
    post-processing (or the head), and an operation that the profile names for it."""

    def __init__(self, graph: Graph, profile: HardwareProfile) -> None:
        self._graph = graph
        self._tail = profile.tail
        operators = graph.subgraph.operators
        below = self._below_roots(operators)
        below |= self._feeding_only(operators, below)
        head = self._head(operators)
        named = {*self._tail.roots, *self._tail.operations}
        self.tail = below
        self._free = {i for i in below if operators[i].op in named} | head
        self._position = {id(op): i for i, op in enumerate(operators)}

    def allows(self, tensor: Tensor) -> bool:
        """True when the tensor is touched only by operations that may compute in float."""
        touching = list(self._graph.consumers.get(tensor.index, ()))
        if maker := self._graph.producer.get(tensor.index):
            touching.append(maker)
        return bool(touching) and all(self._position[id(op)] in self._free for op in touching)

    def holds(self, op: Operator) -> bool:
        """True for an operation in float-capable post-processing or in the head."""
        return self._position.get(id(op)) in self._free

    def _below_roots(self, operators: tuple[Operator, ...]) -> set[int]:
        """The roots, and all that depends on one."""
        makers = {t.index: i for i, op in enumerate(operators) for t in op.outputs}
        found = {i for i, op in enumerate(operators) if op.op in self._tail.roots}
        readers: dict[int, list[int]] = {}
        for i, op in enumerate(operators):
            for tensor in self._graph.inputs(op):
                if tensor.index in makers:
                    readers.setdefault(makers[tensor.index], []).append(i)
        todo = list(found)
        while todo:
            for reader in readers.get(todo.pop(), ()):
                if reader not in found:
                    found.add(reader)
                    todo.append(reader)
        return found

    def _feeding_only(self, operators: tuple[Operator, ...], below: set[int]) -> set[int]:
        """What is read by the tail alone, as the scores that a decoder divides."""
        position = {id(op): i for i, op in enumerate(operators)}
        found: set[int] = set()
        for i in range(len(operators) - 1, -1, -1):
            op = operators[i]
            if i in below or op.op not in self._tail.operations:
                continue
            readers = [r for t in op.outputs for r in self._graph.consumers.get(t.index, ())]
            shown = any(t.index in self._graph.outputs for t in op.outputs)
            if readers and not shown and all(position[id(r)] in below | found for r in readers):
                found.add(i)
        return found

    def _head(self, operators: tuple[Operator, ...]) -> set[int]:
        """Casts that lead from an 8-bit input of the model to the first quantized operation."""
        inputs = {t.index for t in self._graph.subgraph.inputs if t.dtype in _EIGHT_BITS}
        found: set[int] = set()
        for i, op in enumerate(operators):
            data = [t for t in self._graph.inputs(op) if not t.constant]
            if op.op in self._tail.head and data and all(t.index in inputs for t in data):
                found.add(i)
                inputs.update(t.index for t in op.outputs)
        return found
