"""Every choice in one situation, in the order in which it would be made. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeopt.facts import ModelFacts
from edgeopt.plan.candidate import NEEDS_CALIBRATION, Candidate, Spec
from edgeopt.plan.catalog import (
    FALLBACK,
    SCHEME_FACTS,
    SEARCH_COST,
    TRAINED,
    split_cost,
    split_spec,
    training_cost,
)
from edgeopt.profile import HardwareProfile

__all__ = ["Wish", "every_candidate"]

_SMALLER = {"prune", "cluster"}  # what shrinks the download, at a price in accuracy
_LAST = 99


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The data at hand and what matters. `guarded`: an accuracy budget that can be measured;
    `splitting` as QualityRequest has it."""

    has_calibration: bool = False
    has_train_data: bool = False
    guarded: bool = False
    goal: str | None = None
    io: str | None = None
    splitting: str = "auto"

    @property
    def can_calibrate(self) -> bool:
        return self.has_calibration or self.has_train_data

    def base(self, profile: HardwareProfile) -> str:
        """The scheme that goes with training: the smallest that the target and the data allow."""
        for name in ("int8", "dynamic_int8", "float16", *profile.preferred):
            scheme = profile.schemes.get(name)
            if scheme and scheme.suits and (name not in NEEDS_CALIBRATION or self.can_calibrate):
                return name
        return profile.preferred[0]


def every_candidate(
    facts: ModelFacts, profile: HardwareProfile, wish: Wish
) -> tuple[Candidate, ...]:
    """The ones that can be had first, best first; then those that lack data, then the refused."""
    schemes = (*profile.preferred, *(n for n in SCHEME_FACTS if n not in profile.preferred))
    base = wish.base(profile) if wish.can_calibrate else _first_integer(profile)
    specs = [Spec(scheme=name) for name in schemes]
    specs += [FALLBACK, split_spec(wish.splitting)]
    specs += [Spec(scheme=base, techniques=names) for names in TRAINED]
    found = [_candidate(spec, facts, profile, wish) for spec in specs]
    order = _Order(profile, wish)
    best = next((c for c in sorted(found, key=order) if c.available), None)
    told = [_told(c, best, profile, wish) for c in found]
    return tuple(sorted(told, key=order))


def _first_integer(profile: HardwareProfile) -> str:
    suits = {name for name, scheme in profile.schemes.items() if scheme.suits}
    return next((n for n in ("int8", "dynamic_int8", "float16") if n in suits), "float32")


def _candidate(spec: Spec, facts: ModelFacts, profile: HardwareProfile, wish: Wish) -> Candidate:
    assert spec.scheme is not None
    scheme, fact = profile.schemes.get(spec.scheme), SCHEME_FACTS[spec.scheme]
    needs = ("train_data",) if spec.techniques else fact.needs
    ratio = None if spec.quality or scheme is None else scheme.expected_size_ratio
    cost = training_cost(spec.techniques) if spec.techniques else fact.cost
    if spec.quality:
        cost = split_cost(spec) if "splitting" in spec.quality else SEARCH_COST
    return Candidate(
        spec=spec,
        needs=needs,
        missing=_missing(needs, wish),
        refused=_refused(spec, facts, profile, wish),
        ladder=_in_ladder(spec, wish),
        slow=bool(scheme and scheme.slow),
        expected_size_ratio=ratio,
        expected_size_bytes=(
            round(facts.parameters * 4 * ratio) if ratio and facts.parameters else None
        ),
        support=("CPU",) if "fallback" in spec.quality else fact.support,
        reason="",
        cost=cost,
    )


def _missing(needs: tuple[str, ...], wish: Wish) -> tuple[str, ...]:
    have = {"calibration": wish.can_calibrate, "train_data": wish.has_train_data}
    return tuple(name for name in needs if not have[name])


def _refused(spec: Spec, facts: ModelFacts, profile: HardwareProfile, wish: Wish) -> str:
    """Why no data could help; "" where nothing is in the way."""
    assert spec.scheme is not None
    scheme = profile.schemes.get(spec.scheme)
    if scheme is None or not scheme.suits:
        note = scheme.note if scheme else "The profile does not name it."
        return f"does not suit {profile.name}: {note}".strip(": ")
    if "fallback" in spec.quality and not (
        profile.float_fallback and "float32" in profile.activation_types
    ):
        return f"does not suit {profile.name}: it takes no float operations."
    if "splitting" in spec.quality and wish.splitting == "off":
        return "is ruled out: --splitting off was asked for."
    if spec.techniques and facts.format == "tflite":
        return "cannot be had from a .tflite: give the Keras model that it was made from."
    if wish.io not in (None, "float32") and spec.scheme != "int8":
        return f"keeps float32 input and output; --io {wish.io} was asked for."
    return ""


