"""A profile as figures: each row's time with its spread, sums by type and by layer, and the sum of
all held against the whole. Times in nanoseconds. Pure.

`typical_ns` is the mean of the middle half of the runs (the interquartile mean): no run that was
disturbed moves it, and it is finer than the microseconds that profilers count.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from edgeopt.device.profiling.events import Group, Row
from edgeopt.facts import ModelFacts
from edgeopt.measurement import percentile
from edgeopt.model.layer_names import layers_of

__all__ = ["AGREES_WITHIN", "figures", "middle", "only_mean", "spread", "summed", "whole_of"]

_FIGURES = ("typical_ns", "mean_ns", "median_ns", "p10_ns", "p90_ns", "stdev_ns")
AGREES_WITHIN = 0.10  # the sum of the operators may differ from the whole by so much of it
_US = 1000  # the profilers count microseconds


def figures(
    rows: Sequence[Row],
    groups: Sequence[Group],
    facts: ModelFacts,
    *,
    held_against: str,
    whole_ns: Sequence[float],
    told: Mapping[int, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """operators, unmatched, partitions, by_type, by_layer and sum.

    `whole_ns` are the whole inferences that the sum is held against, `held_against` is their name.
    `told` holds the figures of rows (by id) whose single runs are unknown.
    """
    counted = [row for row in rows if not row.nested]
    known = {id(row): (told or {}).get(id(row)) or _figures(row) for row in rows}
    total = sum(known[id(row)]["typical_ns"] or 0 for row in counted)
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
        "sum": {
            "held_against": held_against,
            **_sum(_sums(counted), total, _cut_off(groups), whole_ns),
        },
    }


def middle(ordered: Sequence[float]) -> float:
    """The mean of the half that is neither the smallest nor the largest, of a sorted sequence."""
    quarter = len(ordered) // 4
    return statistics.fmean(ordered[quarter : len(ordered) - quarter])


def spread(times_ns: Sequence[float]) -> dict[str, float | None]:
    """The figures of these runs; percentiles None where there are too few."""
    ordered = sorted(times_ns)
    enough = len(ordered) >= 10
    return {
        "typical_ns": middle(ordered),
        "mean_ns": statistics.fmean(ordered),
        "median_ns": percentile(ordered, 0.5),
        "p10_ns": percentile(ordered, 0.1) if enough else None,
        "p90_ns": percentile(ordered, 0.9) if enough else None,
        "stdev_ns": statistics.stdev(ordered) if len(ordered) > 1 else None,
    }


def only_mean(mean_ns: float) -> dict[str, float | None]:
    """The figures where a program prints nothing but means."""
    return {**dict.fromkeys(_FIGURES), "typical_ns": mean_ns, "mean_ns": mean_ns}


def whole_of(times_ns: Sequence[float]) -> dict[str, Any]:
    """The figures of whole inferences."""
    return {"runs": len(times_ns), **spread(times_ns)}


def _sums(counted: Sequence[Row]) -> list[int]:
    """What the rows add up to, in each run."""
    lists = [row.us for row in counted if row.us is not None]
    return [sum(column) * _US for column in zip(*lists, strict=True)]


def _cut_off(groups: Sequence[Group]) -> float:
    """How much XNNPACK's times may be short of in one inference: each is cut to whole
    microseconds, while an operator's is the difference of two readings and errs both ways."""
    return sum(g.calls * len(g.kernels) for g in groups if not g.subgraph) * _US


def _figures(row: Row) -> Mapping[str, Any]:
    if row.us is None:
        return dict.fromkeys(_FIGURES)
    return spread([us * _US for us in row.us])


def _shared(row: Row, found: Mapping[str, Any], total: float) -> dict[str, Any]:
    typical = found["typical_ns"]
    return {
        **found,
        "share": typical / total if typical is not None and total and not row.nested else None,
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
    typical = sum(known[id(row)]["typical_ns"] or 0 for row in mine)
    return {
        "number": number,
        "delegate": "XNNPACK",
        "subgraph": group.subgraph,
        "operators": None if group.members is None else list(group.members),
        "kernels": list(group.kernels),
        "typical_ns": typical,
        "share": typical / total if total and not group.subgraph else None,
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
        new = {key: row[key], "count": 0, "timed": 0, "typical_ns": 0.0}
        entry = found.setdefault(row[key], new)
        entry["count"] += 1
        entry["timed"] += row["typical_ns"] is not None
        entry["typical_ns"] += row["typical_ns"] or 0.0
    for entry in found.values():
        entry["share"] = entry["typical_ns"] / total if total else None
        if not entry["timed"]:
            entry["typical_ns"] = entry["share"] = None
    return sorted(found.values(), key=lambda e: -(e["typical_ns"] or -1.0))


def _sum(
    sums: Sequence[float], rows: float, cut_off: float, whole_ns: Sequence[float]
) -> dict[str, Any]:
    """The typical run's sum held against the typical whole: where runs are disturbed, both are.

    `rows` is what the rows' typical times add up to: less than `total` where each run is disturbed
    somewhere, which no row then shows.
    """
    total = middle(sorted(sums)) if sums else rows
    whole = middle(sorted(whole_ns))
    low, high = whole * (1 - AGREES_WITHIN), whole * (1 + AGREES_WITHIN)
    return {
        "typical_ns": total,
        "rows_ns": rows,
        "whole_ns": whole,
        "share_of_whole": total / whole,
        "cut_off_ns": cut_off,
        "agrees_within": AGREES_WITHIN,
        "agrees": total <= high and total + cut_off >= low,
        "disturbed": rows < (1 - AGREES_WITHIN) * total,
    }
