"""Measurement: raw run times in nanoseconds, and the statistics that so many of them can carry."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeopt.errors import InputError, ResultError

__all__ = ["Measurement", "Stats", "measure", "percentile"]

_SUMMARY_KEYS = ("count", "mean", "min", "max", "stdev", "first", "last", "median", "p5", "p95")
_P90_MIN, _P99_MIN = 10, 100  # fewer samples hold no such run: it would be a guess at the maximum
# pyperf's rule for "the benchmark result may be unstable" (pyperf check, stdev above 10% of mean).
_UNSTABLE = 0.10


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Derived, all in nanoseconds. None: not measured, or more than the samples can tell.

    `stdev_ns` divides by n-1 when raw samples are there. `ci95_ns` is the interval of the median.
    """

    median_ns: float | None = None
    mean_ns: float | None = None
    stdev_ns: float | None = None
    p90_ns: float | None = None
    p99_ns: float | None = None
    ci95_ns: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "median_ns": self.median_ns,
            "mean_ns": self.mean_ns,
            "stdev_ns": self.stdev_ns,
            "p90_ns": self.p90_ns,
            "p99_ns": self.p99_ns,
            "ci95_ns": list(self.ci95_ns) if self.ci95_ns else None,
        }


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one device did. Build it with `measure`; `stats` always follows from the rest.

    `summary_ns` stands in for `samples_ns` where a runtime prints no single runs. `notes` are
    warnings that leave the numbers valid, `invalid_reasons` are not.
    """

    warmup_ns: tuple[int, ...] | None
    samples_ns: tuple[int, ...] | None
    first_ns: int | None
    init_ns: int | None
    peak_rss_bytes: int | None
    summary_ns: Mapping[str, float] | None
    conditions: Mapping[str, Any]
    invalid_reasons: tuple[str, ...]
    stats: Stats = field(compare=False)
    notes: tuple[str, ...] = field(compare=False)

    @property
    def valid(self) -> bool:
        return not self.invalid_reasons

    @property
    def runs(self) -> int | None:
        """How many timed runs the numbers stand on; None when the runtime did not say."""
        if self.samples_ns:
            return len(self.samples_ns)
        count = (self.summary_ns or {}).get("count")
        return None if count is None else int(count)

    def to_json(self) -> dict[str, Any]:
        return {
            "warmup_ns": None if self.warmup_ns is None else list(self.warmup_ns),
            "samples_ns": None if self.samples_ns is None else list(self.samples_ns),
            "summary_ns": None if self.summary_ns is None else dict(self.summary_ns),
            "stats": self.stats.to_json(),
            "runs": self.runs,
            "first_ns": self.first_ns,
            "init_ns": self.init_ns,
            "peak_rss_bytes": self.peak_rss_bytes,
            "conditions": dict(self.conditions),
            "valid": self.valid,
            "invalid_reasons": list(self.invalid_reasons),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Measurement:
        """The measurement of a report; statistics are made anew from its raw numbers.

        Raises InputError for a document that is not one.
        """
        try:
            return measure(
                warmup_ns=_whole(document.get("warmup_ns")),
                samples_ns=_whole(document.get("samples_ns")),
                first_ns=document.get("first_ns"),
                init_ns=document.get("init_ns"),
                peak_rss_bytes=document.get("peak_rss_bytes"),
                summary_ns=document.get("summary_ns"),
                conditions=dict(document.get("conditions") or {}),
                invalid_reasons=tuple(map(str, document.get("invalid_reasons") or ())),
            )
        except (TypeError, ValueError, AttributeError, ResultError) as error:
            raise InputError(
                f"The report's measurement cannot be read: {error}",
                "Give a report that edgeopt deploy or edgeopt benchmark wrote.",
            ) from error


def measure(
    *,
    warmup_ns: Sequence[int] | None,
    samples_ns: Sequence[int] | None,
    first_ns: int | None,
    init_ns: int | None,
    peak_rss_bytes: int | None,
    summary_ns: Mapping[str, float] | None,
    conditions: Mapping[str, Any],
    invalid_reasons: Sequence[str],
) -> Measurement:
    """The measurement of these raw answers, times in nanoseconds.

    Raises ResultError when there is neither a sample nor a summary, or when a time is not one
    (zero, negative, not finite).
    """
    if not samples_ns and not summary_ns:
        raise ResultError(
            "The run gave no timed inference, so there is no latency.",
            "Ask for at least one run (--runs).",
        )
    samples = tuple(samples_ns) if samples_ns else None
    _check_times("sample", samples or ())
    _check_times("warm-up run", warmup_ns or ())
    _check_times("init", [t for t in (init_ns,) if t is not None], least=0)
    _check_times("first run", [t for t in (first_ns,) if t is not None])
    summary = _checked_summary(summary_ns) if summary_ns else None
    stats = _of_samples(samples) if samples else _of_summary(summary or {})
    return Measurement(
        warmup_ns=None if warmup_ns is None else tuple(warmup_ns),
        samples_ns=samples,
        first_ns=first_ns,
        init_ns=init_ns,
        peak_rss_bytes=peak_rss_bytes,
        summary_ns=summary,
        conditions=dict(conditions),
        invalid_reasons=tuple(invalid_reasons),
        stats=stats,
        notes=_notes(stats, samples),
    )


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
    for successes in range(size // 2):
        tail += math.exp(_log_choose(size, successes) - size * math.log(2))
        if tail > 0.025:
            break
        rank = successes + 1
    return (ordered[rank - 1], ordered[size - rank]) if rank else None


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _of_samples(samples: tuple[int, ...]) -> Stats:
    ordered, size = sorted(samples), len(samples)
    return Stats(
        median_ns=percentile(ordered, 0.5),
        mean_ns=statistics.fmean(ordered),
        stdev_ns=statistics.stdev(ordered) if size > 1 else None,
        p90_ns=percentile(ordered, 0.9) if size >= _P90_MIN else None,
        p99_ns=percentile(ordered, 0.99) if size >= _P99_MIN else None,
        ci95_ns=median_interval(ordered),
    )


def _of_summary(summary: Mapping[str, float]) -> Stats:
    """What the runtime itself printed; no percentile or interval can be had from that."""
    count = summary.get("count")
    alone = count is not None and count < 2
    return Stats(
        median_ns=summary.get("median"),
        mean_ns=summary["mean"],
        stdev_ns=None if alone else summary.get("stdev"),
    )


def _notes(stats: Stats, samples: tuple[int, ...] | None) -> tuple[str, ...]:
    notes = []
    if samples is None:
        lost = "percentiles and interval" if stats.median_ns else "median, percentiles and interval"
        notes.append(f"The runtime prints no single runs: {lost} unknown.")
    if stats.stdev_ns is not None and stats.mean_ns and stats.stdev_ns > _UNSTABLE * stats.mean_ns:
        share = 100 * stats.stdev_ns / stats.mean_ns
        notes.append(f"Unstable: the standard deviation is {share:.0f}% of the mean (above 10%).")
    return tuple(notes)


def _checked_summary(summary: Mapping[str, float]) -> dict[str, float]:
    if unknown := sorted(set(summary) - set(_SUMMARY_KEYS)):
        raise ResultError(f"A run summary holds unknown keys: {', '.join(unknown)}.")
    if "mean" not in summary:
        raise ResultError("A run summary has no mean, so it holds no latency.")
    times = [v for k, v in summary.items() if k not in ("count", "stdev")]
    _check_times("summary", times)
    _check_times("summary", [summary[k] for k in ("stdev",) if k in summary], least=0)
    if "count" in summary and not 1 <= summary["count"] < 2**63:
        raise ResultError(f"A run summary stands on {summary['count']} runs.")
    return dict(summary)


def _check_times(what: str, times: Sequence[float], least: float = 1e-9) -> None:
    for time_ns in times:
        if not (math.isfinite(time_ns) and time_ns >= least):
            raise ResultError(
                f"A {what} time of {time_ns} ns is no duration.", "Check the device's clock."
            )


def _whole(values: Any) -> tuple[int, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list) or any(type(value) is not int for value in values):
        raise TypeError("its times are not lists of whole nanoseconds.")
    return tuple(values)
