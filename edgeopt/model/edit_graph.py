"""Change the operations of a .tflite's main subgraph: replace some, drop what nobody reads.

The reader's facts and the mutable objects stand side by side: decisions are taken on the facts,
and an operation or tensor has the same index in both.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from edgeopt.facts import Operator, Subgraph
from edgeopt.model.layer_names import layer_names
from edgeopt.model.packing import add_buffer, operator_code, pack, unpack
from edgeopt.model.schema import BUILTIN_OPERATORS, TENSOR_TYPES
from edgeopt.model.tflite import parse

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GraphEdit", "dead_operators", "drop_dead", "unread_bytes"]

# What runs for its effect, or refers to other subgraphs: never dropped, whoever reads it.
_KEPT = """
    ASSIGN_VARIABLE CALL CALL_ONCE HASHTABLE HASHTABLE_IMPORT IF READ_VARIABLE STABLEHLO_CASE
    STABLEHLO_WHILE VAR_HANDLE WHILE
"""


class GraphEdit:
    """One unpacked model. Edits gather until `finish`. Raises ModelError when `data` is damaged."""

    def __init__(self, data: bytes) -> None:
        self.model = unpack(data)
        self.facts: Subgraph = parse(data).subgraphs[0]
        self.graph = self.model.subgraphs[0]
        self.operators: list[Any] = list(self.graph.operators or [])
        self._new: dict[int, list[Any]] = {}
        self._layers: Sequence[str | None] | None = None

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        *,
        like: int | None = None,
        dtype: str = "",
        data: bytes | None = None,
        quantization: tuple[Sequence[float], Sequence[int], int] | None = None,
    ) -> int:
        """Add a tensor and return its index: of type `dtype`, or type and scales as tensor `like`.

        `quantization` is scales, zero points and the axis of several. With `data` it is a constant.
        """
        from ai_edge_litert import schema_py_generated as schema

        made = schema.TensorT() if like is None else copy.copy(self.graph.tensors[like])
        made.name, made.shape, made.hasRank = name.encode(), [int(d) for d in shape], True
        made.shapeSignature, made.isVariable, made.sparsity = None, False, None
        if dtype:
            made.type = TENSOR_TYPES.index(dtype)
        if quantization is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = [float(s) for s in quantization[0]]
            made.quantization.zeroPoint = [int(z) for z in quantization[1]]
            made.quantization.quantizedDimension = quantization[2]
        made.buffer = self._buffer(data)
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def integers(self, name: str, values: Sequence[int] | NDArray[Any]) -> int:
        """Add a constant int32 vector."""
        import numpy as np

        array = np.asarray(values, np.dtype("<i4"))
        return self.tensor(name, array.shape, dtype="int32", data=array.tobytes())

    def operator(
        self,
        op: str,
        version: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        kind: str = "",
        **options: Any,
    ) -> Any:
        """An operation that is not in the graph yet; `kind` is its options table ("Conv2D")."""
        from ai_edge_litert import schema_py_generated as schema

        made = schema.OperatorT()
        made.opcodeIndex = operator_code(self.model, op, version)
        made.inputs, made.outputs = list(inputs), list(outputs)
        if kind:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind}Options")
            made.builtinOptions = getattr(schema, f"{kind}OptionsT")()
            for name, value in options.items():
                if not hasattr(made.builtinOptions, name):
                    raise AttributeError(f"{kind}Options has no {name}")
                setattr(made.builtinOptions, name, value)
        return made

    def named(self, op: Operator) -> str:
        """An operation as a person finds it: `"block_1" (CONV_2D #3)`, by its layer's name."""
        if self._layers is None:
            self._layers = layer_names(self.facts)
        layer = self._layers[op.index]
        return f'"{layer}" ({op.op} #{op.index})' if layer else f"{op.op} #{op.index}"

    def replace(self, op: Operator, made: Sequence[Any]) -> None:
        """Put these operations in the place of `op`; none drops it."""
        self._new[op.index] = list(made)

    def version(self, op: Operator, version: int) -> None:
        """Give one operation another version, whatever others of its kind have."""
        self.operators[op.index].opcodeIndex = operator_code(self.model, op.op, version)

    def rewire(self, moved: dict[int, int]) -> None:
        """Let every reader of a tensor, the model's outputs included, read another one."""
        for operator in self.operators:
            operator.inputs = [moved.get(i, i) for i in _ints(operator.inputs)]
        self.graph.outputs = [moved.get(i, i) for i in _ints(self.graph.outputs)]
        for signature in self.model.signatureDefs or []:
            if signature.subgraphIndex == 0:
                for entry in signature.outputs or []:
                    entry.tensorIndex = moved.get(entry.tensorIndex, entry.tensorIndex)

    def finish(self, *, sweep: bool = True) -> bytes:
        """The file's bytes; with `sweep` without operations, tensors and constants nobody reads."""
        self.graph.operators = [
            made
            for index, operator in enumerate(self.operators)
            for made in self._new.get(index, [operator])
        ]
        if sweep:
            drop_dead(self.model)
        return pack(self.model)

    def _buffer(self, data: bytes | None) -> int:
        index = add_buffer(self.model)
        self.model.buffers[index].data = data
        return index


