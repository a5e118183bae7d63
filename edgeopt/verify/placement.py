"""Where each operation will run: predicted from the profile, or read from a compiled file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush

from edgeopt.errors import ModelError
from edgeopt.facts import ModelFacts, Operator
from edgeopt.findings import OpPlacement, Placement
from edgeopt.model.edgetpu_payload import read_payload
from edgeopt.model.layer_names import layer_names
from edgeopt.profile import HardwareProfile
from edgeopt.verify.graph import Graph
from edgeopt.verify.operations import Judgement, judge

__all__ = ["Survey", "partitions", "predict", "survey"]


def predict(facts: ModelFacts, profile: HardwareProfile) -> Placement | None:
    """How the model will be divided; None where its file has layers rather than operations.

    A prediction: `source` says so. A compiled file states its division itself ("compiled_file";
    then `ops_total` counts its own operations, those inside the compiled ones not among them).
    """
    if facts.format != "tflite":
        return None
    if compiled := profile.compiled(facts):
        return _of_compiled_file(facts, profile, {id(op) for op in compiled})
    operators = tuple(facts.operators())
    layers = _layers(facts)
    if not profile.accelerated:
        ops = tuple(
            OpPlacement(index=o.index, op=o.op, placement="cpu", layer=layers[id(o)])
            for o in operators
        )
        return _placement("predicted", ops, subgraphs=0, place="cpu")
    main = facts.subgraphs[0]
    found = survey(facts, profile)
    ops = tuple(
        replace(_place(op, verdict, index in found.chosen, profile), layer=layers[id(op)])
        for index, (op, verdict) in enumerate(zip(main.operators, found.judged, strict=True))
    )
    rest = tuple(
        replace(_elsewhere(op), layer=layers[id(op)])
        for op in operators
        if op.subgraph != main.index
    )
    place = profile.partition.place
    return _placement("predicted", ops + rest, subgraphs=int(bool(found.chosen)), place=place)


def partitions(
    graph: Graph, operators: Sequence[Operator], supported: Sequence[bool]
) -> list[tuple[bool, list[int]]]:
    """Runs of equal kind in dependency order, as indices into `operators`.

    TensorFlow Lite's PartitionGraphIntoIndependentNodeSubsets (tensorflow/lite/graph_info.cc): the
    first operation that is ready sets a run's kind, and the run takes every operation of that kind
    that is or becomes ready, wherever it stands in the list.
    """
    waits, readers = _dependencies(graph, operators)
    ready: dict[bool, list[int]] = {True: [], False: []}
    for index in range(len(operators)):
        if not waits[index]:
            heappush(ready[supported[index]], index)
    found: list[tuple[bool, list[int]]] = []
    done: set[int] = set()
    while ready[True] or ready[False]:
        kind = min((heap[0], kind) for kind, heap in ready.items() if heap)[1]
        taken: list[int] = []
        while ready[kind]:
            taken.append(index := heappop(ready[kind]))
            for tensor in operators[index].outputs:
                if tensor.index not in done:
                    done.add(tensor.index)
                    for reader in readers.get(tensor.index, ()):
                        waits[reader] -= 1
                        if not waits[reader]:
                            heappush(ready[supported[reader]], reader)
        found.append((kind, sorted(taken)))
    return found  # what waits on itself is in no run: such a file does not load anywhere


def _dependencies(
    graph: Graph, operators: Sequence[Operator]
) -> tuple[list[int], dict[int, list[int]]]:
    """How many tensors each operation waits for, and which operations wait for each tensor."""
    made = {t.index for op in operators for t in op.outputs}
    waits: list[int] = []
    readers: dict[int, list[int]] = {}
    for index, op in enumerate(operators):
        needed = [t.index for t in graph.inputs(op) if t.index in made]
        waits.append(len(needed))
        for tensor in needed:
            readers.setdefault(tensor, []).append(index)
    return waits, readers


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The first subgraph under one profile: what becomes of each operation, in file order."""

    graph: Graph
    judged: tuple[Judgement, ...]
    chosen: frozenset[int]


def survey(facts: ModelFacts, profile: HardwareProfile) -> Survey:
    """Judge every operation, and choose the partition that goes to the accelerator."""
    graph = Graph(facts.subgraphs[0])
    operators = graph.subgraph.operators
    judged = tuple(judge(op, graph, profile) for op in operators)
    chosen = _chosen(graph, operators, judged, profile)
    return Survey(graph=graph, judged=judged, chosen=frozenset(chosen))


def _chosen(
    graph: Graph,
    operators: Sequence[Operator],
    judged: Sequence[Judgement],
    profile: HardwareProfile,
) -> set[int]:
    """The operations of the one partition that goes to the accelerator."""
    expanders = {i for i, op in enumerate(operators) if graph.expands_constant(op)}
    rest = [i for i in range(len(operators)) if i not in expanders]
    parts = partitions(graph, [operators[i] for i in rest], [judged[i].supported for i in rest])
    taken = [[rest[i] for i in part] for kind, part in parts if kind]
    if not taken:
        return set()
    picked = taken[0] if profile.partition.pick == "first" else max(taken, key=len)
    # Weights kept in float16 are read as such, and their DEQUANTIZE goes along, only when nothing
    # else stays behind (LiteRT tflite/delegates/utils.cc:236).
    return set(picked) | (expanders if len(picked) == len(rest) else set())


def _place(op: Operator, verdict: Judgement, chosen: bool, profile: HardwareProfile) -> OpPlacement:
    if chosen:
        place = profile.partition.place
        return OpPlacement(index=op.index, op=op.op, placement=place, certain=verdict.certain)
    if not verdict.supported:
        return OpPlacement(
            index=op.index,
            op=op.op,
            placement="cpu",
            reason=verdict.reason,
            hint=verdict.hint,
            cause=verdict.cause,
            phrase=verdict.phrase,
        )
    return OpPlacement(
        index=op.index,
        op=op.op,
        placement="cpu",
        reason=f"supported, but outside the {profile.partition.pick} partition",
        hint="Remove or move the unsupported operation that divides the graph.",
        cause="outside_partition",
        phrase=profile.phrases.get("outside_partition"),
        certain=verdict.certain,
    )


def _elsewhere(op: Operator) -> OpPlacement:
    reason = f"in subgraph {op.subgraph}; only the first one is accelerated"
    return OpPlacement(
        index=op.index, op=op.op, placement="cpu", reason=reason, cause="other_subgraph"
    )


def _layers(facts: ModelFacts) -> dict[int, str | None]:
    """By the identity of the operator: indices repeat in each subgraph."""
    return {
        id(op): name
        for graph in facts.subgraphs
        for op, name in zip(graph.operators, layer_names(graph), strict=True)
    }


def _of_compiled_file(facts: ModelFacts, profile: HardwareProfile, compiled: set[int]) -> Placement:
    place = profile.partition.place
    layers = _layers(facts)
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
        payload = read_payload(facts)
    except ModelError:  # a violation for `check` to report; here its sizes are not known
        payload = ()
    if not payload:
        return found
    return replace(
        found,
        on_chip_bytes=sum(part.on_chip_bytes for part in payload),
        off_chip_bytes=sum(part.off_chip_bytes for part in payload),
    )


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
