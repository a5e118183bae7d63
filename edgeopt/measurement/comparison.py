"""Comparison: is the new measurement faster, and is that more than the noise of the two runs?"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeopt.measurement.measurement import Measurement

__all__ = ["Comparison", "compare"]

_RESAMPLES = 10_000
_MIN_SAMPLES = 6  # below this a median has no 95% interval at all
_Z95 = statistics.NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`ratio` is new / old time (below 1: faster), `interval` its 95% confidence interval.

    The interval knows the noise inside the two runs only, not that between boots or builds.
    `basis` is "median", or "mean" where a runtime gives no single runs. `reasons` say why a
    verdict is "inconclusive".
    """

    verdict: str  # "faster", "slower", "same" or "inconclusive"
    ratio: float | None
    interval: tuple[float, float] | None
    basis: str
    threshold: float
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.ratio is None:
            return f"{self.verdict}: {'; '.join(self.reasons)}"
        text = f"{self.verdict}: {self.basis} x {self.ratio:.3f}"
        if self.interval:
            text += f" (95% interval {self.interval[0]:.3f} to {self.interval[1]:.3f})"
        return text + (f"; {'; '.join(self.reasons)}" if self.reasons else "")

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "ratio": self.ratio,
            "interval95": list(self.interval) if self.interval else None,
            "basis": self.basis,
            "threshold": self.threshold,
            "reasons": list(self.reasons),
        }


def compare(
    old: Measurement, new: Measurement, *, threshold: float = 0.03, seed: int = 0
) -> Comparison:
    """Judge `new` against `old`.

    "slower" (or "faster") needs both a ratio beyond `threshold` and an interval that leaves out 1;
    "same" needs the whole interval inside the threshold. All else is "inconclusive": measure more.
    An invalid measurement is never judged. The bootstrap is seeded: equal input, equal answer.
    """
    reasons = [
        f"the {name} measurement is invalid: {reason}"
        for name, measurement in (("old", old), ("new", new))
        for reason in measurement.invalid_reasons
    ]
    if old.samples_ns and new.samples_ns:
        basis = "median"
        ratio = statistics.median(new.samples_ns) / statistics.median(old.samples_ns)
        interval = _of_medians(old.samples_ns, new.samples_ns, seed)
    else:
        basis = "mean"
        ratio, interval = _of_means(old, new)
    if interval is None:
        reasons.append(f"too few runs for an interval (at least {_MIN_SAMPLES} each)")
    verdict = "inconclusive"
    if not reasons and interval is not None:
        verdict = judge(ratio, interval, threshold)
        if verdict == "inconclusive":
            reasons.append("the difference is not clear of the noise: measure more runs")
    return Comparison(
        verdict=verdict,
        ratio=ratio,
        interval=interval,
        basis=basis,
        threshold=threshold,
        reasons=tuple(reasons),
    )


def judge(ratio: float, interval: tuple[float, float], threshold: float) -> str:
    """The verdict of a time ratio with its interval, in the words of Comparison."""
    low, high = interval
    limit = 1 + threshold
    if low > 1 and ratio > limit:
        return "slower"
    if high < 1 and ratio < 1 / limit:
        return "faster"
    return "same" if low >= 1 / limit and high <= limit else "inconclusive"


def _of_medians(old: Sequence[int], new: Sequence[int], seed: int) -> tuple[float, float] | None:
    """Percentile bootstrap of the ratio (Efron and Tibshirani, chapter 13)."""
    import numpy as np

    if min(len(old), len(new)) < _MIN_SAMPLES:
        return None
    random = np.random.default_rng(seed)

    def medians(samples: Sequence[int]) -> Any:
        # A resample's sorted ranks are n * (sorted uniforms), and those middle ones follow a beta
        # distribution: this draws the bootstrap's medians themselves, without n draws for each.
        ordered, n = np.sort(np.asarray(samples, dtype=np.float64)), len(samples)
        middle = (n + 1) // 2
        low = random.beta(middle, n - middle + 1, _RESAMPLES)
        high = low
        if n % 2 == 0:
            high = low + (1 - low) * random.beta(1, n - middle, _RESAMPLES)
        ranks = [np.minimum((u * n).astype(np.int64), n - 1) for u in (low, high)]
        return (ordered[ranks[0]] + ordered[ranks[1]]) / 2

    before, after = medians(old), medians(new)
    low, high = np.percentile(after / before, [2.5, 97.5])
    return float(low), float(high)


def _of_means(old: Measurement, new: Measurement) -> tuple[float, tuple[float, float] | None]:
    """Normal interval of the logarithm of the ratio of two independent means (delta method)."""
    means = [m.stats.mean_ns or math.nan for m in (old, new)]
    ratio = means[1] / means[0]
    variance = 0.0
    for measurement, mean in zip((old, new), means, strict=True):
        runs, stdev = measurement.runs, measurement.stats.stdev_ns
        if runs is None or runs < _MIN_SAMPLES or stdev is None:
            return ratio, None
        variance += (stdev / mean) ** 2 / runs
    spread = _Z95 * math.sqrt(variance)
    return ratio, (ratio * math.exp(-spread), ratio * math.exp(spread))
