"""Events of many runs as rows: each operator of the file with its time, and what belongs to none.

A row is of one operator, by the index that the profiler gives; or of a kernel inside a delegate
that can be told to one operator (profile_partition); or of all the others of a partition. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgeopt.device.profiling.answer import Event, RawProfile, Trace
from edgeopt.device.profiling.partition import aligned, partitions
from edgeopt.facts import ModelFacts, Operator, Subgraph

__all__ = ["Group", "Row", "inside_us", "rows_of", "same_operation"]

OPERATOR, DELEGATED = 2, (4, 8)  # kinds of events


@dataclass(kw_only=True)
class Row:
    """`operator` None: the time belongs to no operator of the file. `us` is one sum for each run,
    None where nothing was measured. `nested` rows are inside the time of a control operator."""

    operator: Operator | None
    name: str
    us: list[int] | None
    matched: str  # "index", "order", or "" for what is not matched
    kernel: str = ""
    partition: int | None = None
    nested: bool = False
    calls: float = 0.0  # in a run


@dataclass(kw_only=True)
class Group:
    """The kernels of one execution of one delegated partition, in the order in which they ran."""

    subgraph: int
    kernels: tuple[str, ...]
    members: tuple[int, ...] | None = None  # operators by index; None: cannot be told
    times: list[list[int]] = field(default_factory=list)  # of each kernel, one for each run
    calls: float = 1.0


_Key = tuple[int, int]  # subgraph, index of the operator


def rows_of(raw: RawProfile, facts: ModelFacts) -> tuple[list[Row], list[Group]]:
    """All rows in the order of the file, then what belongs to no operator; the partitions."""
    runs = sum(trace.runs for trace in raw.traces)
    alone: dict[_Key, list[int]] = {}
    calls: dict[_Key, int] = {}
    groups: list[Group] = []
    unknown: dict[str, list[int]] = {}
    known = {(op.subgraph, op.index): op for op in facts.operators()}
    done = 0
    for trace in raw.traces:
        for event, times in zip(trace.events, trace.elapsed_us, strict=True):
            if event.kind == OPERATOR:
                key = (event.subgraph, event.index)
                mine = key in known and same_operation(event.tag, known[key])
                if mine:
                    _add(alone.setdefault(key, [0] * runs), times, done)
                    calls[key] = calls.get(key, 0) + trace.runs
                else:
                    _add(unknown.setdefault(event.tag, [0] * runs), times, done)
        _group(trace, groups, runs, done)
        done += trace.runs
    for group in groups:
        group.calls /= runs
    _tell(raw.traces, facts, groups, set(alone))
    rows = []
    for key, op in known.items():
        if key in alone:
            count = calls[key] / runs
            rows.append(_row(op, us=alone[key], matched="index", calls=count))
        else:
            rows.append(_row(op, us=None, matched=""))
    rest = _delegated(rows, groups, runs)
    strangers = [
        Row(operator=None, name=tag, us=us, matched="") for tag, us in unknown.items() if any(us)
    ]
    return rows + rest + strangers, groups


def inside_us(raw: RawProfile) -> list[int]:
    """How long the runtime itself says that each profiled inference took."""
    found: list[int] = []
    for trace in raw.traces:
        total = [0] * trace.runs
        for event, times in zip(trace.events, trace.elapsed_us, strict=True):
            if event.kind == 1 and event.tag == "Invoke" and event.subgraph == 0:
                _add(total, times, 0)
        found += total
    return found


def same_operation(tag: str, op: Operator) -> bool:
    """Whether the profiler's name is the operator's: builtin names are equal, a custom operator
    goes by its own."""
    return tag == op.op or (op.custom and tag in ("CUSTOM", op.op, f"Custom:{op.op}"))


def _row(op: Operator, *, us: list[int] | None, matched: str, calls: float = 0.0) -> Row:
    return Row(
        operator=op, name=op.op, us=us, matched=matched, nested=op.subgraph != 0, calls=calls
    )


def _add(total: list[int], times: Sequence[int], at: int) -> None:
    for position, value in enumerate(times, at):
        total[position] += value


def _group(trace: Trace, groups: list[Group], runs: int, at: int) -> None:
    """Collect the delegate's events: a partition is the same when its kernels are the same and it
    is the same in order within its subgraph."""
    seen: dict[tuple[int, tuple[str, ...]], int] = {}
    for first, last in _spans(trace.events):
        names = tuple(event.tag for event in trace.events[first:last])
        subgraph = trace.events[first].subgraph
        # In a loop one partition runs again and again: then only its sum is known, not its turn.
        number = seen.get((subgraph, names), 0) if subgraph == 0 else 0
        seen[subgraph, names] = number + 1
        same = [g for g in groups if g.subgraph == subgraph and g.kernels == names]
        if number < len(same):
            group = same[number]
        else:
            group = Group(subgraph=subgraph, kernels=names, calls=0.0)
            group.times = [[0] * runs for _ in names]
            groups.append(group)
        group.calls += trace.runs
        for times, column in zip(group.times, trace.elapsed_us[first:last], strict=True):
            _add(times, column, at)


def _spans(events: Sequence[Event]) -> list[tuple[int, int]]:
    """From where to where each partition's kernels go: their numbers begin again at 0."""
    found: list[tuple[int, int]] = []
    for at, event in enumerate(events):
        if event.kind not in DELEGATED:
            continue
        last = events[at - 1] if at else event
        new = at == 0 or last.kind not in DELEGATED
        if new or event.index <= last.index or event.subgraph != last.subgraph:
            found.append((at, at + 1))
        else:
            found[-1] = (found[-1][0], at + 1)
    return found


