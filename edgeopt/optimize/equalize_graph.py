"""Which channels of a float .tflite may be scaled together without changing the function.

A node is a channel: a place on the last axis of a float activation. Operations that pass a positive
factor through, channel by channel, join nodes; layers with weights lie between nodes that are free
of each other, since weights take up both factors. Whatever is not known to do either pins its
nodes at the factor one, as the model's inputs and outputs do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import gcd, prod
from typing import TYPE_CHECKING, Any

from edgeopt.facts import Operator, Subgraph, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Layer", "Scales", "Vector", "channel_graph", "floats", "integers"]

# f(k x) = k f(x) for k > 0 in every channel by itself, and channels stay where they are.
_TRANSPARENT = """
    AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D RELU LEAKY_RELU PRELU ABS NEG RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND DIV
"""
_REDUCING = "MEAN SUM REDUCE_MAX REDUCE_MIN"
_MOVING = "RESHAPE SQUEEZE EXPAND_DIMS SPACE_TO_DEPTH DEPTH_TO_SPACE"
_ADDING = "ADD SUB MAXIMUM MINIMUM"
_WEIGHING = "CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED TRANSPOSE_CONV"
_HOMOGENEOUS = ("NONE", "RELU", None)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """An operation with weights. `rows` are the nodes of its output channels, `columns` those of
    its inputs, one a weight's place on that axis. Depthwise weights have one column a row."""

    operator: int
    op: str
    weights: Tensor
    bias: Tensor | None
    rows: NDArray[Any]
    columns: NDArray[Any]

    @property
    def depthwise(self) -> bool:
        return self.op == "DEPTHWISE_CONV_2D"


@dataclass(frozen=True, kw_only=True)
class Vector:
    """A constant beside an activation: `columns` are the nodes of what it multiplies, None where
    it is added; `rows` those of the result."""

    constant: Tensor
    rows: NDArray[Any]
    columns: NDArray[Any] | None


@dataclass(frozen=True, kw_only=True)
class Scales:
    """`first` is a tensor's first node; `group` the group of each node, -1 for a pinned one."""

    first: dict[int, int]
    tensors: dict[int, Tensor]
    group: NDArray[Any]
    groups: int
    layers: tuple[Layer, ...]
    vectors: tuple[Vector, ...]

    def nodes(self, index: int) -> NDArray[Any]:
        return _nodes(self.first[index], self.tensors[index])


def floats(tensor: Tensor) -> NDArray[Any]:
    """A float32 constant in its shape (a view)."""
    import numpy as np

    assert tensor.data is not None
    return np.frombuffer(tensor.data, "<f4").reshape(tensor.shape or ())


def integers(tensor: Tensor | None) -> list[int] | None:
    """An int32 or int64 constant's values, None for anything else."""
    import numpy as np

    if tensor is None or tensor.data is None or tensor.dtype not in ("int32", "int64"):
        return None
    return [int(v) for v in np.frombuffer(tensor.data, "<i4" if tensor.dtype == "int32" else "<i8")]


def channel_graph(graph: Subgraph) -> Scales:
    """The nodes of the main subgraph, joined, and what lies between them."""
    return _Builder(graph).build()


def _width(tensor: Tensor) -> int:
    return int(tensor.shape[-1]) if tensor.shape else 1


def _nodes(first: int, tensor: Tensor) -> NDArray[Any]:
    import numpy as np

    return np.arange(first, first + _width(tensor))


