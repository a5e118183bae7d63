"""Which of the improvements to use: each is tried, and judged on samples that it was not fitted on.

A candidate is a range estimator, with or without equalized channels and corrected biases; all have
the operations of plain int8, so none is slower to run. Every third calibration sample is held out
while they are compared; the one that is chosen is then built anew with all samples.

The loss of a classifier is the geometric mean of two shares: noise over signal of its logits (less
their mean over the classes), and how much of its first answer's lead was lost, squared (1 is
another answer). Signal to noise alone favours clipped ranges that change answers; changed answers
alone are too few to count. Other models have the first share only. A simpler candidate wins unless
it loses by more than chance: a tenth, and a standard error of the noise or two of the leads, which
a single answer near a draw can decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeopt.optimize.statistics import FEWEST
from edgeopt.quality import RANGES, QualityRequest

__all__ = [
    "PLAIN",
    "Candidate",
    "Trial",
    "answers_lost",
    "candidates",
    "choose",
    "leads_lost",
    "plain_quality",
    "rivals",
    "settled",
    "why_alone",
    "why_chosen",
]

_CLOSE = 1.1  # of the smallest loss: half a decibel
_CHANCE = 1.5  # of the noise: above this, no tie
_LEADS = 2.0  # standard errors: one changed answer is always about one


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to quantize; its complexity orders ties."""

    ranges: str = "minmax"
    equalization: bool = False
    bias_correction: bool = False

    @property
    def complexity(self) -> int:
        # Searched ranges count as no estimate: their gain is hidden while weights are not rounded.
        estimated = self.ranges not in ("minmax", "search")
        return 2 * self.equalization + self.bias_correction + estimated

    def describe(self) -> str:
        parts = ["minimum and maximum" if self.ranges == "minmax" else f"{self.ranges} ranges"]
        parts += ["equalized channels"] * self.equalization
        parts += ["corrected biases"] * self.bias_correction
        return ", ".join(parts)


PLAIN = Candidate()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A candidate's figures a held-out sample; `agrees` and `margin_lost` of classifiers only."""

    candidate: Candidate
    noise: tuple[float, ...]
    agrees: tuple[bool, ...] = ()
    margin_lost: tuple[float, ...] = field(default=(), repr=False)

    @property
    def sqnr_db(self) -> float | None:
        total = math.fsum(self.noise)
        return -10 * math.log10(total) if 0 < total < math.inf else None

    @property
    def agreement(self) -> float | None:
        return sum(self.agrees) / len(self.agrees) if self.agrees else None

    @property
    def loss(self) -> float:
        noise = math.fsum(self.noise)
        if math.isnan(noise):
            return math.inf
        if not self.margin_lost:
            return noise
        return math.sqrt(noise * math.fsum(self.margin_lost) / len(self.margin_lost))

    def to_json(self) -> dict[str, Any]:
        return {
            "ranges": self.candidate.ranges,
            "equalization": self.candidate.equalization,
            "bias_correction": self.candidate.bias_correction,
            "loss": self.loss if math.isfinite(self.loss) else None,
            "sqnr_db": self.sqnr_db,
            "agreement": self.agreement,
        }


def candidates(
    request: QualityRequest, *, scheme: str = "int8", keep: Sequence[str] = ()
) -> list[Candidate]:
    """What to try, plain first where the request allows it.

    int16 activations are fine enough for minimum and maximum; columns of clustered weights may not
    be scaled apart.
    """
    estimators = [request.ranges]
    if request.ranges == "auto":
        estimators = ["minmax"] if scheme == "int16x8" else [r for r in RANGES if r != "auto"]
    equalized = _choices(request.equalization)
    if "clusters" in keep:
        equalized = [False]
    corrected = _choices(request.bias_correction)
    # Correction was never seen to lose by more than chance: beside others it is on where it may be.
    full = [
        Candidate(ranges=estimator, equalization=even, bias_correction=corrected[-1])
        for even in equalized
        for estimator in estimators
    ]
    plainest = Candidate(
        ranges=estimators[0], equalization=equalized[0], bias_correction=corrected[0]
    )
    return [plainest, *(each for each in full if each != plainest)]