def _in_ladder(spec: Spec, wish: Wish) -> bool:
    """float32 optimizes nothing, and pruning and clustering only cost accuracy: tried for size."""
    smaller = bool(_SMALLER.intersection(spec.techniques))
    return spec.scheme != "float32" and (not smaller or wish.goal == "size")


class _Order:
    """Sort key. Without a goal: cheapest to make first, that is post-training in the target's own
    preference, then with more effort, then trained, then on slow kernels."""

    def __init__(self, profile: HardwareProfile, wish: Wish) -> None:
        self.profile, self.wish = profile, wish

    def __call__(self, candidate: Candidate) -> tuple[int, ...]:
        state = 2 if candidate.refused else 1 if candidate.missing else 0
        spec = candidate.spec
        # what a search would not try comes after what it would
        useless = 0 if candidate.ladder else 2 if spec.scheme == "float32" else 1
        if candidate.slow:
            useless = max(useless, 1)
        rank = {"size": self._size, "latency": self._latency, "accuracy": self._accuracy}
        by_goal = rank.get(self.wish.goal or "", self._cheapest)(spec)
        return (state, useless, *by_goal, TRAINED.index(spec.techniques) if spec.techniques else -1)

    def _preferred(self, spec: Spec) -> int:
        preferred = self.profile.preferred
        return preferred.index(str(spec.scheme)) if spec.scheme in preferred else _LAST

    def _cheapest(self, spec: Spec) -> tuple[int, ...]:
        effort = 2 if spec.techniques else 1 if spec.quality else 0
        return effort, self._preferred(spec)

    def _latency(self, spec: Spec) -> tuple[int, ...]:
        return self._preferred(spec), 2 if spec.quality else 1 if spec.techniques else 0

    def _size(self, spec: Spec) -> tuple[int, ...]:
        """Smallest download first; both together only where a budget guards the accuracy."""
        smaller = tuple(t for t in spec.techniques if t in _SMALLER)
        pair = 0 if self.wish.guarded else 2
        step = {("prune", "cluster"): pair, ("prune",): 1, ("cluster",): 3}.get(smaller, 4)
        scheme = self.profile.schemes.get(str(spec.scheme))
        ratio = round(100 * scheme.expected_size_ratio) if scheme else _LAST
        return step, ratio, int(bool(spec.quality)), len(spec.techniques), self._preferred(spec)

    def _accuracy(self, spec: Spec) -> tuple[int, ...]:
        """Least loss first, as published: float16, dynamic range and trained, then integers."""
        if spec.quality:
            return (3,)
        known = {"float16": 0, "dynamic_int8": 1, "int8": 4, "int16x8": 5}
        return (2,) if "qat" in spec.techniques else (known.get(str(spec.scheme), _LAST),)


def _told(
    candidate: Candidate, best: Candidate | None, profile: HardwareProfile, wish: Wish
) -> Candidate:
    """With the reason, in words that finish the sentence "NAME ..."."""
    return replace(candidate, reason=_reason(candidate, best, profile, wish))


def _reason(
    candidate: Candidate, best: Candidate | None, profile: HardwareProfile, wish: Wish
) -> str:
    spec = candidate.spec
    if candidate.refused:
        return candidate.refused
    if "train_data" in candidate.missing:
        return "needs labelled training data: give it with --train-data."
    if candidate.missing:
        return "needs a representative dataset: give one with --calibration."
    if best is not None and candidate.name == best.name:
        return f"is first for {profile.name} with the data at hand."
    if spec.scheme == "float32":
        return "optimizes nothing: the size and speed of the source."
    if candidate.slow:
        note = profile.schemes[str(spec.scheme)].note
        return f"is slow here: {note}" if note else "is slow here."
    if _SMALLER.intersection(spec.techniques) and wish.goal != "size":
        return "is for --goal size: zeros and few distinct values make the download smaller."
    smaller = _SMALLER.intersection(spec.techniques)
    if len(smaller) == 2 and not wish.guarded:
        return "is smaller still, and riskier: guard it with --max-accuracy-drop and --eval-data."
    if smaller and best is not None:
        return f"is for when {best.name} misses the accuracy budget."
    if spec.techniques:
        return "is for when post-training quantization misses the accuracy budget."
    if "splitting" in spec.quality:
        return "is for when int8 misses the accuracy budget: activations are held twice."
    if spec.quality:
        return "is for when int8 misses the accuracy budget: the worst layers stay in float."
    note = profile.schemes[str(spec.scheme)].note
    return f"comes after {best.name if best else '-'}. {note}".strip()
