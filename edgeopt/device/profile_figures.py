"""A profile as figures: each row's time with its spread, sums by type and by layer, and the sum of
all held against the whole. Times in nanoseconds. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from edgeopt.device.profile_events import Group, Row
from edgeopt.facts import ModelFacts
from edgeopt.measurement import percentile
from edgeopt.model.layer_names import layers_of

__all__ = ["AGREES_WITHIN", "figures", "spread", "summed", "whole_of"]

AGREES_WITHIN = 0.10  # the sum of the operators may differ from the whole by so much of it
_US = 1000  # the profilers count microseconds


def figures(
    rows: Sequence[Row],
    groups: Sequence[Group],
    facts: ModelFacts,
    *,
    plain_ns: Sequence[float],
    told: Mapping[int, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """operators, unmatched, partitions, by_type, by_layer and sum. `plain_ns` are whole inferences
    without a profiler. `told` holds the figures of rows (by id) whose single runs are unknown."""
    counted = [row for row in rows if not row.nested]
    known = {id(row): (told or {}).get(id(row)) or _figures(row) for row in rows}
    total = sum(known[id(row)]["mean_ns"] or 0 for row in counted)
    layers = layers_of(facts)
    operators, unmatched = [], []
    for row in rows:
        shared = _shared(row, known[id(row)], total)
        if row.operator is None:
            unmatched.append({"name": row.name, **shared})
        else:
            operators.append(
                {
                    "index": row.operator.index,
                    "subgraph": row.operator.subgraph,
                    "op": row.operator.op,
                    "layer": layers.get(id(row.operator)),
                    "kernel": row.kernel or None,
                    "matched": row.matched or None,
                    **shared,
                }
            )
    return {
        "operators": operators,
        "unmatched": unmatched,
        "partitions": [_partition(n, g, rows, known, total) for n, g in enumerate(groups)],
        "by_type": summed(operators, unmatched, "op", total),
        "by_layer": summed(operators, unmatched, "layer", total),
        "sum": _sum(counted, total, plain_ns),
    }


def spread(times_ns: Sequence[float]) -> dict[str, float | None]:
    """mean, median, p10, p90 and standard deviation; None where there are too few runs."""
    ordered = sorted(times_ns)
    enough = len(ordered) >= 10
    return {
        "mean_ns": statistics.fmean(ordered),
        "median_ns": percentile(ordered, 0.5),
        "p10_ns": percentile(ordered, 0.1) if enough else None,
        "p90_ns": percentile(ordered, 0.9) if enough else None,
        "stdev_ns": statistics.stdev(ordered) if len(ordered) > 1 else None,
    }


_NOTHING = dict.fromkeys(("mean_ns", "median_ns", "p10_ns", "p90_ns", "stdev_ns"))


def _figures(row: Row) -> Mapping[str, Any]:
    return _NOTHING if row.us is None else spread([us * _US for us in row.us])


def _shared(row: Row, found: Mapping[str, Any], total: float) -> dict[str, Any]:
    mean = found["mean_ns"]
    return {
        **found,
        "share": mean / total if mean is not None and total and not row.nested else None,
        "partition": row.partition,
        "nested": row.nested,
        "calls": row.calls or None,
    }


def _partition(
    number: int,
    group: Group,
    rows: Sequence[Row],
    known: Mapping[int, Mapping[str, Any]],
    total: float,
) -> dict[str, Any]:
    mine = [row for row in rows if row.partition == number]
    ours = [row for row in mine if row.operator is not None]
    mean = sum(known[id(row)]["mean_ns"] or 0 for row in mine)
    return {
        "number": number,
        "delegate": "XNNPACK",
        "subgraph": group.subgraph,
        "operators": None if group.members is None else list(group.members),
        "kernels": list(group.kernels),
        "mean_ns": mean,
        "share": mean / total if total and not group.subgraph else None,
        "told_apart": sum(row.us is not None for row in ours),
        "not_told_apart": sum(row.us is None for row in ours) if group.members else None,
    }


def summed(
    operators: Sequence[Mapping[str, Any]],
    unmatched: Sequence[Mapping[str, Any]],
    key: str,
    total: float,
) -> list[dict[str, Any]]:
    """Sums by the value of `key`, largest first; what belongs to no operator is a row of its own
    (null). `timed` of the `count` operators have a time. Nested operators are left out: their time
    is in that of the one that calls them."""
    found: dict[str | None, dict[str, Any]] = {}
    for row in [*operators, *({**u, key: None} for u in unmatched)]:
        if row["nested"]:
            continue
        entry = found.setdefault(row[key], {key: row[key], "count": 0, "timed": 0, "mean_ns": 0.0})
        entry["count"] += 1
        entry["timed"] += row["mean_ns"] is not None
        entry["mean_ns"] += row["mean_ns"] or 0.0
    for entry in found.values():
        entry["share"] = entry["mean_ns"] / total if total else None
        if not entry["timed"]:
            entry["mean_ns"] = entry["share"] = None
    return sorted(found.values(), key=lambda e: -(e["mean_ns"] or -1.0))


def _sum(counted: Sequence[Row], total: float, plain_ns: Sequence[float]) -> dict[str, Any]:
    """Held against the whole by medians, which one disturbed run does not move."""
    lists = [row.us for row in counted if row.us is not None]
    runs = [sum(column) * _US for column in zip(*lists, strict=True)] if lists else []
    median = percentile(sorted(runs), 0.5) if runs else total
    whole = percentile(sorted(plain_ns), 0.5)
    share = median / whole
    return {
        "mean_ns": total,
        "median_ns": median,
        "share_of_whole": share,
        "agrees_within": AGREES_WITHIN,
        "agrees": abs(share - 1) <= AGREES_WITHIN,
    }


def whole_of(times_ns: Sequence[float]) -> dict[str, Any]:
    """The figures of whole inferences."""
    return {"runs": len(times_ns), **spread(times_ns)}
