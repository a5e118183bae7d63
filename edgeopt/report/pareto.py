"""The Pareto front of measured candidates: which of them no other one beats. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["AXES", "beaten_by", "comparable", "front"]

# What is compared: larger accuracy, shorter latency, smaller download are better.
AXES = ("accuracy", "latency_ns", "gzip_bytes")

Row = Mapping[str, Any]


def front(rows: Sequence[Row]) -> list[str]:
    """The names of those that no other one beats; rows without a valid result are not compared."""
    return [row["name"] for row in comparable(rows) if beaten_by(row, rows) is None]


def comparable(rows: Sequence[Row]) -> list[Row]:
    """Rows that were measured, with a latency that may be believed."""
    return [row for row in rows if row["status"] == "measured" and row["latency_ns"] is not None]


def beaten_by(row: Row, rows: Sequence[Row]) -> str | None:
    """The name of one that is nowhere worse and somewhere better (Pareto dominance), else None.

    Accuracy is of the same samples, so that it is compared as it is. Two latencies whose 95%
    intervals overlap, or that have none, are not ranked. Sizes are bytes after gzip. What was not
    measured for both (accuracy without labelled data) is left out.
    """
    for other in comparable(rows):
        if other["name"] == row["name"]:
            continue
        signs = [_accuracy(other, row), _latency(other, row), _size(other, row)]
        if min(signs) >= 0 and max(signs) > 0:
            return str(other["name"])
    return None


def _accuracy(one: Row, other: Row) -> int:
    """1: `one` is better, -1: worse, 0: equal or not to be compared. By the loss against float,
    which is positive for the worse, whichever way the metric counts."""
    if one["drop"] is None or other["drop"] is None:
        return 0
    mine, theirs = float(one["drop"]), float(other["drop"])
    return (mine < theirs) - (mine > theirs)


def _latency(one: Row, other: Row) -> int:
    """Without an interval (too few runs) nothing can be told apart from noise."""
    mine, theirs = one["latency_ci95_ns"], other["latency_ci95_ns"]
    if not mine or not theirs:
        return 0
    return int(mine[1] < theirs[0]) - int(mine[0] > theirs[1])


def _size(one: Row, other: Row) -> int:
    mine, theirs = int(one["gzip_bytes"]), int(other["gzip_bytes"])
    return (mine < theirs) - (mine > theirs)
