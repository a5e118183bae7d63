"""Modes: does a process's run time have one typical value, or several?

Hartigan's dip is the distance to the nearest unimodal distribution (Hartigan and Hartigan, The Dip
Test of Unimodality, Annals of Statistics 13, 1985). The uniform distribution is the unimodal one
that dips most, so its quantile bounds the false alarms of all others.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeopt.measurement.interval import correlation_time

__all__ = ["Mode", "dip", "modes"]

# sqrt(n) * dip that uniform samples exceed less than once in 1000 (the 0.999 quantiles of 20 000
# samples each of 50 to 2000 runs are 0.65 to 0.72). Beyond that, two modes have to matter.
_CRITICAL = 0.74
_LEAST_RUNS, _LEAST_SHARE, _LEAST_GAP = 30, 0.10, 0.02
_POINTS = 2000  # more samples are read at so many of their quantiles


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A typical value, and the share of runs nearest to it."""

    median_ns: float
    share: float

    def to_json(self) -> dict[str, Any]:
        return {"median_ns": self.median_ns, "share": self.share}


def modes(samples: Sequence[int]) -> tuple[Mode, ...]:
    """Two modes, the faster first, or none when the runs of a process are not clearly bimodal.

    Clearly: the dip is beyond chance for as many independent runs as these are worth, each mode
    holds a tenth of the runs, and they lie 2% apart. More than two modes show as two.
    """
    if len(samples) < _LEAST_RUNS:
        return ()
    worth = len(samples) / correlation_time(samples)
    if math.sqrt(min(worth, _POINTS)) * dip(samples) <= _CRITICAL:
        return ()
    ordered = sorted(samples)
    cut = _best_cut(ordered)
    parts = [ordered[:cut], ordered[cut:]]
    if not all(len(part) >= _LEAST_SHARE * len(ordered) for part in parts):
        return ()
    fast, slow = (statistics.median(part) for part in parts)
    if slow < fast * (1 + _LEAST_GAP):
        return ()
    return tuple(
        Mode(median_ns=median, share=len(part) / len(ordered))
        for median, part in zip((fast, slow), parts, strict=True)
    )


def _best_cut(ordered: Sequence[int]) -> int:
    """Where the squared distances of log times to the means of two parts are least (Otsu 1979)."""
    import numpy as np

    y = np.log(np.asarray(ordered, dtype=np.float64))
    counts = np.arange(1, len(y))
    sums = np.cumsum(y)
    gain = sums[:-1] ** 2 / counts + (sums[-1] - sums[:-1]) ** 2 / (len(y) - counts)
    return int(np.argmax(gain)) + 1


def dip(samples: Sequence[float]) -> float:
    """Hartigan's dip of a sample: 1 / (2 n) to 1/4.

    A clock gives equal times where there are none: ties are spread over the distance to the next
    value before.
    """
    import numpy as np

    x = _spread(np.sort(np.asarray(samples, dtype=np.float64)))
    size = len(x)
    low, high, found = 0, size - 1, 1.0
    steps = np.arange(size, dtype=np.float64)
    if size < 4 or x[0] == x[-1]:
        return 0.5 / size
    while True:
        under, over = _hull(x, steps, low, high, 1), _hull(x, steps, low, high, -1)
        gap, left, right = _widest(x, steps, under, over)
        if gap <= found:
            break
        found = max(
            found,
            _off_hull(x, steps, [p for p in under if p <= left], 1),
            _off_hull(x, steps, [p for p in over if p >= right], -1),
        )
        if gap <= found or (left, right) == (low, high):
            break
        low, high = left, right
    return found / (2 * size)


def _spread(x: Any) -> Any:
    """Ties at equal distances over the resolution of the clock; at most _POINTS of the values."""
    import numpy as np

    if len(x) > _POINTS:
        x = x[np.linspace(0, len(x) - 1, _POINTS).round().astype(int)]
    values, first, counts = np.unique(x, return_index=True, return_counts=True)
    if len(values) < 2 or counts.max() == 1:
        return x
    tick = float(np.diff(values).min())
    place = np.arange(len(x)) - np.repeat(first, counts)
    return x + tick * ((place + 0.5) / np.repeat(counts, counts) - 0.5)


def _hull(x: Any, y: Any, low: int, high: int, side: int) -> list[int]:
    """Corners of the greatest convex minorant (side 1) or least concave majorant (-1)."""
    corners: list[int] = []
    for point in range(low, high + 1):
        while len(corners) > 1:
            a, b = corners[-2:]
            turn = (y[b] - y[a]) * (x[point] - x[b]) - (y[point] - y[b]) * (x[b] - x[a])
            if side * turn < 0:
                break
            corners.pop()
        corners.append(point)
    return corners


def _widest(x: Any, y: Any, under: list[int], over: list[int]) -> tuple[float, int, int]:
    """The largest distance between the two hulls, in runs, and the modal interval that it makes.

    At a corner of one hull, with the nearest corner of the other behind (or before) it.
    """
    import numpy as np

    below = np.interp(x[under], x[over], y[over]) - y[under] + 1
    above = y[over] - np.interp(x[over], x[under], y[under]) + 1
    if below.max() >= above.max():
        left = under[int(np.argmax(below))]
        right = next(p for p in over if p >= left)
        return float(below.max()), left, right
    right = over[int(np.argmax(above))]
    left = next(p for p in reversed(under) if p <= right)
    return float(above.max()), left, right


def _off_hull(x: Any, y: Any, corners: list[int], side: int) -> float:
    """The largest distance of the distribution function from a hull outside the modal interval.

    The function is a step: at a value it reaches from one run below it to it.
    """
    import numpy as np

    if len(corners) < 2:
        return 1.0
    inner = np.arange(corners[0], corners[-1] + 1)
    away = side * (y[inner] - np.interp(x[inner], x[corners], y[corners]))
    return float(away.max()) + 1
