"""Where each operation will run: predicted from the profile, or read from a compiled file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from edgeopt.errors import ModelError
from edgeopt.facts import ModelFacts, Operator
from edgeopt.findings import OpPlacement, Placement
from edgeopt.model.compiled import read_parts
from edgeopt.model.layer_names import layers_of
from edgeopt.profile import HardwareProfile
from edgeopt.verify.graph import Graph
from edgeopt.verify.operations import Judgement, judge
from edgeopt.verify.partition import Choice

__all__ = ["Survey", "predict", "survey"]

_ALL_WAYS = 5  # uncertain operations of which every combination is tried: 32
_EACH_WAY = 64  # and of which each is turned by itself
_WORK = 64_000  # fewer in a graph of more than a thousand operations: each way divides it anew


def predict(facts: ModelFacts, profile: HardwareProfile) -> Placement | None:
    """How the model will be divided; None where its file has layers rather than operations.

    A prediction: `source` says so, and operations that may run here or there are not `certain`.
    A compiled file states its division itself ("compiled_file"; then `ops_total` counts its own
    operations, those inside the compiled ones not among them).
    """
    if facts.format != "tflite":
        return None
    if compiled := profile.compiled(facts):
        return _of_compiled_file(facts, profile, {id(op) for op in compiled})
    operators = tuple(facts.operators())
    layers = layers_of(facts)
    if not profile.accelerated:
        ops = tuple(
            OpPlacement(index=o.index, op=o.op, placement="cpu", layer=layers[id(o)])
            for o in operators
        )
        return _placement("predicted", ops, subgraphs=0, place="cpu")
    main = facts.subgraphs[0]
    found = survey(facts, profile)
    ops = tuple(replace(_place(op, found, profile), layer=layers[id(op)]) for op in main.operators)
    rest = tuple(replace(_elsewhere(op), layer=layers[id(op)]) for op in operators if op.subgraph)
    placement = _placement(
        "predicted",
        ops + rest,
        subgraphs=found.parts,
        place=profile.partition.place,
    )
    span = found.mapped_range if found.uncertain else None
    return replace(placement, ops_uncertain=len(found.uncertain), ops_mapped_range=span)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The first subgraph under one profile: what becomes of each operation, in file order.

    `chosen` are the operations that go to the accelerator if it takes all that it may take;
    `uncertain` those whose place depends on one that it may refuse, with `mapped_range` the least
    and the most that go there. `parts` is how many the chosen ones form.
    """

    graph: Graph
    judged: tuple[Judgement, ...]
    chosen: frozenset[int]
    uncertain: frozenset[int] = frozenset()
    mapped_range: tuple[int, int] = (0, 0)
    parts: int = 0


def survey(facts: ModelFacts, profile: HardwareProfile) -> Survey:
    """Judge every operation, and choose the partition that goes to the accelerator."""
    graph = Graph(facts.subgraphs[0])
    judged = tuple(judge(op, graph, profile) for op in graph.subgraph.operators)
    choice = Choice(graph, profile.partition.pick)
    ways = [choice.of(supported) for supported in _ways(judged)]
    sizes = [len(way) for way in ways]
    return Survey(
        graph=graph,
        judged=judged,
        chosen=ways[0],
        uncertain=frozenset.union(*ways) - frozenset.intersection(*ways),
        mapped_range=(min(sizes), max(sizes)),
        parts=choice.parts([verdict.supported for verdict in judged]) if ways[0] else 0,
    )


