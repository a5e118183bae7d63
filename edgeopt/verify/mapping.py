"""Prove which operations of a source model are inside each partition of a compiled one.

Every operation that the compiler kept is paired with its equal in the source (`mapping_match`); a
partition names the tensors it reads and writes, and what lies between them in the source is inside.
The payload's own list of layers must be those tensors, and a sample of the weights must be in it
(`mapping_weights`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeopt.errors import InputError
from edgeopt.facts import ModelFacts, Operator, Tensor
from edgeopt.findings import Placement
from edgeopt.model.compiled import compiled_format, holds_code, is_compiled
from edgeopt.verify.graph import Graph
from edgeopt.verify.mapping_match import Contradiction, Pairs
from edgeopt.verify.mapping_shared import inside_shared, kept_by_name
from edgeopt.verify.mapping_weights import weights_found

__all__ = ["Comparison", "Disagreement", "MappedPartition", "Mapping", "compare", "prove"]

_MIN_LIMIT = 64 << 20


@dataclass(frozen=True, kw_only=True)
class MappedPartition:
    """`operator` is the partition's index in the compiled file, `source_ops` those in the source.
    `inputs` and `outputs` are the source's names of the tensors at its border, with their bytes."""

    operator: int
    source_ops: tuple[int, ...]
    inputs: tuple[tuple[str, int | None], ...]
    outputs: tuple[tuple[str, int | None], ...]
    place: str
    weights: tuple[int, int]  # groups of four that were looked for in the payload, and found

    def to_json(self) -> dict[str, Any]:
        return {
            "operator": self.operator,
            "source_ops": list(self.source_ops),
            "inputs": [{"name": name, "size_bytes": size} for name, size in self.inputs],
            "outputs": [{"name": name, "size_bytes": size} for name, size in self.outputs],
            "weights": {"sampled": self.weights[0], "found": self.weights[1]},
        }


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """Where each operation of the source's first subgraph is, by index.

    `covers` is "model", or "segment" for one part of a pipeline; then `elsewhere_ops` are in the
    others. `unused_ops` have no effect on any output. `proven` is False as soon as there is one of
    `problems`; what a file contradicts outright raises ModelError instead.
    """

    covers: str
    partitions: tuple[MappedPartition, ...]
    cpu_ops: tuple[int, ...]
    unused_ops: tuple[int, ...]
    elsewhere_ops: tuple[int, ...]
    problems: tuple[str, ...]

    @property
    def proven(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {
            "covers": self.covers,
            "proven": self.proven,
            "problems": list(self.problems),
            "partitions": [p.to_json() for p in self.partitions],
            "cpu_ops": list(self.cpu_ops),
            "unused_ops": list(self.unused_ops),
            "elsewhere_ops": list(self.elsewhere_ops),
        }

    def places(self) -> dict[int, str]:
        """Index of a source operation to its place; those that are nowhere left out."""
        found = dict.fromkeys(self.cpu_ops, "cpu")
        for partition in self.partitions:
            found.update(dict.fromkeys(partition.source_ops, partition.place))
        return found


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """One operation that is not where it was predicted to be."""

    index: int
    op: str
    layer: str
    predicted: str
    actual: str
    certain: bool
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A prediction held against the compiled file; `compared` counts the operations."""

    compared: int
    disagreements: tuple[Disagreement, ...]

    @property
    def agrees(self) -> bool:
        return not self.disagreements

    def to_json(self) -> dict[str, Any]:
        return {
            "agrees": self.agrees,
            "compared": self.compared,
            "disagreements": [d.to_json() for d in self.disagreements],
        }


def prove(compiled: ModelFacts, source: ModelFacts) -> Mapping:
    """Find every operation of `source` in `compiled`.

    Raises ModelError when `compiled` holds what `source` does not, CorruptFile for a damaged
    payload, InputError when the two files are not a compiled one and one from before compiling.
    """
    _refuse_wrong_kinds(compiled, source)
    limit = max(_MIN_LIMIT, 4 * max(compiled.size_bytes, source.size_bytes))
    custom = [op for op in compiled.subgraphs[0].operators if holds_code(op)]
    try:
        pairs = Pairs(source.subgraphs[0], compiled.subgraphs[0], limit)
    except Contradiction as error:
        if any(compiled_format(op).shares_memory for op in custom):
            return _by_names(source, compiled, error)
        raise
    return _by_structure(pairs, custom, source, compiled)


def _by_structure(
    pairs: Pairs, custom: Sequence[Operator], source: ModelFacts, compiled: ModelFacts
) -> Mapping:
    problems = [*_rest_unlike(compiled, source), *_payload_unlike(compiled)]
    problems += [f"{op.where} is like several operations of the source" for op in pairs.open[:8]]
    left = set(pairs.operators.values())
    owner: dict[int, int] = {}
    partitions = []
    for op in custom:
        shared = compiled_format(op).shares_memory
        inside = (
            inside_shared(pairs, op, custom, {*left, *owner})
            if shared
            else _inside(pairs, op, left, problems)
        )
        if twice := inside & owner.keys():
            first = pairs.source.subgraph.operators[min(twice)]
            problems.append(f"{first.where} is needed inside two partitions")
        owner.update(dict.fromkeys(inside, op.index))
        partitions.append(part := _partition(pairs, op, inside))
        if 2 * part.weights[1] < part.weights[0]:
            problems.append(
                f"of {part.weights[0]} samples of the source's weights {part.weights[1]} are in "
                f"{op.where}: it was compiled from other weights"
            )
    used = _needed(pairs.source, [t.index for t in source.outputs], set())
    every = {op.index for op in pairs.source.subgraph.operators}
    missing = every - left - owner.keys()
    lost = missing & used
    if lost and not pairs.segment:
        first = pairs.source.subgraph.operators[min(lost)]
        problems.append(f"{len(lost)} operations are in no partition and not kept: {first.where}")
    return Mapping(
        covers="segment" if pairs.segment else "model",
        partitions=tuple(partitions),
        cpu_ops=tuple(sorted(left)),
        unused_ops=tuple(sorted(missing - used)),
        elsewhere_ops=tuple(sorted(lost)),
        problems=tuple(dict.fromkeys(problems)),
    )


def _by_names(source: ModelFacts, compiled: ModelFacts, error: Contradiction) -> Mapping:
    """Where a compiler rewrites what it keeps, so that structure does not tell: not proven."""
    left = kept_by_name(source.subgraphs[0], compiled.subgraphs[0])
    if left is None:
        raise error
    first = next(op for op in compiled.subgraphs[0].operators if holds_code(op))
    rest = tuple(op.index for op in source.subgraphs[0].operators if op.index not in left)
    part = MappedPartition(
        operator=first.index,
        source_ops=rest,
        inputs=(),
        outputs=(),
        place=compiled_format(first).place,
        weights=(0, 0),
    )
    told = "the compiler changed what it left to the CPU, which is told by names alone"
    return Mapping(
        covers="model",
        partitions=(part,),
        cpu_ops=tuple(sorted(left)),
        unused_ops=(),
        elsewhere_ops=(),
        problems=(told,),
    )


def _refuse_wrong_kinds(compiled: ModelFacts, source: ModelFacts) -> None:
    if not is_compiled(compiled):
        raise InputError(
            f"{compiled.path} is not compiled for any accelerator: there is no mapping to prove.",
            "Give the compiled file as MODEL and the one from before compiling as --source.",
        )
    if source.format != "tflite" or is_compiled(source):
        what = "compiled itself" if source.format == "tflite" else f"a {source.format} model"
        raise InputError(
            f"{source.path} cannot be the source of a compiled file: it is {what}.",
            "Give the integer .tflite that the compiler was given.",
        )


def _rest_unlike(compiled: ModelFacts, source: ModelFacts) -> Iterable[str]:
    """Subgraphs after the first are never compiled: they must be the same."""
    for a, b in zip(compiled.subgraphs[1:], source.subgraphs[1:], strict=False):
        if [o.op for o in a.operators] != [o.op for o in b.operators]:
            yield f"subgraph {a.index} has other operations than in the source"
    if len(compiled.subgraphs) != len(source.subgraphs):
        yield f"it has {len(compiled.subgraphs)} subgraphs and the source {len(source.subgraphs)}"


def _payload_unlike(compiled: ModelFacts) -> Iterable[str]:
    """What a part says of itself must be what its operator says."""
    for op in filter(holds_code, compiled.operators()):
        form = compiled_format(op)
        yield from form.unlike(op, form.read(op))


def _inside(pairs: Pairs, op: Operator, left: set[int], problems: list[str]) -> set[int]:
    """The source operations between the tensors that a partition reads and those it writes."""
    inputs = compiled_format(op).inputs(op)
    lost = [t for t in (*inputs, *op.outputs) if t.index not in pairs.tensors]
    read = {pairs.tensors[t.index] for t in inputs if t.index in pairs.tensors}
    unused = [t for t in lost if t in op.outputs and t.index not in pairs.compiled.consumers]
    if len(unused) != len(lost):
        first = next(t for t in lost if t not in unused)
        problems.append(f"tensor {first.name[:80]!r} of {op.where} was not found in the source")
        return set()
    written = [pairs.tensors[t.index] for t in op.outputs if t.index in pairs.tensors]
    inside = _needed(pairs.source, written, read)
    operators = pairs.source.subgraph.operators
    if both := inside & left:
        raise Contradiction(f"{operators[min(both)].where} is kept and needed inside {op.where}")
    given = {t.index for t in pairs.source.subgraph.inputs}
    for index in sorted(inside):
        for tensor in pairs.source.inputs(operators[index]):
            if tensor.index in given - read:
                raise Contradiction(f"{op.where} does not read the input {tensor.name[:80]!r}")
    return inside


def _needed(graph: Graph, tensors: Sequence[int], stop: set[int]) -> set[int]:
    """The operations that make `tensors`, back to the tensors in `stop`."""
    found: set[int] = set()
    waiting = [index for index in tensors if index not in stop]
    while waiting:
        maker = graph.producer.get(waiting.pop())
        if maker is not None and maker.index not in found:
            found.add(maker.index)
            waiting += [t.index for t in graph.inputs(maker) if t.index not in stop]
    return found


def _partition(pairs: Pairs, op: Operator, inside: set[int]) -> MappedPartition:
    form, tensors = compiled_format(op), pairs.source.subgraph.tensors
    sources = [pairs.source.subgraph.operators[i] for i in inside]

    def border(found: Sequence[Tensor]) -> tuple[tuple[str, int | None], ...]:
        known = [pairs.tensors[t.index] for t in found if t.index in pairs.tensors]
        return tuple((tensors[i].name, tensors[i].size_bytes) for i in known)

    return MappedPartition(
        operator=op.index,
        source_ops=tuple(sorted(inside)),
        inputs=border(form.inputs(op)),
        outputs=border(op.outputs),
        place=form.place,
        weights=weights_found(sources, form.parameters(op)) if form.parameters else (0, 0),
    )


def compare(mapping: Mapping, predicted: Placement, source: ModelFacts) -> Comparison:
    """Each operation of the source whose place in the compiled file is not the predicted one."""
    actual = mapping.places()
    operators = source.subgraphs[0].operators
    found = []
    for op, place in zip(operators, predicted.ops, strict=False):
        there = actual.get(op.index)
        if there is not None and there != place.placement:
            name = place.layer or op.layer or (op.outputs[0].name if op.outputs else "")
            found.append(
                Disagreement(
                    index=op.index,
                    op=op.op,
                    layer=name,
                    predicted=place.placement,
                    actual=there,
                    certain=place.certain,
                    reason=place.reason,
                )
            )
    return Comparison(compared=len(actual), disagreements=tuple(found))
