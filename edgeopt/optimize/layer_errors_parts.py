"""Parts of a .tflite that run by themselves: one operation, or all that one result reaches."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgeopt.facts import Operator, Subgraph
from edgeopt.model.packing import add_buffer, pack

__all__ = ["cone", "counterparts", "decision", "part"]

_SAME_VALUE = ("QUANTIZE", "DEQUANTIZE")
_MONOTONE = ("SOFTMAX", "LOGISTIC")  # they squeeze errors; what goes into them is compared


def part(
    model: Any, operators: Sequence[int], inputs: Sequence[int], outputs: Sequence[int]
) -> bytes:
    """A .tflite of some operators of `model`'s (the schema's ModelT) main subgraph, by index, in
    order. `inputs` and `outputs` are its tensors, by index in `model`; constants come along."""
    from ai_edge_litert import schema_py_generated as schema

    source = model.subgraphs[0]
    made = schema.ModelT()
    made.version, made.operatorCodes, made.buffers = model.version, [], []
    add_buffer(made)
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [], []
    places: dict[int, int] = {}

    def place(index: int) -> int:
        if index < 0:
            return -1
        if index not in places:
            tensor = copy.copy(source.tensors[index])
            tensor.buffer = add_buffer(made)
            made.buffers[tensor.buffer].data = model.buffers[source.tensors[index].buffer].data
            graph.tensors.append(tensor)
            places[index] = len(graph.tensors) - 1
        return places[index]

    for number in operators:
        operator = copy.copy(source.operators[number])
        made.operatorCodes.append(model.operatorCodes[operator.opcodeIndex])
        operator.opcodeIndex = len(made.operatorCodes) - 1
        operator.inputs = [place(int(i)) for i in operator.inputs]
        operator.outputs = [place(int(i)) for i in operator.outputs]
        graph.operators.append(operator)
    graph.inputs = [place(i) for i in inputs]
    graph.outputs = [place(i) for i in outputs]
    made.subgraphs = [graph]
    return pack(made)


def cone(graph: Subgraph, changed: Iterable[int], ends: Iterable[int]) -> tuple[list[int], ...]:
    """What must be computed again when the tensors `changed` are: operators, the tensors that they
    read from outside, and those of `ends` that change. All by index."""
    reached, operators = set(changed), []
    for op in graph.operators:
        if any(t is not None and t.index in reached for t in op.inputs):
            operators.append(op)
            reached.update(t.index for t in op.outputs)
    wanted = [end for end in ends if end in reached]
    needed, kept = set(wanted), []
    for op in reversed(operators):
        if any(t.index in needed for t in op.outputs):
            kept.append(op)
            needed.update(t.index for t in op.inputs if t is not None and not t.constant)
    made = {t.index for op in kept for t in op.outputs}
    outside = sorted(needed - made)
    return [op.index for op in reversed(kept)], outside, wanted


def decision(graph: Subgraph) -> list[int]:
    """The tensors that an error counts in: the outputs, before a last SOFTMAX or LOGISTIC (a
    saturated probability hides what happened to its logit)."""
    makers = {t.index: op for op in graph.operators for t in op.outputs}
    found = []
    for tensor in graph.outputs:
        op = makers.get(tensor.index)
        source = op.inputs[0] if op is not None and op.op in _MONOTONE else None
        found.append(source.index if source is not None else tensor.index)
    return list(dict.fromkeys(found))


def counterparts(made: Subgraph, floats: Subgraph) -> dict[int, int]:
    """Tensors of the quantized graph to those of its float model that hold the same values: by
    name, and on both sides of a QUANTIZE or DEQUANTIZE."""
    names = {t.name: t.index for t in floats.tensors if not t.constant}
    found = {t.index: names[t.name] for t in made.tensors if not t.constant and t.name in names}
    for ours, theirs in zip(made.inputs, floats.inputs, strict=False):
        found.setdefault(ours.index, theirs.index)
    for ours, theirs in zip(made.outputs, floats.outputs, strict=False):
        found.setdefault(ours.index, theirs.index)
    for ops, forward in ((made.operators, True), (made.operators[::-1], False)):
        for op in ops:
            if op.op in _SAME_VALUE and op.inputs[0] is not None:
                _carry(op, found, forward)
    return found


def _carry(op: Operator, found: dict[int, int], forward: bool) -> None:
    source = op.inputs[0]
    assert source is not None
    known, other = (source, op.outputs[0]) if forward else (op.outputs[0], source)
    if known.index in found:
        found.setdefault(other.index, found[known.index])


def compared(made: Subgraph, same: Mapping[int, int]) -> list[Operator]:
    """Operations of the quantized graph whose results, and what they read, the float model has."""
    return [
        op
        for op in made.operators
        if op.op not in _SAME_VALUE
        and not op.custom
        and any(t is not None and not t.constant for t in op.inputs)
        and all(t is None or t.constant or t.index in same for t in op.inputs)
        and all(t.index in same and t.dtype != "int32" for t in op.outputs)
    ]
