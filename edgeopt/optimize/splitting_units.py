"""Which activations of a float .tflite can be held several times over, and which only together.

A layer with weights makes as many copies as are wanted and reads them all; what lies between two
such layers (ADD, pooling, padding and the like) passes copies on, channel by channel. All tensors
that are so joined are one unit. A unit that reaches the model's inputs or outputs, or an operation
that is not known to treat its channels alike, stays single.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from edgeopt.facts import Operator, Subgraph, Tensor
from edgeopt.optimize.equalize_graph import integers

__all__ = ["WEIGHING", "Unit", "flattened", "operand", "units"]

WEIGHING = ("CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D")
_MIXING = ("CONV_2D", "FULLY_CONNECTED")  # they read all channels, and make others
_PASSING = ("RELU", "RELU6", "AVERAGE_POOL_2D", "MAX_POOL_2D", "RESIZE_BILINEAR",
            "RESIZE_NEAREST_NEIGHBOR")  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """`tensors` are the indices of what is split together, in the order they are made."""

    tensors: tuple[int, ...]


def operand(op: Operator) -> Tensor | None:
    """The activation that a layer with weights reads."""
    return op.inputs[0] if op.inputs else None


def units(graph: Subgraph) -> list[Unit]:
    """The units of the main subgraph, in the order of their first tensors."""
    found = _Finder(graph)
    for op in graph.operators:
        found.visit(op)
    return found.units()


def flattened(source: Tensor, result: Tensor) -> int:
    """How many times over the channels of `source` stand in the last axis of `result` after a
    RESHAPE; 0 where they do not stay together."""
    before, after = source.shape or (), result.shape or ()
    if not before or not after or not before[-1] or prod(before) != prod(after):
        return 0
    repeats, rest = divmod(after[-1], before[-1])
    inner = 1
    for side in reversed(before[:-1]):
        if inner == repeats:
            break
        inner *= side
    return repeats if not rest and inner == repeats else 0


class _Finder:
    def __init__(self, graph: Subgraph) -> None:
        self.graph = graph
        self.parent: dict[int, int] = {}
        self.blocked: set[int] = {t.index for t in (*graph.inputs, *graph.outputs)}
        self.mixed: set[int] = set()  # whose copies do not stand in two halves

    def root(self, index: int) -> int:
        while (above := self.parent.setdefault(index, index)) != index:
            index = above
        return index

    def join(self, one: Tensor, other: Tensor) -> None:
        self.parent[self.root(one.index)] = self.root(other.index)

    def block(self, op: Operator) -> None:
        self.blocked.update(t.index for t in (*op.inputs, *op.outputs) if t is not None)

    def visit(self, op: Operator) -> None:
        rule = _RULES.get(op.op)
        if rule is None or len(op.outputs) != 1 or not rule(self, op):
            self.block(op)
        elif op.op not in _MIXING and any(t and t.index in self.mixed for t in op.inputs):
            self.mixed.add(op.outputs[0].index)

    def units(self) -> list[Unit]:
        roots = {self.root(index) for index in self.blocked}
        made: dict[int, list[int]] = {}
        for op in self.graph.operators:
            for tensor in op.outputs:
                root = self.root(tensor.index)
                if root not in roots and tensor.dtype == "float32" and not tensor.constant:
                    made.setdefault(root, []).append(tensor.index)
        return [Unit(tuple(tensors)) for tensors in made.values()]

    # What an operation does with copies; False when it is not known to keep them apart.

    def weighing(self, op: Operator) -> bool:
        source, weights, result = operand(op), op.inputs[1], op.outputs[0]
        if source is None or weights is None or not _plain(weights):
            return False
        bias = op.inputs[2] if len(op.inputs) > 2 else None
        if bias is not None and not _plain(bias):
            return False
        read, made = (int((t.shape or (0,))[-1]) for t in (source, result))
        across = weights.shape or (0,)
        if not read or not made or op.options.get("weights_format", "DEFAULT") != "DEFAULT":
            return False
        if op.op == "DEPTHWISE_CONV_2D":
            self.join(source, result)
            return across[-1] == read == made
        if op.op == "FULLY_CONNECTED":
            return across[0] == made and across[-1] % read == 0
        return across[0] == made and across[-1] == read

    def passing(self, op: Operator) -> bool:
        source = op.inputs[0]
        if source is None or any(t and not t.constant for t in op.inputs[1:]):
            return False
        self.join(source, op.outputs[0])
        return (source.shape or (0,))[-1] == (op.outputs[0].shape or (0,))[-1]

    def padding(self, op: Operator) -> bool:
        sides = integers(op.inputs[1])
        return sides is not None and sides[-2:] == [0, 0] and self.passing(op)

    def meaning(self, op: Operator) -> bool:
        source, axes = op.inputs[0], integers(op.inputs[1])
        if source is None or not axes or not source.rank:
            return False
        return all(a % source.rank != source.rank - 1 for a in axes) and self.passing(op)

    def adding(self, op: Operator) -> bool:
        one, other = op.inputs[0], op.inputs[1]
        if one is None or other is None or one.constant or other.constant:
            return False
        if one.shape != other.shape or one.shape != op.outputs[0].shape:
            return False
        if self.mixed.intersection((one.index, other.index)):
            return False
        self.join(one, op.outputs[0])
        self.join(other, op.outputs[0])
        return True

    def concatenating(self, op: Operator) -> bool:
        rank = op.outputs[0].rank or 1
        sources = [t for t in op.inputs if t is not None]
        if any(t.constant for t in sources) or int(op.options.get("axis", 0)) % rank != rank - 1:
            return False
        for tensor in sources:
            self.join(tensor, op.outputs[0])
        self.mixed.add(op.outputs[0].index)
        return True

    def reshaping(self, op: Operator) -> bool:
        source, result = op.inputs[0], op.outputs[0]
        if source is None or (len(op.inputs) > 1 and integers(op.inputs[1]) is None):
            return False
        self.join(source, result)
        repeats = flattened(source, result)
        if repeats > 1:
            self.mixed.add(result.index)
        return repeats > 0


def _plain(tensor: Tensor) -> bool:
    return (
        tensor.constant
        and tensor.data is not None
        and tensor.dtype == "float32"
        and not tensor.sparse
    )


_RULES: dict[str, Callable[[_Finder, Operator], bool]] = {
    **dict.fromkeys(_PASSING, _Finder.passing),
    **dict.fromkeys(WEIGHING, _Finder.weighing),
    "PAD": _Finder.padding,
    "MEAN": _Finder.meaning,
    "ADD": _Finder.adding,
    "CONCATENATION": _Finder.concatenating,
    "RESHAPE": _Finder.reshaping,
}
