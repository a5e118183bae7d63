"""Cut a model into files that run one after the other: what comes before, the body, the tail.

Each part is the original with the other operations left out. Tensors at a cut keep their type and
scale, so the chain computes what the whole did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from edgeopt.errors import InputError, ModelError
from edgeopt.facts import Operator, Subgraph, Tensor
from edgeopt.model.edit_graph import GraphEdit, drop_dead
from edgeopt.model.packing import pack
from edgeopt.model.tflite import parse

__all__ = ["Group", "Part", "alone", "around", "at_tensors", "cut", "needed_by"]

_STATE = ("ASSIGN_VARIABLE", "READ_VARIABLE", "VAR_HANDLE", "CALL_ONCE", "HASHTABLE")
_CONTROL = ("IF", "WHILE", "CALL", "STABLEHLO_WHILE", "STABLEHLO_CASE")

Group = tuple[str, frozenset[int]]  # a role ("head", "tpu", "tail") and operation indices


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file of a chain. `inputs` and `outputs` are the original's tensor indices in order, and
    `names` what they are called in the file."""

    role: str
    data: bytes
    operators: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    names: Mapping[int, str]


def needed_by(graph: Subgraph, wanted: Iterable[int]) -> set[int]:
    """Everything that these operations depend on, themselves among it."""
    makers = {t.index: op.index for op in graph.operators for t in op.outputs}
    by_index = {op.index: op for op in graph.operators}
    todo, found = list(wanted), set(wanted)
    while todo:
        for tensor in by_index[todo.pop()].inputs:
            maker = makers.get(tensor.index) if tensor is not None else None
            if maker is not None and maker not in found:
                found.add(maker)
                todo.append(maker)
    return found


def around(graph: Subgraph, body: frozenset[int], *, head: bool, tail: bool) -> list[Group]:
    """What `body` needs, the body, and the rest; without `head` or `tail` that joins the body."""
    before = needed_by(graph, body) - body if body else set()
    after = {op.index for op in graph.operators} - body - before
    middle = set(body)
    middle |= set() if head else before
    middle |= set() if tail else after
    groups = [("head", frozenset(before if head else ())), ("tpu", frozenset(middle)),
              ("tail", frozenset(after if tail else ()))]  # fmt: skip
    return [group for group in groups if group[1]]


def at_tensors(graph: Subgraph, names: Sequence[str]) -> list[Group]:
    """What makes the named tensors, and the rest. Raises InputError for a name that cannot be."""
    tensors = [_named(graph, name) for name in names]
    makers = {t.index: op.index for op in graph.operators for t in op.outputs}
    missing = [t.name for t in tensors if t.index not in makers]
    if missing:
        raise InputError(
            f"No operation makes the tensor {missing[0]!r}: it is an input or a constant.",
            "Name the result of an operation (edgeopt inspect lists them).",
        )
    first = needed_by(graph, {makers[t.index] for t in tensors})
    rest = {op.index for op in graph.operators} - first
    if not rest:
        raise InputError(
            f"Nothing comes after {', '.join(names)}: there is nothing to cut off.",
            "Name a tensor further in front.",
        )
    return [("tpu", frozenset(first)), ("tail", frozenset(rest))]


def _named(graph: Subgraph, name: str) -> Tensor:
    made = {t.index: t for op in graph.operators for t in op.outputs}
    exact = [t for t in graph.tensors if t.name == name]
    short = [t for t in made.values() if name in (t.name.partition(";")[0], t.name.split(":")[0])]
    found = exact or short
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{len(found)} tensors are called {name!r}.", "Name another tensor, or the whole name."
        )
    near = get_close_matches(name, [t.name for t in made.values()], 3, 0.4)
    guess = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
    raise InputError(
        f"There is no tensor {name!r}.{guess}", "edgeopt inspect --json lists the names."
    )


def cut(data: bytes, groups: Sequence[Group]) -> list[Part]:
    """The files of the chain, in order.

    Raises ModelError where a part would need a later one, where state is shared, or where an
    output is not the result of an operation.
    """
    graph = parse(data).subgraphs[0]
    _check(graph, groups)
    return [_part(data, graph, groups, number) for number in range(len(groups))]


def alone(data: bytes, index: int) -> bytes:
    """A model of operation `index` of the main subgraph and nothing else."""
    graph = parse(data).subgraphs[0]
    rest = frozenset(op.index for op in graph.operators) - {index}
    return _part(data, graph, [("tpu", frozenset([index])), ("tail", rest)], 0).data