def dead_operators(model: Any) -> list[int]:
    """The operations of the main subgraph whose results reach no output of it."""
    graph = model.subgraphs[0]
    wanted = set(_ints(graph.outputs))
    for signature in model.signatureDefs or []:
        if signature.subgraphIndex == 0:
            wanted |= {int(entry.tensorIndex) for entry in signature.outputs or []}
    kept = {BUILTIN_OPERATORS.index(name) for name in _KEPT.split()}
    dead: list[int] = []
    operators = graph.operators or []
    for index in range(len(operators) - 1, -1, -1):
        op = operators[index]
        code = model.operatorCodes[op.opcodeIndex]
        lasting = max(code.builtinCode, code.deprecatedBuiltinCode) in kept
        touched = [i for i in _ints(op.inputs) if i >= 0]
        stateful = any(graph.tensors[i].isVariable for i in touched)
        if lasting or stateful or any(i in wanted for i in _ints(op.outputs)):
            wanted.update(touched)
        else:
            dead.append(index)
    return dead


def drop_dead(model: Any) -> None:
    """Remove from `model` the operations, tensors, constants and codes that nothing refers to."""
    graph = model.subgraphs[0]
    dead = set(dead_operators(model))
    graph.operators = [op for i, op in enumerate(graph.operators or []) if i not in dead]
    for number, each in enumerate(model.subgraphs):
        _drop_tensors(model, number, each)
    _drop_codes(model)
    drop_buffers(model)


def _drop_tensors(model: Any, number: int, graph: Any) -> None:
    own = [s for s in model.signatureDefs or [] if s.subgraphIndex == number]
    entries = [e for s in own for e in (*(s.inputs or []), *(s.outputs or []))]
    used = {int(i) for i in (*_ints(graph.inputs), *_ints(graph.outputs))}
    used |= {int(e.tensorIndex) for e in entries}
    for op in graph.operators or []:
        used.update((*_ints(op.inputs), *_ints(op.outputs), *_ints(op.intermediates)))
    places = {old: new for new, old in enumerate(sorted(i for i in used if i >= 0))}
    places[-1] = -1
    graph.tensors = [t for i, t in enumerate(graph.tensors) if i in places]
    graph.inputs = [places[i] for i in _ints(graph.inputs)]
    graph.outputs = [places[i] for i in _ints(graph.outputs)]
    for op in graph.operators or []:
        op.inputs = [places[i] for i in _ints(op.inputs)]
        op.outputs = [places[i] for i in _ints(op.outputs)]
        if op.intermediates is not None:
            op.intermediates = [places[i] for i in _ints(op.intermediates)]
    for entry in entries:
        entry.tensorIndex = places[int(entry.tensorIndex)]


def _drop_codes(model: Any) -> None:
    used = sorted({op.opcodeIndex for g in model.subgraphs for op in g.operators or []})
    places = {old: new for new, old in enumerate(used)}
    model.operatorCodes = [model.operatorCodes[i] for i in used]
    for graph in model.subgraphs:
        for op in graph.operators or []:
            op.opcodeIndex = places[op.opcodeIndex]


def unread_bytes(model: Any) -> int:
    """Bytes of constants that no tensor and no metadata refers to."""
    used = set(_buffers_used(model))
    return sum(len(b.data) for i, b in enumerate(model.buffers) if b.data and i not in used)


def drop_buffers(model: Any) -> None:
    """Remove the buffers that nothing refers to; buffer 0 stays, which stands for "none"."""
    used = sorted({0, *_buffers_used(model)} & set(range(len(model.buffers))))
    places = {old: new for new, old in enumerate(used)}
    model.buffers = [model.buffers[i] for i in used]
    for graph in model.subgraphs:
        for tensor in graph.tensors or []:
            tensor.buffer = places[tensor.buffer]
    for entry in model.metadata or []:
        entry.buffer = places.get(entry.buffer, 0)
    if model.metadataBuffer is not None:
        model.metadataBuffer = [places[i] for i in _ints(model.metadataBuffer) if i in places]


def _buffers_used(model: Any) -> Iterable[int]:
    yield from (int(t.buffer) for g in model.subgraphs for t in g.tensors or [])
    yield from (int(entry.buffer) for entry in model.metadata or [])
    yield from _ints(model.metadataBuffer)


def _ints(values: Any) -> list[int]:
    return [] if values is None else [int(value) for value in values]
