"""The shift between two small samples, and the centre of one, without assuming how they are
distributed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["centre", "centre_interval", "shift", "shift_interval"]

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


def centre(values: Sequence[float]) -> float:
    """Hodges and Lehmann's estimate: the median of the means of all pairs, each value's own too."""
    return statistics.median(_means(values))


def centre_interval(values: Sequence[float], confidence: float) -> tuple[float, float] | None:
    """Interval of the centre that inverts Wilcoxon's signed rank test, so it is exact.

    Of values that lie alike on both sides of 0, whatever else they do, it leaves out 0 with
    probability 1 - `confidence` at most (Conover, section 5.7). None below 8 values for 99%.
    """
    left_out = _signed_rank(len(values), round((1 - confidence) / 2, 12))
    if not left_out:
        return None
    ordered = sorted(_means(values))
    return ordered[left_out - 1], ordered[len(ordered) - left_out]


def _means(values: Sequence[float]) -> list[float]:
    return [(a + b) / 2 for i, a in enumerate(values) for b in values[i:]]


@lru_cache(maxsize=1024)
def _signed_rank(n: int, tail: float) -> int:
    """The largest k with P(T < k) <= tail, where T is Wilcoxon's statistic: the sum of those of the
    ranks 1 to n whose sign is positive, each with probability 1/2."""
    counts = [1] + [0] * (n * (n + 1) // 2)
    for rank in range(1, n + 1):
        for total in range(len(counts) - 1, rank - 1, -1):
            counts[total] += counts[total - rank]
    below = 0
    for k, count in enumerate(counts):
        below += count
        if below > tail * 2**n:
            return k
    return len(counts)


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