def _check(graph: Subgraph, groups: Sequence[Group]) -> None:
    stateful = [op for op in graph.operators if op.op in _STATE]
    stateful += [op for op in graph.operators if any(t and t.variable for t in op.inputs)]
    place = {index: number for number, (_, members) in enumerate(groups) for index in members}
    if stateful and len({place[op.index] for op in stateful}) > 1:
        raise ModelError(
            f"{stateful[0].where} keeps state between runs, on both sides of the cut.",
            "Cut before or after all of them with --split-at.",
        )
    makers = {t.index: op.index for op in graph.operators for t in op.outputs}
    for op in graph.operators:
        for tensor in op.inputs:
            maker = makers.get(tensor.index) if tensor is not None else None
            if maker is not None and place[maker] > place[op.index]:
                raise ModelError(
                    f"{op.where} would need a later part: the graph cannot be cut there.",
                    "Cut at other tensors with --split-at.",
                )
    loose = [t.name for t in graph.outputs if t.index not in makers]
    if loose:
        raise ModelError(f"The output {loose[0]!r} is not the result of an operation.")


def _part(data: bytes, graph: Subgraph, groups: Sequence[Group], number: int) -> Part:
    role, members = groups[number]
    own = [op for op in graph.operators if op.index in members]
    others = [op for op in graph.operators if op.index not in members]
    made = {t.index for op in own for t in op.outputs}
    inputs = _ordered(graph.inputs, [t for op in own for t in _runtime(op)], made, inside=False)
    read = [t for op in others for t in _runtime(op)]
    outputs = _ordered(graph.outputs, read, made, inside=True)
    edit = GraphEdit(data)
    for op in others:
        edit.replace(op, [])
    names = _unique(edit, [*inputs, *outputs])
    edit.graph.inputs, edit.graph.outputs = list(inputs), list(outputs)
    edit.model.signatureDefs = [_signature(edit.model, inputs, outputs, names)]
    if not any(op.op in _CONTROL for op in own):
        edit.model.subgraphs = [edit.graph]
    edit.finish(sweep=False)
    drop_dead(edit.model)
    return Part(
        role=role,
        data=pack(edit.model),
        operators=tuple(sorted(members)),
        inputs=inputs,
        outputs=outputs,
        names=names,
    )


def _runtime(op: Operator) -> list[Tensor]:
    return [t for t in op.inputs if t is not None and not t.constant and not t.variable]


def _ordered(
    first: Iterable[Tensor], then: Iterable[Tensor], made: set[int], *, inside: bool
) -> tuple[int, ...]:
    """The tensors that cross the cut: the model's own in their order, then as they are read."""
    then = list(then)
    read = {t.index for t in then}
    found = [t.index for t in first if (t.index in made) == inside and (inside or t.index in read)]
    found += [t.index for t in then if (t.index in made) == inside]
    return tuple(dict.fromkeys(found))


def _unique(edit: GraphEdit, indices: Sequence[int]) -> dict[int, str]:
    """A name of its own for each tensor at the cut, written into the file where it had none."""
    names: dict[int, str] = {}
    for index in indices:
        name = (edit.graph.tensors[index].name or b"").decode("utf-8", "replace")
        if not name or name in names.values():
            name = f"{name or 'tensor'}_{index}"
            edit.graph.tensors[index].name = name.encode()
        names[index] = name
    return names


def _signature(
    model: Any, inputs: Sequence[int], outputs: Sequence[int], names: Mapping[int, str]
) -> Any:
    """One signature: under the names that the old one gave, else those of the tensors."""
    from ai_edge_litert import schema_py_generated as schema

    old = next((s for s in model.signatureDefs or [] if s.subgraphIndex == 0), None)
    made = schema.SignatureDefT()
    made.signatureKey = old.signatureKey if old is not None else b"serving_default"
    made.subgraphIndex = 0
    for side, indices in (("inputs", inputs), ("outputs", outputs)):
        known = {e.tensorIndex: e.name for e in (getattr(old, side) or [])} if old else {}
        entries = []
        for index in indices:
            entry = schema.TensorMapT()
            entry.name = known.get(index, names[index].encode())
            entry.tensorIndex = index
            entries.append(entry)
        setattr(made, side, entries)
    return made
