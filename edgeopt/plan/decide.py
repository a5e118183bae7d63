"""The decision: from what the target takes, what data is there and what matters, to one choice.

The default is the published workflow: post-training quantization first; training when accuracy is
missed; pruning and clustering before quantization when size matters more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgeopt.errors import InputError, ModelError
from edgeopt.facts import ModelFacts
from edgeopt.plan.candidate import NEEDS_CALIBRATION, Candidate, Spec
from edgeopt.plan.options import Wish, every_candidate
from edgeopt.profile import HardwareProfile
from edgeopt.quality import QualityRequest
from edgeopt.target import Target

__all__ = ["Plan", "make_plan"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A decision with its reasons. `scheme` is None when the model needs no conversion.

    `candidates` is every choice, the ones that can be had first, in the order in which a search
    under an accuracy budget would try them. `quality` are fields of QualityRequest. `remarks` are
    the last of the `reasons`: they hold whoever chose. `search` names what a deploy under this
    job's accuracy budget tries, in that order; it is empty where nothing is searched.
    """

    target: str
    scheme: str | None
    io: str | None
    techniques: tuple[str, ...] = ()
    quality: Mapping[str, str] = field(default_factory=dict)
    goal: str | None = None
    reasons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    rejected: Mapping[str, str] | None = None
    expected_size_bytes: int | None = None
    candidates: tuple[Candidate, ...] = ()
    search: tuple[str, ...] = ()

    def told(self, *remarks: str) -> Plan:
        """With further remarks among its reasons, each once."""
        new = tuple(r for r in dict.fromkeys(remarks) if r not in self.reasons)
        return replace(self, reasons=(*self.reasons, *new), remarks=(*self.remarks, *new))

    @property
    def ladder(self) -> tuple[Candidate, ...]:
        """What a search under an accuracy budget tries, in this order."""
        return tuple(c for c in self.candidates if c.available and c.ladder)

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "scheme": self.scheme,
            "io": self.io,
            "techniques": list(self.techniques),
            "quality": dict(self.quality),
            "goal": self.goal,
            "reasons": list(self.reasons),
            "rejected": dict(self.rejected or {}),
            "expected_size_bytes": self.expected_size_bytes,
            "candidates": [c.to_json() for c in self.candidates],
            "search": list(self.search),
        }


def make_plan(
    facts: ModelFacts,
    target: Target,
    *,
    has_calibration: bool,
    has_train_data: bool = False,
    has_eval_data: bool = False,
    max_accuracy_drop: float | None = None,
    goal: str | None = None,
    techniques: tuple[str, ...] = (),
    scheme: str | None = None,
    io: str | None = None,
    splitting: str = "auto",
) -> Plan:
    """Choose techniques and a scheme for `target`, or check what was asked for.

    Labelled training data serves for calibration too; `splitting` is as QualityRequest has it.
    Raises InputError when the request cannot be met (a scheme the profile refuses, data that is
    missing, an I/O type that scheme or profile lack, training a .tflite), ModelError for a model
    that no choice can fit.
    """
    profile = target.profile
    if facts.weights_reduced or facts.quantized or profile.compiled(facts):
        return _finished(facts, target, scheme, io, techniques)
    guarded = has_eval_data and max_accuracy_drop is not None
    wish = Wish(
        has_calibration=has_calibration, has_train_data=has_train_data, guarded=guarded, goal=goal,
        io=io, splitting=splitting,
    )  # fmt: skip
    _check_trainable(facts, techniques)
    candidates = every_candidate(facts, profile, wish)
    if scheme or techniques:
        spec, reasons = _asked(profile, wish, scheme, techniques)
    else:
        spec, reasons = _first(profile, candidates).spec, _why(profile, wish, candidates)
    plan_io = _io(profile, str(spec.scheme), io)
    remarks = _remarks(profile, wish, spec, max_accuracy_drop, plan_io)
    return Plan(
        target=target.name,
        scheme=spec.scheme,
        io=plan_io,
        techniques=spec.techniques,
        quality=spec.quality,
        goal=goal,
        reasons=(*reasons, *remarks),
        remarks=remarks,
        rejected=_rejected(candidates, spec),
        expected_size_bytes=_size_bytes(facts, profile, wish, spec),
        candidates=candidates,
    )


