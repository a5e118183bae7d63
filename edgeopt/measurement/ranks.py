"""The shift between two small samples without assuming how they are distributed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["shift", "shift_interval"]

_EXACT = 1600  # more pairs than this take the normal approximation of the statistic


def shift(old: Sequence[float], new: Sequence[float]) -> float:
    """Hodges and Lehmann's estimate: the median of all differences of a new and an old value."""
    return statistics.median(b - a for a in old for b in new)


def shift_interval(
    old: Sequence[float], new: Sequence[float], confidence: float
) -> tuple[float, float] | None:
    """Interval of the shift that inverts the Wilcoxon, Mann and Whitney test, so it is exact.

    Under equal distributions, whatever they are, it leaves out 0 with probability 1 - `confidence`
    at most (Conover, Practical Nonparametric Statistics, 3rd ed., section 5.4). None where not even
    the smallest to the largest difference covers so much: below 5 values on each side for 99%.
    """
    left_out = _rank(len(old), len(new), round((1 - confidence) / 2, 12))
    if not left_out:
        return None
    ordered = sorted(b - a for a in old for b in new)
    return ordered[left_out - 1], ordered[len(ordered) - left_out]


@lru_cache(maxsize=1024)
def _rank(m: int, n: int, tail: float) -> int:
    """The largest k with P(U < k) <= tail, where U is Mann and Whitney's statistic."""
    if m * n > _EXACT:
        normal = statistics.NormalDist(m * n / 2, math.sqrt(m * n * (m + n + 1) / 12))
        return max(0, math.floor(normal.inv_cdf(tail) - 0.5) + 1)
    total, below = math.comb(m + n, m), 0
    for rank, count in enumerate(_counts(m, n)):
        below += count
        if below > tail * total:
            return rank
    return m * n


def _counts(m: int, n: int) -> list[int]:
    """In how many orders of m and n values U is 0, 1, 2 ...: the Gaussian binomial coefficients."""
    counts = [1] + [0] * (m * n)
    for step in range(1, n + 1):
        for u in range(m * n, m + step - 1, -1):  # times 1 - q^(m + step)
            counts[u] -= counts[u - m - step]
        for u in range(step, m * n + 1):  # over 1 - q^step
            counts[u] += counts[u - step]
    return counts
