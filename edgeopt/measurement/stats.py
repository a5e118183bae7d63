"""Stats: what so many run times can tell, and no more."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Stats", "median_interval", "of_samples", "of_summary", "percentile"]

_P90_MIN, _P99_MIN = 10, 100  # fewer samples hold no such run: it would be a guess at the maximum


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Derived, all in nanoseconds. None: not measured, or more than the samples can tell.

    `stdev_ns` divides by n-1 when raw samples are there. `ci95_ns` is the interval of the median,
    `mean_ci95_ns` that of the mean, which needs two processes.
    """

    median_ns: float | None = None
    mean_ns: float | None = None
    stdev_ns: float | None = None
    p90_ns: float | None = None
    p99_ns: float | None = None
    ci95_ns: tuple[float, float] | None = None
    mean_ci95_ns: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "median_ns": self.median_ns,
            "mean_ns": self.mean_ns,
            "stdev_ns": self.stdev_ns,
            "p90_ns": self.p90_ns,
            "p99_ns": self.p99_ns,
            "ci95_ns": list(self.ci95_ns) if self.ci95_ns else None,
            "mean_ci95_ns": list(self.mean_ci95_ns) if self.mean_ci95_ns else None,
        }


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Linear interpolation between closest ranks of a sorted sequence: Hyndman and Fan's type 7.

    Sample Quantiles in Statistical Packages, The American Statistician 50 (1996); numpy's default.
    """
    position = (len(ordered) - 1) * fraction
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def median_interval(ordered: Sequence[float]) -> tuple[float, float] | None:
    """At least 95% confidence for the median, whatever the distribution: x(k) to x(n+1-k).

    k is the largest rank with P(Binomial(n, 1/2) < k) <= 2.5%: exact order statistics (Conover,
    Practical Nonparametric Statistics, 3rd ed., section 3.2). None below 6 samples, where even the
    smallest to the largest covers less than 95%.
    """
    size = len(ordered)
    tail, rank = 0.0, 0
    # Six standard deviations below the middle nothing is left to add up.
    for successes in range(max(0, math.floor(size / 2 - 3 * math.sqrt(size))), size // 2):
        tail += math.exp(_log_choose(size, successes) - size * math.log(2))
        if tail > 0.025:
            break
        rank = successes + 1
    return (ordered[rank - 1], ordered[size - rank]) if rank else None


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def of_samples(samples: Sequence[int], ci95_ns: tuple[float, float] | None) -> Stats:
    """The figures of single runs, with the interval that fits how they were taken."""
    ordered, size = sorted(samples), len(samples)
    mean = statistics.fmean(ordered)
    squares = math.fsum((time_ns - mean) ** 2 for time_ns in ordered)  # quicker than stdev
    return Stats(
        median_ns=percentile(ordered, 0.5),
        mean_ns=mean,
        stdev_ns=math.sqrt(squares / (size - 1)) if size > 1 else None,
        p90_ns=percentile(ordered, 0.9) if size >= _P90_MIN else None,
        p99_ns=percentile(ordered, 0.99) if size >= _P99_MIN else None,
        ci95_ns=ci95_ns,
    )


def of_summary(summary: Mapping[str, float]) -> Stats:
    """What the runtime itself printed; no percentile or interval can be had from that."""
    count = summary.get("count")
    alone = count is not None and count < 2
    return Stats(
        median_ns=summary.get("median"),
        mean_ns=summary["mean"],
        stdev_ns=None if alone else summary.get("stdev"),
    )
