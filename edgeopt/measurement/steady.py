"""Steady state: from which run on a trace stays on one level, or that it never does.

A change-point analysis as in Barrett and others, Virtual Machine Warmup Blows Hot and Cold (OOPSLA
2017): levels that differ, and a trace is steady from where it stays on its final one. Two things
differ: levels are those of medians of a few runs, so that single slow runs are no change, and
levels within 3% are one, as no user can tell them apart and no board keeps them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

__all__ = ["Steady", "judge"]

TOLERANCE = 0.03
_LEAST_BATCHES, _MOST_BATCHES, _BATCH_RUNS = 10, 200, 5
# A change must lower the squared error by so many noise variances times log(batches). Barrett and
# others use 15 for single runs; medians of batches are less correlated. Its rate of false alarms is
# in docs/MEASURING.md.
_PENALTY, _FEW = 12.0, 15  # more where there are few batches to know the noise from
_CLOCK = 5e-4  # what a clock of a microsecond can tell of a run of some milliseconds
_EXCURSIONS = 0.15  # of the steady runs may be on other levels in between, or 5% at the end
_LAST = 0.05
_ENOUGH = 0.5  # of the timed runs, in number, have to be steady
_DRIFT_ERRORS = 4.0  # standard errors of the slope

_Segment = tuple[int, int, float]  # first batch, end, level


@dataclass(frozen=True, kw_only=True)
class Steady:
    """`start` is the first run of the steady state, counted from the first run of the trace.

    `settled` None: the trace is too short to tell, and `start` is 0. `reason` says in words why it
    is not settled. `drift` is the change over the steady runs as a fraction of their median, None
    where it cannot be told; `levels` is how many levels were found.
    """

    settled: bool | None
    start: int = 0
    reason: str = ""
    drift: float | None = None
    levels: int = 1


def judge(trace: Sequence[int], warm: int = 0) -> Steady:
    """Judge the run times of one process in the order in which they were made.

    The first `warm` of them were warm-up: they need not be steady.
    """
    size = len(trace)
    runs = max(1, min(_BATCH_RUNS, size // _LEAST_BATCHES), math.ceil(size / _MOST_BATCHES))
    if size // runs < _LEAST_BATCHES:
        return Steady(settled=None)
    edges = [size - runs * (size // runs - i) for i in range(size // runs)]  # odd runs go first
    batches = [statistics.median(trace[e : e + runs]) for e in edges]
    segments = _segments(batches)
    timed = sum(edge >= warm for edge in edges)
    final = statistics.median(batches[-max(_LEAST_BATCHES // 2, timed // 2) :])
    on_level = [abs(level / final - 1) <= TOLERANCE for _, _, level in segments]
    first = _first_steady(segments, on_level, len(batches), timed)
    if first is None or not _stays(segments, on_level, timed):
        reason = _moves(segments, edges, size)
        return Steady(settled=False, reason=reason, levels=len(segments))
    start = segments[first][0]
    drift, certain = _drift(batches[max(start, len(batches) - timed) :])
    if drift is not None and certain and abs(drift) > TOLERANCE:
        reason = f"never settled: it drifts by {100 * drift:+.1f}% over its runs"
        return Steady(settled=False, reason=reason, drift=drift, levels=len(segments))
    return Steady(
        settled=True, start=edges[start] if start else 0, drift=drift, levels=len(segments)
    )


def _segments(batches: Sequence[float]) -> list[_Segment]:
    """Start, end and level of the best piecewise constant fit: optimal partitioning.

    Jackson and others, IEEE Signal Processing Letters 12 (2005): the exact answer that PELT prunes
    its way to; at most 200 batches need no pruning.
    """
    import numpy as np

    y = np.log(np.asarray(batches, dtype=np.float64))
    size = len(y)
    penalty = _PENALTY * _noise(y) ** 2 * math.log(size) * (1 + _FEW / size)
    sums = np.concatenate([[0.0], np.cumsum(y)])
    squares = np.concatenate([[0.0], np.cumsum(y * y)])
    best, previous = np.full(size + 1, -penalty), np.zeros(size + 1, dtype=int)
    for end in range(1, size + 1):
        starts = np.arange(end)
        total = sums[end] - sums[:end]
        error = squares[end] - squares[:end] - total * total / (end - starts)
        costs = best[:end] + error + penalty
        previous[end] = int(np.argmin(costs))
        best[end] = costs[previous[end]]
    found, end = [], size
    while end:
        start = int(previous[end])
        found.append((start, end, statistics.median(batches[start:end])))
        end = start
    return found[::-1]


def _noise(y: Any) -> float:
    """The deviation that a batch's log time adds to a level's, correlation of first order included.

    From differences of neighbours and of second neighbours, which steps do not inflate: those of an
    autoregression with parameter r have variances 2 s^2 (1 - r) and 2 s^2 (1 - r^2).
    """
    import numpy as np

    moves = [np.quantile(np.abs(y[lag:] - y[:-lag]), (0.25, 0.5)) for lag in (1, 2)]
    near = float(moves[0][1]) / 0.6745
    # By the lower quartile, which hardly sees the steps of a trace that swings; less what chance
    # alone makes of it in a trace of this length.
    ratio = float(moves[1][0] / moves[0][0]) if moves[0][0] else 1.0
    alike = min(0.6, max(0.0, ratio**2 - 1 - 3 / math.sqrt(len(y))))
    return max(near / math.sqrt(2) / (1 - alike) * math.sqrt(1 + alike), _CLOCK)


def _first_steady(
    segments: Sequence[_Segment], on_level: Sequence[bool], size: int, timed: int
) -> int | None:
    """The earliest segment from which on the timed batches are on the final level, mostly."""
    for index, (start, _, _) in enumerate(segments):
        begin = max(start, size - timed)
        if not on_level[index] or size - begin < _ENOUGH * timed:
            continue
        away = sum(
            max(0, end - max(first, begin))
            for (first, end, _), on in zip(segments[index:], on_level[index:], strict=True)
            if not on
        )
        if away <= _EXCURSIONS * (size - begin):
            return index
    return None


def _stays(segments: Sequence[_Segment], on_level: Sequence[bool], timed: int) -> bool:
    """It does not end on another level, unless that is so short that it may be one disturbance."""
    start, end, _ = segments[-1]
    return on_level[-1] or end - start <= max(1, _LAST * timed)


def _moves(segments: Sequence[_Segment], edges: Sequence[int], size: int) -> str:
    """The last move between levels that counts, in words."""
    moves = [
        (edges[after[0]], after[2] / before[2] - 1)
        for before, after in pairwise(segments)
        if abs(after[2] / before[2] - 1) > TOLERANCE
    ]
    if not moves:
        return "never settled: its level creeps"
    run, change = moves[-1]
    often = f", the last of {len(moves)} moves" if len(moves) > 1 else ""
    return f"never settled: it went {100 * change:+.0f}% at run {run} of {size}{often}"


def _drift(batches: Sequence[float]) -> tuple[float | None, bool]:
    """Change over the batches as a fraction of their median, by Theil and Sen's slope.

    The second value says whether it is beyond four standard errors, those of a least-squares slope
    under the scatter around the line and its correlation of first order.
    """
    import numpy as np

    size = len(batches)
    if size < _LEAST_BATCHES:
        return None, False
    y = np.asarray(batches, dtype=np.float64) / statistics.median(batches)
    x = np.arange(size)
    upper = np.triu_indices(size, 1)
    slope = float(np.median((y[upper[1]] - y[upper[0]]) / (x[upper[1]] - x[upper[0]])))
    rest = y - slope * x
    rest -= np.median(rest)
    spread = float(np.median(np.abs(rest))) / 0.6745
    clipped = np.clip(rest, -3 * spread, 3 * spread)
    power = float(clipped @ clipped)
    alike = min(0.95, max(0.0, float(clipped[1:] @ clipped[:-1]) / power)) if power else 0.0
    error = spread * math.sqrt(12 / size**3 * (1 + alike) / (1 - alike))
    return slope * (size - 1), abs(slope) > _DRIFT_ERRORS * (1 + _FEW / size) * error