def _choices(switch: str) -> list[bool]:
    return {"auto": [False, True], "on": [True], "off": [False]}[switch]


def settled(tried: Sequence[Candidate], samples: int) -> bool:
    """Whether nothing is to be compared, so that the first holds: all is forced, or there are too
    few samples to hold some out."""
    return len(tried) == 1 or samples < FEWEST


def plain_quality(why: str) -> dict[str, Any]:
    """The report of a conversion that could be nothing but plain."""
    return {"chosen": vars(PLAIN), "why": why, "candidates": []}


def choose(trials: Sequence[Trial]) -> Trial:
    """The smallest loss, or the simplest candidate that loses no more than chance to it."""
    best = min(trials, key=lambda trial: (trial.loss, trial.candidate.complexity))
    ordered = sorted(trials, key=lambda trial: (trial.candidate.complexity, trial.loss))
    return next(trial for trial in ordered if trial is best or _ties(trial, best))


def rivals(chosen: Candidate, trials: Sequence[Trial]) -> list[Candidate]:
    """What may lose less than `chosen` once weights are rounded, whose noise hides what is gained
    in activations: the same ranges, with or without equalization.

    Other ranges are none: those of least loss are often clipped to what the samples held out, when
    these are much like those fitted on, do not exceed.
    """
    turned = [
        trial
        for trial in trials
        if trial.candidate.ranges == chosen.ranges
        and trial.candidate.equalization != chosen.equalization
        and math.isfinite(trial.loss)
    ]
    return [min(turned, key=lambda trial: trial.loss).candidate] if turned else []


def _ties(simple: Trial, best: Trial) -> bool:
    if simple.candidate.complexity >= best.candidate.complexity or simple.loss == math.inf:
        return False
    if answers_lost(best, simple):
        return False
    noises = math.fsum(simple.noise), math.fsum(best.noise)
    if noises[0] <= noises[1] * _CLOSE and simple.loss <= best.loss * _CLOSE:
        return True
    if noises[0] > noises[1] * _CHANCE or _apart(simple.noise, best.noise):
        return False
    return not leads_lost(best, simple)


def answers_lost(before: Trial, after: Trial) -> bool:
    """Whether fewer answers agree than chance explains: by more than the root of how many of them
    changed either way."""
    pairs = list(zip(before.agrees, after.agrees, strict=True))
    changed = sum(one != other for one, other in pairs)
    return sum(one - other for one, other in pairs) > math.sqrt(changed)


def leads_lost(before: Trial, after: Trial) -> bool:
    """Whether leads of first answers shrank by more than chance."""
    return _apart(after.margin_lost, before.margin_lost, _LEADS)


def _apart(one: Sequence[float], other: Sequence[float], errors: float = 1.0) -> bool:
    """Whether `one` is larger: the mean paired difference above so many of its standard errors."""
    differences = [a - b for a, b in zip(one, other, strict=True)]
    count = len(differences)
    if not count:
        return False
    if count < 2:
        return True
    mean = math.fsum(differences) / count
    spread = math.fsum((d - mean) ** 2 for d in differences) / (count - 1)
    return mean > errors * math.sqrt(spread / count)


def why_alone(candidates: int, samples: int) -> str:
    """Why nothing was compared, in words."""
    return (
        "as asked for" if candidates == 1 else f"only {samples} samples, too few to hold some out"
    )


def why_chosen(chosen: Candidate, trials: Sequence[Trial]) -> str:
    """Why it won over the others, in words."""
    plain, best = trials[0], next((t for t in trials if t.candidate == chosen), trials[0])
    among = f"{len(trials)} ways tried on {len(plain.noise)} samples held out"
    if best is plain:
        return f"none of {among} loses less by more than chance"
    figures = [_decibels(each) for each in (best, plain)]
    return f"least loss of {among}, {figures[0]} against {figures[1]} of the plainest"


def _decibels(trial: Trial) -> str:
    return "no noise" if trial.sqnr_db is None else f"{trial.sqnr_db:.1f} dB"