def _rejected(candidates: tuple[Candidate, ...], spec: Spec) -> dict[str, str]:
    """By name, why what is not `spec` cannot be had."""
    return {c.name: c.reason for c in candidates if c.name != spec.name and not c.available}


def _size_bytes(facts: ModelFacts, profile: HardwareProfile, wish: Wish, spec: Spec) -> int | None:
    """Of all parameters in the scheme, from 4 bytes each; None where none are known, or where only
    a search can tell."""
    if not facts.parameters or "fallback" in spec.quality or _split_limit(wish, spec) > 1:
        return None
    ratio = profile.schemes[str(spec.scheme)].expected_size_ratio
    return round(facts.parameters * 4 * ratio)


def _split_limit(wish: Wish, spec: Spec) -> float:
    """How many times the multiplications of plain int8 may be spent; 1 for none."""
    asked = QualityRequest(**{"splitting": wish.splitting, **spec.quality}).towards(wish.goal)
    return asked.split_limit if spec.scheme == "int8" else 1.0


def _finished(
    facts: ModelFacts,
    target: Target,
    scheme: str | None,
    io: str | None,
    techniques: tuple[str, ...],
) -> Plan:
    """A model that is quantized, or compiled even, is taken as it is or not at all."""
    have = facts.inputs[0].dtype if facts.inputs else None
    compiled = target.profile.compiled(facts)
    state = f"compiled for {target.profile.name}" if compiled else "quantized"
    whole = bool(compiled) or facts.quantized
    if not whole and NEEDS_CALIBRATION.issuperset(target.profile.preferred):
        raise ModelError(
            f"{facts.path.name} has smaller weights (float16 or dynamic range) and computes in "
            f"float; {target.profile.name} takes only {_list(target.profile.preferred)}.",
            "Give the float32 model that it was made from.",
        )
    unfit = scheme not in (None, *(("int8",) if whole else ())) or (io is not None and io != have)
    if unfit or techniques:
        flags = (*(f"--technique {t}" for t in techniques), scheme and f"--scheme {scheme}")
        asked = " and ".join(filter(None, [*flags, io and f"--io {io}"]))
        raise InputError(
            f"{facts.path.name} is already {state} ({have} input): {asked} cannot apply to it.",
            "Give the float model that it was made from, or leave those flags out.",
        )
    rest = "nothing to convert or to compile" if compiled else "nothing to convert"
    reason = f"The model is already {state} ({have} input): {rest}."
    return Plan(target=target.name, scheme=None, io=None, reasons=(reason,))


def _check_trainable(facts: ModelFacts, techniques: tuple[str, ...]) -> None:
    if techniques and facts.format == "tflite":
        raise InputError(
            f"{facts.path.name} is a .tflite, which cannot be trained any more: --technique "
            f"{techniques[0]} cannot apply to it.",
            "Give the Keras model (.keras, .h5 or SavedModel) that it was made from.",
        )


def _first(profile: HardwareProfile, candidates: tuple[Candidate, ...]) -> Candidate:
    found = next((c for c in candidates if c.available), None)
    if found is not None:
        return found
    raise InputError(
        f"{profile.name} takes only {_list(profile.preferred)}, which needs representative data.",
        "Give it with --calibration: a folder of images, .npz, .npy or module:function "
        "(100 to 500 samples of real input).",
    )


