"""Plan: which scheme and techniques, and why. Pure, and made before any heavy import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeopt.errors import InputError, ModelError
from edgeopt.facts import ModelFacts
from edgeopt.profile import HardwareProfile
from edgeopt.target import Target

__all__ = ["NEEDS_CALIBRATION", "Plan", "make_plan"]

NEEDS_CALIBRATION = frozenset({"int8", "int16x8"})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A decision with its reasons. `scheme` is None when the model needs no conversion."""

    target: str
    scheme: str | None
    io: str | None
    techniques: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    rejected: Mapping[str, str] | None = None
    expected_size_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "scheme": self.scheme,
            "io": self.io,
            "techniques": list(self.techniques),
            "reasons": list(self.reasons),
            "rejected": dict(self.rejected or {}),
            "expected_size_bytes": self.expected_size_bytes,
        }


def make_plan(
    facts: ModelFacts,
    target: Target,
    *,
    has_calibration: bool,
    scheme: str | None = None,
    io: str | None = None,
) -> Plan:
    """Choose a scheme for `target`, or check the one that was asked for.

    Raises InputError when the request cannot be met: a scheme the profile refuses, calibration data
    that is missing, an I/O type that the scheme or the profile does not have.
    """
    profile = target.profile
    if facts.weights_reduced or facts.quantized or profile.compiled(facts):
        return _finished(facts, target, scheme, io)
    if scheme is None:
        chosen, reasons, rejected = _choose(profile, has_calibration)
    else:
        chosen, reasons, rejected = _checked(profile, scheme, has_calibration), [], {}
        reasons.append(f"{chosen} was asked for.")
    note = profile.schemes[chosen].note
    if profile.schemes[chosen].slow:
        reasons.append(f"Slow on {profile.name}: {note or 'runs on reference kernels.'}")
    elif note:
        reasons.append(note)
    plan_io = _io(profile, chosen, io)
    if plan_io and plan_io != "float32":
        reasons.append(
            f"{plan_io} input and output: {profile.name} takes {_list(profile.io_types)}."
        )
    size = None
    if facts.parameters:
        size = round(facts.parameters * 4 * profile.schemes[chosen].expected_size_ratio)
    return Plan(
        target=target.name,
        scheme=chosen,
        io=plan_io,
        reasons=tuple(reasons),
        rejected=rejected,
        expected_size_bytes=size,
    )


def _finished(facts: ModelFacts, target: Target, scheme: str | None, io: str | None) -> Plan:
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
    if scheme not in (None, *(("int8",) if whole else ())) or (io is not None and io != have):
        asked = " and ".join(filter(None, [scheme and f"--scheme {scheme}", io and f"--io {io}"]))
        raise InputError(
            f"{facts.path.name} is already {state} ({have} input): {asked} cannot apply to it.",
            "Give the float model that it was made from, or leave those flags out.",
        )
    rest = "nothing to convert or to compile" if compiled else "nothing to convert"
    reason = f"The model is already {state} ({have} input): {rest}."
    return Plan(target=target.name, scheme=None, io=None, reasons=(reason,))


def _choose(
    profile: HardwareProfile, has_calibration: bool
) -> tuple[str, list[str], dict[str, str]]:
    rejected: dict[str, str] = {}
    for name in profile.preferred:
        if name in NEEDS_CALIBRATION and not has_calibration:
            rejected[name] = "needs a representative dataset: give one with --calibration."
            continue
        reasons = [f"{name} is the best scheme for {profile.name} with the data at hand."]
        reasons += [f"{other} was passed over: it {why}" for other, why in rejected.items()]
        for other, facts in profile.schemes.items():
            if not facts.suits:
                rejected.setdefault(
                    other, f"does not suit {profile.name}: {facts.note}".strip(": ")
                )
        return name, reasons, rejected
    raise InputError(
        f"{profile.name} takes only {_list(profile.preferred)}, which needs representative data.",
        "Give it with --calibration: a folder of images, .npz, .npy or module:function "
        "(100 to 500 samples of real input).",
    )


def _checked(profile: HardwareProfile, scheme: str, has_calibration: bool) -> str:
    facts = profile.schemes.get(scheme)
    if facts is None or not facts.suits:
        why = f" {facts.note}" if facts and facts.note else ""
        raise InputError(
            f"The scheme {scheme} does not suit {profile.name}.{why}",
            f"Use one of: {', '.join(n for n, s in profile.schemes.items() if s.suits)}.",
        )
    if scheme in NEEDS_CALIBRATION and not has_calibration:
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