def _tell(
    traces: Sequence[Trace], facts: ModelFacts, groups: Sequence[Group], alone: set[_Key]
) -> None:
    """Which operators each partition holds, for subgraphs that always run in one order."""
    for graph in facts.subgraphs:
        mine = [group for group in groups if group.subgraph == graph.index]
        order = _order(traces, graph)
        if not mine or order is None:
            continue
        there = {index for number, index in alone if number == graph.index}
        found = partitions(graph, there, order)
        if found is not None and len(found) == len(mine):
            for group, members in zip(mine, found, strict=True):
                group.members = members


def _order(traces: Sequence[Trace], graph: Subgraph) -> list[int | None] | None:
    """What the subgraph ran: an operator's index, or None for a partition. None when runs differ;
    of one that runs in a loop, the first turn."""
    orders = []
    for trace in traces:
        starts = {first for first, _ in _spans(trace.events)}
        order: list[int | None] = []
        for at, event in enumerate(trace.events):
            if event.subgraph != graph.index:
                continue
            if event.kind == 1 and event.tag == "Invoke" and order and graph.index:
                break
            if event.kind == OPERATOR:
                order.append(event.index)
            elif at in starts:
                order.append(None)
        orders.append(order)
    return orders[0] if orders and all(order == orders[0] for order in orders) else None


def _delegated(rows: list[Row], groups: Sequence[Group], runs: int) -> list[Row]:
    """Give kernels to their operators; the rows of those that cannot be given."""
    by_key = {(r.operator.subgraph, r.operator.index): r for r in rows if r.operator is not None}
    rest = []
    for number, group in enumerate(groups):
        pairs: dict[int, int] = {}
        if group.members is not None:
            members = [by_key[group.subgraph, index] for index in group.members]
            for row in members:
                row.partition = number
            pairs = aligned([row.name for row in members], group.kernels)
            for at, kernel in pairs.items():
                members[at].us, members[at].matched = group.times[kernel], "order"
                members[at].kernel, members[at].calls = group.kernels[kernel], group.calls
        left = [k for k in range(len(group.kernels)) if k not in pairs.values()]
        if left:
            total = [0] * runs
            for kernel in left:
                _add(total, group.times[kernel], 0)
            names = ", ".join(dict.fromkeys(group.kernels[k] for k in left))
            nested = group.subgraph != 0
            rest.append(
                Row(
                    operator=None,
                    name=f"XNNPACK partition {number}: {names}",
                    us=total,
                    matched="",
                    partition=number,
                    nested=nested,
                    calls=group.calls,
                )
            )
    return rest
