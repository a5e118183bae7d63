"""Walk a TensorFlow graph from its outputs, function calls unfolded, into operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from edgeopt.facts import Operator, Subgraph, Tensor
from edgeopt.model.flatbuffer import CorruptFile
from edgeopt.model.saved_model_pb import dtype_name
from edgeopt.model.tf_ops import (
    BOOKKEEPING,
    CALLS,
    PASSES,
    VARIABLES,
    node_op,
    node_options,
)
from edgeopt.model.tflite import tensor_bytes

__all__ = ["GraphReader", "Scope", "shape_tuple"]

_MAX_DEPTH = 60
_MAX_NODES = 200_000
_MAX_OUTPUTS = 10_000
_TAKES_BIAS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_3D")
_TRAINED = ("float32", "float16", "bfloat16", "float64", "int8", "uint8", "int4", "int16")
_NORMALIZES = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")


@dataclass(frozen=True, kw_only=True)
class Scope:
    """A graph or a function's body; `bound` are its arguments (or placeholders) by name.

    `uses` counts who takes each node's results.
    """

    name: str
    nodes: Mapping[str, Any]
    bound: Mapping[str, Tensor]
    uses: Mapping[str, int]
    depth: int

    @classmethod
    def of(
        cls,
        name: str,
        nodes: Iterable[Any],
        bound: Mapping[str, Tensor],
        references: Iterable[str],
        depth: int = 0,
    ) -> Scope:
        by_name = {node.name: node for node in nodes}
        uses = Counter(_name(ref) for node in by_name.values() for ref in node.inputs)
        uses.update(map(_name, references))
        return cls(name=name, nodes=by_name, bound=bound, uses=uses, depth=depth)


def shape_tuple(shape: Any) -> tuple[int, ...] | None:
    """A TensorShapeProto's sizes, -1 for an open one; None for an unknown rank."""
    return None if shape.unknown_rank else tuple(max(-1, dim.size) for dim in shape.dims)