def _ways(judged: Sequence[Judgement]) -> Iterator[list[bool]]:
    """What may be supported: first everything uncertain, then nothing of it, then parts of it.

    Few uncertain operations are tried in every combination, more of them each by itself.
    """
    taken = [verdict.supported for verdict in judged]
    doubtful = [i for i, verdict in enumerate(judged) if verdict.supported and not verdict.certain]
    yield taken
    if not doubtful:
        return
    refused = list(taken)
    for index in doubtful:
        refused[index] = False
    yield refused
    if len(doubtful) <= _ALL_WAYS:
        for some in product((True, False), repeat=len(doubtful)):
            way = list(refused)
            for index, supported in zip(doubtful, some, strict=True):
                way[index] = supported
            yield way
        return
    for index in doubtful[: min(_EACH_WAY, _WORK // len(taken))]:
        yield [supported or i == index for i, supported in enumerate(refused)]
        yield [supported and i != index for i, supported in enumerate(taken)]


def _place(op: Operator, found: Survey, profile: HardwareProfile) -> OpPlacement:
    index = op.index
    verdict, certain = found.judged[index], index not in found.uncertain
    here = OpPlacement(index=index, op=op.op, placement="cpu", certain=certain)
    if index in found.chosen:
        mapped = replace(here, placement=profile.partition.place)
        return mapped if certain else _doubted(mapped, found)
    if not verdict.supported:
        return replace(
            here,
            reason=verdict.reason,
            hint=verdict.hint,
            cause=verdict.cause,
            phrase=verdict.phrase,
        )
    return replace(
        here,
        reason=f"supported, but outside the {profile.partition.pick} partition",
        hint="Remove or move the unsupported operation that divides the graph.",
        cause="outside_partition",
        # One that may be refused itself may get the phrase for that instead.
        phrase=profile.phrases.get("outside_partition") if verdict.certain else None,
    )


def _doubted(mapped: OpPlacement, found: Survey) -> OpPlacement:
    """Mapped if all goes well: what may keep it on the CPU."""
    verdict = found.judged[mapped.index]
    if not verdict.certain:
        return replace(mapped, reason=verdict.reason, hint=verdict.hint, cause=verdict.cause)
    operators = found.graph.subgraph.operators
    causes = [
        f"{operators[i].op} #{i}"
        for i, other in enumerate(found.judged)
        if other.supported and not other.certain
    ]
    more = f" and {len(causes) - 3} more" if len(causes) > 3 else ""
    return replace(
        mapped,
        reason=f"depends on whether the compiler maps {', '.join(causes[:3])}{more}",
        cause="depends_on_uncertain",
    )


def _elsewhere(op: Operator) -> OpPlacement:
    reason = f"in subgraph {op.subgraph}; only the first one is accelerated"
    return OpPlacement(
        index=op.index, op=op.op, placement="cpu", reason=reason, cause="other_subgraph"
    )


def _of_compiled_file(facts: ModelFacts, profile: HardwareProfile, compiled: set[int]) -> Placement:
    place = profile.partition.place
    layers = layers_of(facts)
    ops = tuple(
        OpPlacement(index=op.index, op=op.op, placement=place)
        if id(op) in compiled
        else OpPlacement(
            index=op.index,
            op=op.op,
            placement="cpu",
            reason="the compiler left it to the CPU",
            cause="left_by_compiler",
            layer=layers[id(op)],
        )
        for op in facts.operators()
    )
    found = _placement("compiled_file", ops, subgraphs=len(compiled), place=place)
    try:
        payload = read_parts(facts)
    except ModelError:  # a violation for `check` to report; here its sizes are not known
        payload = ()
    on_chip = [part.on_chip_bytes for part in payload if part.on_chip_bytes is not None]
    off_chip = [part.off_chip_bytes for part in payload if part.off_chip_bytes is not None]
    if not on_chip:
        return found
    return replace(found, on_chip_bytes=sum(on_chip), off_chip_bytes=sum(off_chip))


def _placement(
    source: str, ops: tuple[OpPlacement, ...], *, subgraphs: int, place: str
) -> Placement:
    mapped = 0 if place == "cpu" else sum(op.placement == place for op in ops)
    return Placement(
        source=source,
        ops_total=len(ops),
        ops_mapped=mapped,
        ops_cpu=len(ops) - mapped,
        subgraphs=subgraphs,
        ops=ops,
    )