def _why(profile: HardwareProfile, wish: Wish, candidates: tuple[Candidate, ...]) -> list[str]:
    first = _first(profile, candidates)
    matters = f", and {wish.goal} matters most" if wish.goal else ""
    reasons = [
        f"{first.name} is the best choice for {profile.name} with the data at hand{matters}."
    ]
    better = profile.preferred[: profile.preferred.index(str(first.spec.scheme))]
    for other in candidates:
        if other.name in better and other.missing:
            reasons.append(f"{other.name} was passed over: it {other.reason}")
    return reasons


def _remarks(
    profile: HardwareProfile, wish: Wish, spec: Spec, budget: float | None, io: str | None
) -> tuple[str, ...]:
    """What a reader must know of the choice, whoever made it."""
    chosen = str(spec.scheme)
    found, note = [], profile.schemes[chosen].note
    if profile.schemes[chosen].slow:
        found.append(f"Slow on {profile.name}: {note or 'runs on reference kernels.'}")
    elif note:
        found.append(note)
    if chosen in NEEDS_CALIBRATION and not wish.has_calibration:
        found.append("The training data serves for calibration: there is no --calibration.")
    if (limit := _split_limit(wish, spec)) > 1:
        found.append(
            f"Activations may be held twice, for up to {limit:g} times the multiplications of "
            "plain int8."
        )
    if {"prune", "cluster"}.intersection(spec.techniques) and not wish.guarded:
        found.append(
            "Nothing guards the accuracy, which pruning and clustering cost some of: give "
            "--eval-data and --max-accuracy-drop."
        )
    elif budget is not None and not wish.guarded:
        found.append("The accuracy budget needs labelled data to be held: give --eval-data.")
    if io and io != "float32":
        found.append(f"{io} input and output: {profile.name} takes {_list(profile.io_types)}.")
    return tuple(found)


def _asked(
    profile: HardwareProfile, wish: Wish, scheme: str | None, techniques: tuple[str, ...]
) -> tuple[Spec, list[str]]:
    """What to make, and why, after every check that can be made before work begins."""
    reasons = []
    if techniques:
        reasons.append(f"{' + '.join(techniques)} was asked for.")
    if scheme:
        chosen = _checked(profile, scheme, wish)
        reasons.append(f"{chosen} was asked for.")
    else:
        chosen = wish.base(profile)
        reasons.append(f"{chosen} is what {profile.name} runs best after it.")
    if "qat" in techniques and chosen not in NEEDS_CALIBRATION and chosen != "dynamic_int8":
        reasons.append(f"qat prepares weights for 8 bits; {chosen} makes no use of that.")
    return Spec(scheme=chosen, techniques=techniques), reasons


def _checked(profile: HardwareProfile, scheme: str, wish: Wish) -> str:
    facts = profile.schemes.get(scheme)
    if facts is None or not facts.suits:
        why = f" {facts.note}" if facts and facts.note else ""
        raise InputError(
            f"The scheme {scheme} does not suit {profile.name}.{why}",
            f"Use one of: {', '.join(n for n, s in profile.schemes.items() if s.suits)}.",
        )
    if scheme in NEEDS_CALIBRATION and not wish.can_calibrate:
        raise InputError(
            f"{scheme} needs a representative dataset.",
            "Give calibration data with --calibration: a folder of images, .npz, .npy or "
            "module:function.",
        )
    return scheme


def _io(profile: HardwareProfile, scheme: str, io: str | None) -> str | None:
    if scheme != "int8":
        if io not in (None, "float32"):
            raise InputError(
                f"--io {io} goes with --scheme int8; {scheme} keeps float32 input and output.",
                "Leave --io out, or choose --scheme int8.",
            )
        return "float32"
    chosen = io or profile.default_io
    if chosen not in profile.io_types:
        raise InputError(
            f"{profile.name} does not take {chosen} input and output.",
            f"Use --io {' or --io '.join(profile.io_types)}.",
        )
    return chosen


def _list(names: tuple[str, ...]) -> str:
    return " or ".join(names)