class GraphReader:
    def __init__(self, functions: Mapping[str, Any]) -> None:
        self.functions = functions
        self.tensors: list[Tensor] = []
        self.operators: list[Operator] = []
        self.producers: dict[int, int] = {}  # operator by the tensor that it makes
        self.weights: dict[tuple[str, str], int | None] = {}  # trained values by their node
        self.visited = 0

    def tensor(
        self, name: str, shape: tuple[int, ...] | None, dtype: str, *, constant: bool = False
    ) -> Tensor:
        made = Tensor(
            index=len(self.tensors),
            name=name,
            dtype=dtype,
            shape=shape,
            constant=constant,
            size_bytes=tensor_bytes(dtype, shape),
        )
        self.tensors.append(made)
        return made

    def state(self, tensor: Tensor, shape: tuple[int, ...] | None) -> Tensor:
        """A tensor with the shape that a signature states, where the graph states none."""
        if tensor.shape is not None or shape is None:
            return tensor
        stated = replace(tensor, shape=shape, size_bytes=tensor_bytes(tensor.dtype, shape))
        self.tensors[tensor.index] = stated
        return stated

    def subgraph(self, name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Subgraph:
        """What was walked, every operator pointing at the tensors' last state."""
        latest = self.tensors
        operators = [
            replace(
                operator,
                index=index,
                inputs=tuple(None if t is None else latest[t.index] for t in operator.inputs),
                outputs=tuple(latest[t.index] for t in operator.outputs),
            )
            for index, operator in enumerate(self.operators)
        ]
        return Subgraph(
            index=0,
            name=name,
            inputs=tuple(latest[t.index] for t in inputs),
            outputs=tuple(latest[t.index] for t in outputs),
            operators=tuple(operators),
            tensors=tuple(latest),
        )

    def values(self, scope: Scope, references: Sequence[str]) -> list[Tensor]:
        """The tensors that references such as "node:0" or "node:output:0" mean."""
        if scope.depth > _MAX_DEPTH:
            raise CorruptFile("its functions call each other beyond reason")
        made: dict[str, list[Tensor]] = {name: [tensor] for name, tensor in scope.bound.items()}
        for name in _in_order(scope, references, set(made)):
            self.visited += 1
            if self.visited > _MAX_NODES:
                raise CorruptFile(f"its functions unfold to over {_MAX_NODES} nodes")
            made[name] = self._node(scope, scope.nodes[name], made)
        return [_pick(made, reference) for reference in references]

    def _node(self, scope: Scope, node: Any, made: Mapping[str, list[Tensor]]) -> list[Tensor]:
        data = [reference for reference in node.inputs if not reference.startswith("^")]
        sources = [_pick(made, reference) for reference in data]
        attributes = {entry.key: entry.value for entry in node.attrs}
        if node.op in PASSES and sources:
            return sources
        if node.op in VARIABLES or node.op == "Const":
            return [self._constant(scope, node, attributes)]
        function = attributes["f"].func.name if node.op in CALLS and "f" in attributes else node.op
        if function in self.functions:
            return self._call(scope, self.functions[function], sources)
        name = node.name
        if node.op in BOOKKEEPING:
            return []
        if node.op.startswith("Placeholder"):
            return self._results(name, attributes)
        if sources and all(t.constant for t in sources) and "Random" not in node.op:
            return self._results(name, attributes, constant=True)  # worked out at conversion
        alone = scope.uses.get(_name(data[0]) if data else "", 0) == 1
        return self._operator(node.op, name, sources, attributes, alone)

    def _constant(self, scope: Scope, node: Any, attributes: Mapping[str, Any]) -> Tensor:
        if node.op == "Const":
            value = attributes["value"].tensor
            shape, dtype = shape_tuple(value.shape), dtype_name(value.dtype)
            trained = dtype in _TRAINED and bool(shape)
        else:
            shape = shape_tuple(attributes["shape"].shape) if "shape" in attributes else None
            dtype = dtype_name(attributes["dtype"].type)
            trained = dtype in _TRAINED
        if trained:
            known = shape is not None and -1 not in shape
            self.weights[(scope.name, node.name)] = prod(shape or ()) if known else None
        return self.tensor(node.name, shape, dtype, constant=True)

    def trained_values(self) -> int | None:
        """Elements of the variables and float constants on the way; None if a shape is open."""
        counts = list(self.weights.values())
        return None if None in counts else sum(count or 0 for count in counts)

    def _call(self, scope: Scope, function: Any, sources: Sequence[Tensor]) -> list[Tensor]:
        names = [argument.name for argument in function.signature.inputs]
        if len(names) != len(sources):
            raise CorruptFile(f"{function.signature.name[:80]} is called with other arguments")
        returned = {entry.key: entry.value for entry in function.ret}
        wanted = [returned[output.name] for output in function.signature.outputs]
        bound = dict(zip(names, sources, strict=True))
        inner = Scope.of(function.signature.name, function.nodes, bound, wanted, scope.depth + 1)
        return self.values(inner, wanted)

    def _operator(
        self, op: str, name: str, sources: list[Tensor], attributes: dict[str, Any], alone: bool
    ) -> list[Tensor]:
        """One operation, or what conversion puts into the one before: a bias, a normalization.

        `alone`: nothing else takes this node's first input.
        """
        if alone and self._folds(op, sources):
            return [sources[0]] * (6 if op in _NORMALIZES else 1)
        results = self._results(name, attributes)
        if op in _NORMALIZES:
            middle = self.tensor(name, results[0].shape, results[0].dtype)
            self._add("MUL", name, sources, [middle], {})
            self._add("ADD", name, [middle], results[:1], {})
            return [results[0]] * 6
        self._add(node_op(op), name, sources, results, node_options(op, attributes))
        return results

    def _folds(self, op: str, sources: list[Tensor]) -> bool:
        """Whether the operation goes into the convolution before, which then has a bias."""
        if op in _NORMALIZES:
            return self._absorbs(sources[0], _TAKES_BIAS, (2, 3))
        constants = [t for t in sources[1:] if t.constant]
        if len(sources) != 2 or not constants or not _by_channel(constants[0], sources[0]):
            return False
        if op in ("BiasAdd", "Add", "AddV2") and self._absorbs(sources[0], _TAKES_BIAS, (2,)):
            self._absorb(sources[0], constants)
            return True
        scales = op in ("Mul", "Add", "AddV2", "Sub", "BiasAdd")
        return scales and self._absorbs(sources[0], _TAKES_BIAS, (2, 3))

    def _absorbs(self, tensor: Tensor, ops: Sequence[str], inputs: Sequence[int]) -> bool:
        index = self.producers.get(tensor.index)
        if index is None or self.operators[index].op not in ops:
            return False
        return len(self.operators[index].inputs) in inputs

    def _absorb(self, tensor: Tensor, constants: Sequence[Tensor]) -> Tensor:
        index = self.producers[tensor.index]
        operator = self.operators[index]
        self.operators[index] = replace(operator, inputs=(*operator.inputs, *constants))
        return tensor

    def _add(
        self,
        op: str,
        name: str,
        sources: Sequence[Tensor],
        results: Sequence[Tensor],
        options: Mapping[str, Any],
    ) -> None:
        for tensor in results:
            self.producers[tensor.index] = len(self.operators)
        self.operators.append(
            Operator(
                index=len(self.operators),
                subgraph=0,
                op=op,
                version=None,
                inputs=tuple(sources),
                outputs=tuple(results),
                options=options,
                layer=name,
            )
        )

    def _results(
        self, name: str, attributes: Mapping[str, Any], *, constant: bool = False
    ) -> list[Tensor]:
        """A node's outputs, as many as it states (one where it states nothing)."""
        stated = attributes["_output_shapes"].list.shapes if "_output_shapes" in attributes else []
        shapes = [shape_tuple(shape) for shape in stated]
        count = max(
            1, len(shapes), *(attributes[k].i for k in ("num_split", "num") if k in attributes)
        )
        if count > _MAX_OUTPUTS:
            raise CorruptFile(f"{name[:80]} claims {count} outputs")
        key = next((k for k in ("DstT", "dtype", "output_type", "T") if k in attributes), None)
        dtype = dtype_name(attributes[key].type) if key else "float32"
        shapes += [None] * (count - len(shapes))
        return [self.tensor(name, shape, dtype, constant=constant) for shape in shapes]


def _in_order(scope: Scope, references: Sequence[str], done: set[str]) -> Iterator[str]:
    """The nodes that the references need, each after what it needs itself; loops are cut."""
    entered = set(done)
    stack = [(name, False) for name in reversed([_name(r) for r in references])]
    while stack:
        name, leaving = stack.pop()
        if leaving:
            yield name
            continue
        if name in entered:
            continue
        entered.add(name)
        if name not in scope.nodes:
            raise CorruptFile(f"the node {name[:80]!r} is missing")
        stack.append((name, True))
        inputs = [r for r in scope.nodes[name].inputs if not r.startswith("^")]
        stack.extend((_name(reference), False) for reference in reversed(inputs))


def _name(reference: str) -> str:
    return reference.partition(":")[0]


def _by_channel(constant: Tensor, source: Tensor) -> bool:
    """A value for each of the last dimension's channels, or one for all."""
    shape, channels = constant.shape, (source.shape or (None,))[-1]
    return shape is not None and (not shape or shape[-1] in (channels, 1)) and prod(shape[:-1]) == 1


def _pick(made: Mapping[str, list[Tensor]], reference: str) -> Tensor:
    """The output that a reference means: the last part is its number where it is one."""
    name, _, rest = reference.partition(":")
    number = rest.rpartition(":")[2]
    outputs = made.get(name, [])
    index = int(number) if number.isdecimal() and len(number) < 6 else 0
    if not outputs:
        raise CorruptFile(f"the node {name[:80]!r} gives nothing, or waits for itself")
    return outputs[index] if index < len(outputs) else outputs[-1]