@dataclass
class _Builder:
    graph: Subgraph
    first: dict[int, int] = field(default_factory=dict)
    tensors: dict[int, Tensor] = field(default_factory=dict)
    joined: list[tuple[NDArray[Any], NDArray[Any]]] = field(default_factory=list)
    pinned: list[NDArray[Any]] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    vectors: list[Vector] = field(default_factory=list)
    users: Counter[int] = field(default_factory=Counter)

    def build(self) -> Scales:
        count = 0
        for tensor in self.graph.tensors:
            if tensor.dtype == "float32" and not tensor.constant:
                self.first[tensor.index], self.tensors[tensor.index] = count, tensor
                count += _width(tensor)
        for op in self.graph.operators:
            self.users.update(t.index for t in op.inputs if t is not None and t.constant)
        for tensor in (*self.graph.inputs, *self.graph.outputs):
            self.pin(tensor)
        for op in self.graph.operators:
            if not self.place(op):
                for each in (*op.inputs, *op.outputs):
                    self.pin(each)
        group, groups = self.grouped(count)
        return Scales(
            first=self.first,
            tensors=self.tensors,
            group=group,
            groups=groups,
            layers=tuple(self.layers),
            vectors=tuple(self.vectors),
        )

    def grouped(self, count: int) -> tuple[NDArray[Any], int]:
        import numpy as np

        label = np.arange(count)
        if self.joined:
            one = np.concatenate([pair[0] for pair in self.joined])
            other = np.concatenate([pair[1] for pair in self.joined])
            while True:
                low = np.minimum(label[one], label[other])
                before = label.copy()
                np.minimum.at(label, before[one], low)
                np.minimum.at(label, before[other], low)
                label = label[label]
                if np.array_equal(label, before):
                    break
        fixed = np.zeros(count, bool)
        for nodes in self.pinned:
            fixed[label[nodes]] = True
        free = ~fixed[label]
        group = np.full(count, -1)
        kept, group[free] = np.unique(label[free], return_inverse=True)
        return group, len(kept)

    # What an operation does to factors; False when that is not known.

    def place(self, op: Operator) -> bool:
        if not op.outputs or any(t.index not in self.first for t in op.outputs):
            return False
        rule = _RULES.get(op.op)
        return rule is not None and rule(self, op)

    def pin(self, tensor: Tensor | None) -> None:
        if tensor is not None and tensor.index in self.first:
            self.pinned.append(self.nodes(tensor))

    def nodes(self, tensor: Tensor) -> NDArray[Any]:
        return _nodes(self.first[tensor.index], tensor)

    def active(self, tensor: Tensor | None) -> bool:
        return tensor is not None and tensor.index in self.first

    def own(self, tensor: Tensor | None) -> bool:
        """A float constant that nothing else reads, so that it may change."""
        return (
            tensor is not None
            and tensor.constant
            and tensor.data is not None
            and tensor.dtype == "float32"
            and not tensor.sparse
            and self.users[tensor.index] == 1
        )

    def join(self, one: Tensor, other: Tensor) -> bool:
        """Channel by channel; the wider of the two repeats the narrower's."""
        import numpy as np

        wide, narrow = (one, other) if _width(one) >= _width(other) else (other, one)
        if _width(wide) % _width(narrow):
            return False
        nodes = self.nodes(narrow)
        self.joined.append((self.nodes(wide), np.tile(nodes, _width(wide) // len(nodes))))
        return True

    def passing(self, op: Operator) -> bool:
        source, result = op.inputs[0], op.outputs[0]
        if source is None or not self.active(source) or not _linear(op):
            return False
        others = [t for t in op.inputs[1:] if t is not None and self.active(t)]
        return not others and _width(source) == _width(result) and self.join(source, result)

    def moving(self, op: Operator) -> bool:
        source, result = op.inputs[0], op.outputs[0]
        if source is None or not self.active(source):
            return False
        wide, narrow = sorted((_width(source), _width(result)), reverse=True)
        return gcd(wide, narrow) == narrow and self.join(source, result)

    def reducing(self, op: Operator) -> bool:
        source, axes = op.inputs[0], integers(op.inputs[1])
        if source is None or not axes or not source.rank:
            return False
        return all(a % source.rank != source.rank - 1 for a in axes) and self.passing(op)

    def padding(self, op: Operator) -> bool:
        sides = integers(op.inputs[1])
        return sides is not None and sides[-2:] == [0, 0] and self.passing(op)

    def slicing(self, op: Operator) -> bool:
        steps = integers(op.inputs[3]) if op.op == "STRIDED_SLICE" else [1]
        source = op.inputs[0]
        if steps is None or steps[-1] != 1 or source is None or source.rank != op.outputs[0].rank:
            return False
        return self.passing(op)

    def turning(self, op: Operator) -> bool:
        order = integers(op.inputs[1])
        return order is not None and order[-1:] == [len(order) - 1] and self.passing(op)

    def concatenating(self, op: Operator) -> bool:
        result, rank = op.outputs[0], op.outputs[0].rank or 1
        sources = [t for t in op.inputs if t is not None]
        if not _linear(op) or not all(self.active(t) for t in sources):
            return False
        if int(op.options.get("axis", 0)) % rank != rank - 1:
            return all(self.join(t, result) for t in sources)
        at = self.first[result.index]
        for tensor in sources:
            nodes = self.nodes(tensor)
            self.joined.append((nodes, nodes - nodes[0] + at))
            at += len(nodes)
        return True

    def adding(self, op: Operator) -> bool:
        one, other = op.inputs[0], op.inputs[1]
        result = op.outputs[0]
        if not _linear(op) or one is None or other is None:
            return False
        if self.active(one) and self.active(other):
            alike = _width(one) == _width(other) == _width(result)
            return alike and self.join(one, result) and self.join(other, result)
        seen, constant = (one, other) if self.active(one) else (other, one)
        if not self.active(seen) or _width(seen) != _width(result):
            return False
        if not self.own(constant) or _width(constant) != _width(result):
            return False
        self.vectors.append(Vector(constant=constant, rows=self.nodes(result), columns=None))
        return self.join(seen, result)

    def multiplying(self, op: Operator) -> bool:
        one, other = op.inputs[0], op.inputs[1]
        result = op.outputs[0]
        if one is None or other is None:
            return False
        if self.active(one) and self.active(other):
            gated, gate = (one, other) if prod(one.shape or ()) >= prod(other.shape or ()) else (
                other, one)  # fmt: skip
            self.pin(gate)
            return _linear(op) and _width(gated) == _width(result) and self.join(gated, result)
        seen, constant = (one, other) if self.active(one) else (other, one)
        if not self.active(seen) or _width(seen) != _width(result):
            return False
        if not self.own(constant) or _width(constant) != _width(result):
            return _linear(op) and self.join(seen, result)
        if not _linear(op):
            self.pin(result)
        self.vectors.append(
            Vector(constant=constant, rows=self.nodes(result), columns=self.nodes(seen))
        )
        return True

    def weighing(self, op: Operator) -> bool:
        transposed = op.op == "TRANSPOSE_CONV"  # inputs: output shape, weights, source, bias
        source, weights = op.inputs[2 if transposed else 0], op.inputs[1]
        bias = next(iter(op.inputs[3 if transposed else 2 :]), None)
        if source is None or weights is None or not self.active(source) or not self.own(weights):
            return False
        if bias is not None and (bias.data is None or bias.dtype != "float32"):
            return False
        columns = self.columns(op, weights, source)
        shape, result = weights.shape or (0,), op.outputs[0]
        out = shape[-1] if op.op == "DEPTHWISE_CONV_2D" else shape[0]
        if columns is None or out != _width(result):
            return False
        if not _linear(op):
            self.pin(result)
        layer = Layer(
            operator=op.index,
            op=op.op,
            weights=weights,
            bias=bias,
            rows=self.nodes(result),
            columns=columns,
        )
        self.layers.append(layer)
        return True

    def columns(self, op: Operator, weights: Tensor, source: Tensor) -> NDArray[Any] | None:
        """The input node of each place on the weights' last axis; None for grouped convolutions."""
        import numpy as np

        nodes, across = self.nodes(source), (weights.shape or (0,))[-1]
        if across % len(nodes):
            return None
        if op.op == "DEPTHWISE_CONV_2D":
            return np.repeat(nodes, across // len(nodes))
        if op.op == "FULLY_CONNECTED":  # flattens what it is given
            return np.tile(nodes, across // len(nodes))
        return nodes if across == len(nodes) else None


def _linear(op: Operator) -> bool:
    return op.options.get("fused_activation", "NONE") in _HOMOGENEOUS


_RULES: dict[str, Callable[[_Builder, Operator], bool]] = {
    **dict.fromkeys(_TRANSPARENT.split(), _Builder.passing),
    **dict.fromkeys(_REDUCING.split(), _Builder.reducing),
    **dict.fromkeys(_MOVING.split(), _Builder.moving),
    **dict.fromkeys(_ADDING.split(), _Builder.adding),
    **dict.fromkeys(_WEIGHING.split(), _Builder.weighing),
    **dict.fromkeys(("PAD", "MIRROR_PAD"), _Builder.padding),
    **dict.fromkeys(("SLICE", "STRIDED_SLICE"), _Builder.slicing),
    "TRANSPOSE": _Builder.turning,
    "CONCATENATION": _Builder.concatenating,
    "MUL": _Builder.multiplying,
}
