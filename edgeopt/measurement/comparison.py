"""Comparison: is the new measurement faster, and is that more than noise?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from edgeopt.measurement.interval import median_error
from edgeopt.measurement.ranks import centre, centre_interval, shift, shift_interval
from edgeopt.measurement.student import t_quantile

if TYPE_CHECKING:
    from edgeopt.measurement.judged import JudgedProcess
    from edgeopt.measurement.measurement import Measurement

__all__ = ["CONFIDENCE", "SESSION", "THRESHOLD", "Comparison", "compare", "judge"]

# Chosen together with the default effort (five processes, an interval of the median 1% wide), so
# that equal builds differ by verdict at most once in 100 and a 3% slowdown is found 9 times in 10:
# see docs/MEASURING.md. A threshold of 3% would miss half of the slowdowns of 3%.
THRESHOLD, CONFIDENCE = 0.02, 0.99
# Two sessions differ in more than their processes do: temperature, what else is running, what was
# started before. This much is allowed for, unless the processes of both sides alternated.
SESSION = 0.01
_LEAST_PROCESSES = 2
_LEAST_RUNS = 6  # of a summary, for a normal interval of its mean


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`ratio` is new / old time (below 1: faster), of typical processes.

    `interval` is its interval at `confidence`, on which the verdict stands; `interval95` the one at
    95%. `method` is "ranks", which assumes nothing of how processes differ, "welch" below five of
    them, or "runs" where one process a side was all: then only their own noise is known. `basis` is
    "median", or "mean" where a runtime prints no medians. `reasons` say why a verdict is
    "inconclusive".
    """

    verdict: str  # "faster", "slower", "same" or "inconclusive"
    ratio: float
    interval: tuple[float, float] | None
    interval95: tuple[float, float] | None
    basis: str
    threshold: float
    confidence: float
    processes: tuple[int, int]
    method: str
    session: float = 0.0
    reasons: tuple[str, ...] = ()

    @property
    def within_only(self) -> bool:
        return self.method == "runs"

    def __str__(self) -> str:
        why = f"; {'; '.join(self.reasons)}" if self.reasons else ""
        within = f" within {100 * self.threshold:.4g}%" if self.verdict == "same" else ""
        return f"{self.verdict}{within}: {self.figures}{why}"

    @property
    def figures(self) -> str:
        """The ratio with its interval, in words."""
        text = f"{self.basis} x {self.ratio:.3f}"
        if self.interval:
            low, high = self.interval
            text += f" ({100 * self.confidence:.12g}% interval {low:.3f} to {high:.3f})"
        return text

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "ratio": self.ratio,
            "interval": list(self.interval) if self.interval else None,
            "interval95": list(self.interval95) if self.interval95 else None,
            "confidence": self.confidence,
            "basis": self.basis,
            "threshold": self.threshold,
            "processes": list(self.processes),
            "method": self.method,
            "session": self.session,
            "reasons": list(self.reasons),
        }


def compare(
    old: Measurement,
    new: Measurement,
    *,
    threshold: float = THRESHOLD,
    confidence: float = CONFIDENCE,
    session: float = 0.0,
    turns: Sequence[float] = (),
) -> Comparison:
    """Judge `new` against `old`.

    "slower" (or "faster") needs both a ratio beyond `threshold` and an interval that leaves out 1;
    "same" needs the whole interval inside the threshold. All else is "inconclusive": measure more.
    An invalid measurement is never judged. `session` is a fraction by which the interval is wider
    on either side, for what differs between two sessions though nothing was changed.

    The ratio is Hodges and Lehmann's shift of the processes' log medians with the interval of the
    Wilcoxon, Mann and Whitney test, which no disturbed process and no skew makes lie. Below five
    processes a side that has none at 99%: then Welch's interval of the difference of their means
    (Biometrika 34, 1947), or that of one variance for both sides where it is wider.
    """
    reasons = _invalid(old, new)
    by_median = all(p.median_ns is not None for m in (old, new) for p in m.pooled)
    before, after = (_Side(m.pooled, by_median=by_median) for m in (old, new))
    found = _in_turns(turns, (confidence, 0.95)) if by_median else None
    method, difference, intervals = found or _difference(before, after, (confidence, 0.95))
    counts = (len(turns), len(turns)) if found else (len(before.logs), len(after.logs))
    session = 0.0 if found else session
    intervals = [i and (i[0] / (1 + session), i[1] * (1 + session)) for i in intervals]
    ratio, interval = math.exp(difference), intervals[0]
    if interval is None:
        reasons.append(f"too few runs for an interval (at least {_LEAST_RUNS} each)")
    verdict = "inconclusive"
    if not reasons and interval is not None:
        verdict = judge(ratio, interval, threshold)
        if verdict == "inconclusive":
            reasons.append(_unsure(interval, threshold))
    return Comparison(
        verdict=verdict,
        ratio=ratio,
        interval=interval,
        interval95=intervals[1],
        basis="median" if by_median else "mean",
        threshold=threshold,
        confidence=confidence,
        processes=counts,
        method=method,
        session=session,
        reasons=tuple(reasons),
    )


