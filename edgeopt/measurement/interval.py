"""Intervals of a median that know what makes run times alike: one process, and their own order."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from edgeopt.measurement.stats import median_interval
from edgeopt.measurement.student import t_quantile

__all__ = [
    "Variance",
    "correlation_time",
    "median_error",
    "of_one_process",
    "of_processes",
    "variance",
]

# Correlation times are found too short in short series: by so much, fitted to the coverage of first
# order autoregressions of 50 to 1000 runs (benchmarks/compare.py --coverage).
_SHORT = 80.0
_Z95 = statistics.NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, kw_only=True)
class Variance:
    """Variances of log times, so their roots are relative deviations. None: cannot be told.

    `within` is that of single runs around their process's mean; `error` what it leaves in the
    median of a typical process, autocorrelation included; `between` that of the processes' medians
    beyond `error`, never below 0.
    """

    within: float | None
    error: float | None
    between: float | None


def correlation_time(samples: Sequence[float]) -> float:
    """How many runs tell as much about the median as one independent run: at least 1.

    The integrated autocorrelation time of the signs around the median, which is what a median's
    variance depends on (Sen, Annals of Mathematical Statistics 39, 1968), summed while sums of
    adjacent pairs are positive and made monotone (Geyer, Statistical Science 7, 1992, section 3.3).
    """
    import numpy as np

    size = len(samples)
    if size < 4:
        return 1.0
    ranks = np.argsort(np.argsort(np.asarray(samples, dtype=np.float64), kind="stable"))
    signs = np.where(ranks < size // 2, -1.0, 1.0)  # by rank: ties at the median are split evenly
    signs -= signs.mean()
    spectrum = np.fft.rfft(signs, 2 * size)
    covariance = np.fft.irfft(spectrum * np.conj(spectrum))[:size] / size
    pairs = covariance[: size // 2 * 2].reshape(-1, 2).sum(axis=1) / covariance[0]
    stop = np.flatnonzero(pairs <= 0)
    pairs = np.minimum.accumulate(pairs[: stop[0]] if stop.size else pairs)
    return max(1.0, float(2 * pairs.sum() - 1))


def of_one_process(samples: Sequence[int]) -> tuple[float, float] | None:
    """95% interval of the median of one process's runs, in the order in which they were made.

    Exact order statistics for as many independent runs as these are worth; None where those are
    fewer than 6, or 12 where runs are correlated. It knows nothing of other processes.
    """
    size, time = len(samples), correlation_time(samples)
    worth = int(size / (time * (1 + _SHORT * (time / size) ** 2)))
    if time > 1.5 and worth < 12:
        return None
    ranks = median_interval(range(1, worth + 1))
    if ranks is None:
        return None
    ordered = sorted(samples)
    skip = math.floor((ranks[0] - 1) * size / worth)
    return ordered[skip], ordered[size - 1 - skip]


def median_error(samples: Sequence[int]) -> float | None:
    """Variance of the log of a process's median, from its interval; None where that is unknown."""
    ends = of_one_process(samples)
    return None if ends is None else (math.log(ends[1] / ends[0]) / (2 * _Z95)) ** 2


def of_processes(medians: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Interval of the typical process's median: Student's t on the logs of the processes' medians.

    Each process counts once, however many runs it made: runs of one process share its memory
    layout and its moment, and more of them do not make up for another process (Kalibera and Jones,
    Rigorous Benchmarking in Reasonable Time, ISMM 2013). None below 2 processes.
    """
    if len(medians) < 2:
        return None
    logs = [math.log(median) for median in medians]
    half = t_quantile((1 + confidence) / 2, len(logs) - 1) * statistics.stdev(logs)
    half /= math.sqrt(len(logs))
    centre = statistics.fmean(logs)
    return math.exp(centre - half), math.exp(centre + half)


def variance(processes: Sequence[Sequence[int]]) -> Variance:
    """The parts of the variance of the runs of these processes (method of moments)."""
    import numpy as np

    logs = [np.log(np.asarray(samples, dtype=np.float64)) for samples in processes]
    within = [float(values.var(ddof=1)) for values in logs if len(values) > 1]
    errors = [e for e in map(median_error, processes) if e is not None]
    error = statistics.median(errors) if errors and len(errors) == len(processes) else None
    between = None
    if len(logs) > 1 and error is not None:
        total = statistics.variance([float(np.median(values)) for values in logs])
        between = max(0.0, total - error)
    return Variance(
        within=statistics.fmean(within) if within else None, error=error, between=between
    )