def _invalid(old: Measurement, new: Measurement) -> list[str]:
    return [
        f"the {name} measurement is invalid: {reason}"
        for name, measurement in (("old", old), ("new", new))
        for reason in measurement.invalid_reasons
    ]


def judge(ratio: float, interval: tuple[float, float], threshold: float) -> str:
    """The verdict of a time ratio with its interval, in the words of Comparison."""
    low, high = interval
    limit = 1 + threshold
    if low > 1 and ratio > limit:
        return "slower"
    if high < 1 and ratio < 1 / limit:
        return "faster"
    return "same" if low >= 1 / limit and high <= limit else "inconclusive"


def _unsure(interval: tuple[float, float], threshold: float) -> str:
    low, high = interval
    if low <= 1 <= high:
        return "the difference is not clear of the noise: measure more processes"
    way = "slower" if low > 1 else "faster"
    return (
        f"it is {way}, and whether by more than the threshold of {100 * threshold:.4g}% is not"
        " clear: measure more processes"
    )


class _Side:
    """The log times of processes, their variance, and what their own runs make of it.

    None: not to be told from what there is.
    """

    def __init__(self, pooled: Sequence[JudgedProcess], *, by_median: bool) -> None:
        self._pooled = pooled
        times = [p.median_ns if by_median else p.mean_ns for p in pooled]
        self.logs = tuple(math.log(time_ns) for time_ns in times if time_ns is not None)
        few = len(self.logs) < _LEAST_PROCESSES
        self.between = None if few else statistics.variance(self.logs)

    @cached_property
    def error(self) -> float | None:
        errors = [_own_error(p) for p in self._pooled]
        known = [e for e in errors if e is not None]
        return statistics.median(known) if known and len(known) == len(errors) else None


_Ends = tuple[float, float]


def _in_turns(
    logs: Sequence[float], confidences: tuple[float, float]
) -> tuple[str, float, list[_Ends | None]] | None:
    """As `_difference`; None where there are too few for an interval."""
    found = [centre_interval(logs, level) for level in confidences]
    if found[0] is None:
        return None
    ends = [None if f is None else (math.exp(f[0]), math.exp(f[1])) for f in found]
    return "turns", centre(logs), ends


def _difference(
    old: _Side, new: _Side, confidences: tuple[float, float]
) -> tuple[str, float, list[_Ends | None]]:
    """The method, the difference of log times, and the ratio's interval at each confidence."""
    ranks = [shift_interval(old.logs, new.logs, level) for level in confidences]
    if ranks[0] is not None:
        ends = [None if r is None else (math.exp(r[0]), math.exp(r[1])) for r in ranks]
        return "ranks", shift(old.logs, new.logs), ends
    difference = statistics.fmean(new.logs) - statistics.fmean(old.logs)
    alone = all(side.between is None for side in (old, new))
    spreads = _spreads(old, new)
    around = [_around(difference, spreads, level) for level in confidences]
    return "runs" if alone else "welch", difference, around


def _own_error(process: JudgedProcess) -> float | None:
    """Variance of the log of a process's median (or mean, of a summary) that its runs leave."""
    if process.samples_ns:
        return median_error(process.samples_ns)
    summary, runs = process.run.summary_ns or {}, process.run.runs
    if runs is None or runs < _LEAST_RUNS or "stdev" not in summary:
        return None
    return (summary["stdev"] / summary["mean"]) ** 2 / runs


def _spreads(old: _Side, new: _Side) -> list[tuple[float, float]]:
    """Variance of the difference and its degrees of freedom, by Welch and with one variance for
    both sides; none where it is unknown.

    Never less than the runs' own scatter makes it. A side of one process is taken to vary as the
    other side does; where both are, only the runs' scatter is known.
    """
    known = [side for side in (old, new) if side.between is not None]
    if not known:
        if old.error is None or new.error is None:
            return []
        return [(old.error + new.error, math.inf)]
    total, below, shared = 0.0, 0.0, 0.0
    for side in (old, new):
        source = side if side.between is not None else known[0]
        assert source.between is not None
        varies = max(source.between, source.error or 0.0)
        part = varies / len(side.logs)
        total += part
        shared += varies * (len(side.logs) - 1)
        below += part**2 / (len(source.logs) - 1)
    if len(known) == 1:
        return [(total, len(known[0].logs) - 1)]
    free = len(old.logs) + len(new.logs) - 2
    pooled = shared / free * (1 / len(old.logs) + 1 / len(new.logs))
    return [(total, total**2 / below if below else math.inf), (pooled, free)]


def _around(
    difference: float, spreads: Sequence[tuple[float, float]], confidence: float
) -> tuple[float, float] | None:
    """The widest of Student's intervals: Welch's alone is wrong 17 times in 1000 at 99% where two
    processes are held against five (simulated)."""
    if not spreads:
        return None
    tail, half = (1 + confidence) / 2, 0.0
    for variance, df in spreads:
        factor = t_quantile(tail, df) if df < 1e6 else statistics.NormalDist().inv_cdf(tail)
        half = max(half, factor * math.sqrt(variance))
    return math.exp(difference - half), math.exp(difference + half)
