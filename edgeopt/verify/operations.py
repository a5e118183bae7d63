"""What the accelerator makes of one operation: takes it, leaves it to the CPU, or fails on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import edgeopt.verify.npu_checks
import edgeopt.verify.shape_checks  # noqa: F401 - registers its rules, as the one above
from edgeopt.facts import Operator
from edgeopt.findings import Violation
from edgeopt.profile import HardwareProfile
from edgeopt.profile.rules import Check, OperationRule
from edgeopt.verify.checks import CHECKS, uncertain
from edgeopt.verify.graph import Graph
from edgeopt.verify.refusals import computed_shape, empty_tensors, phrase, refusals

__all__ = ["Judgement", "judge", "requirement"]

_CALIBRATE = "Convert the float model with edgeopt convert --calibration DATA."


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """`supported`: the accelerator takes it, as far as is known.

    `reason`, `hint`, `cause` and `phrase` (what the tool prints) tell of the refusal, or of the one
    that is feared: `certain` is False in a bracket, between what is known to be taken and what is
    known refused. `broken` makes the tool refuse the whole file, wherever the operation runs;
    `fatal` does so if it is in the partition; `advice` is legal or not certain. `checked` counts
    the comparisons that could be made.
    """

    supported: bool
    certain: bool = True
    reason: str = ""
    hint: str = ""
    cause: str = ""
    phrase: str | None = None
    source: str = ""
    broken: tuple[Violation, ...] = ()
    fatal: tuple[Violation, ...] = ()
    advice: tuple[Violation, ...] = ()
    checked: int = 1


def judge(op: Operator, graph: Graph, profile: HardwareProfile) -> Judgement:
    """By the profile's rule for the operation; one that has none runs on the CPU."""
    rule = profile.operations.get(op.op)
    if rule is not None and rule.custom != op.custom:
        rule = None
    if computed := computed_shape(op, graph, profile):
        return _broken(op, computed, profile)
    found = list(refusals(op, graph, rule, profile))
    if not found:
        assert rule is not None
        return _Checks(op, graph, rule, profile).judgement()
    remedy = profile.remedies.get(op.op, "")
    unquantized = rule is not None and profile.requires_quantization and _float_weights(op)
    cause, reason = found[0]
    return Judgement(
        supported=False,
        reason=reason,
        hint=remedy or (_CALIBRATE if unquantized else ""),
        cause=cause,
        phrase=phrase({name for name, _ in found}, profile, op.op),
        source=profile.partition.source if rule is None else rule.source,
        checked=1 if rule is None else 4,
    )


def _broken(op: Operator, computed: str, profile: HardwareProfile) -> Judgement:
    """Whatever its types: the interpreter inside the tool meets this before anything else."""
    violation = Violation(
        constraint="shapes.computed",
        where=op.where,
        found=computed,
        required="constants where a shape follows from them",
        hint="Fix every shape of the source model (a batch of 1, sizes as numbers), convert again.",
        source=profile.sources.get("computed_shapes", ""),
    )
    return Judgement(
        supported=False,
        reason=computed,
        hint=violation.hint,
        cause="dynamic",
        source=violation.source,
        broken=(violation,),
    )


def _float_weights(op: Operator) -> bool:
    return any(t is not None and t.constant and t.dtype.startswith("float") for t in op.inputs)


@dataclass
class _Checks:
    """The rules of one operation, one after the other."""

    op: Operator
    graph: Graph
    rule: OperationRule
    profile: HardwareProfile
    checked: int = 4  # name, types, version and shape
    doubts: list[tuple[str, Check | None]] = field(default_factory=list)
    fatal: list[Violation] = field(default_factory=list)
    advice: list[Violation] = field(default_factory=list)

    def judgement(self) -> Judgement:
        """The first rule that refuses decides; a doubt only when none does."""
        for check in self.rule.checks:
            if self._applies(check) and (refused := self._run(check)) is not None:
                return refused
        if empty := empty_tensors(self.op, self.graph):
            self.doubts.append((empty, None))
        feared: dict[str, Any] = {"source": self.rule.source}
        if self.doubts:
            feared = self._told(*self.doubts[0])
        return Judgement(
            supported=True,
            certain=not self.doubts,
            fatal=tuple(self.fatal),
            advice=tuple(self.advice),
            checked=self.checked,
            **feared,
        )

    def _applies(self, check: Check) -> bool:
        """Some rules hold for older device runtimes only."""
        offered = self.profile.partition.runtime_version
        return check.until_runtime is None or (
            offered is not None and offered <= check.until_runtime
        )

    def _run(self, check: Check) -> Judgement | None:
        """Its refusal, None where it does not refuse; doubts, advice and so on are noted."""
        found = self._found(check)
        if found is None:
            return None
        self.checked += 1
        if found and check.stage == "support_check":
            told = self._told(f"{found}; requires {requirement(check)}", check)
            return Judgement(supported=False, checked=self.checked, **told)
        between = "" if found else uncertain(check, self.op, self.graph)
        if check.stage == "not_known" and found:
            self._doubt(check, f"{found}; what the compiler does with it has not been seen")
        elif found:
            kept = self.fatal if check.stage == "graph_build" else self.advice
            kept.append(_violation(self.op, check, found))
        elif between:
            known, refused = check.parameters["limit"], check.parameters["refused_from"]
            bracket = f"up to {known:,} is known to work, from {refused:,} on is refused"
            self._doubt(check, f"{between}, where {bracket}")
        return None

    def _found(self, check: Check) -> str | None:
        return CHECKS[check.rule].function(self.op, self.graph, check.parameters)

    def _doubt(self, check: Check, text: str) -> None:
        self.advice.append(_violation(self.op, check, text))
        if check.stage in ("support_check", "not_known"):
            self.doubts.append((text, check))

    def _told(self, reason: str, check: Check | None) -> dict[str, Any]:
        remedy = self.profile.remedies.get(self.op.op, "")
        cause = check.cause if check else "empty_tensor"
        return {
            "reason": reason,
            "hint": remedy or (_hint(check) if check else "Remove what computes nothing."),
            "cause": cause,
            "phrase": phrase({cause}, self.profile, self.op.op),
            "source": check.source if check else self.rule.source,
        }


def _violation(op: Operator, check: Check, found: str) -> Violation:
    return Violation(
        constraint=f"operations.{check.rule}",
        where=op.where,
        found=found,
        required=requirement(check),
        hint=_hint(check) or "Change that layer, or expect the tool to refuse it.",
        source=check.source,
    )


def requirement(check: Check) -> str:
    """What a check asks for, in words."""
    shown = {
        name: " or ".join(map(str, value)) if isinstance(value, tuple) else value
        for name, value in check.parameters.items()
    }
    return CHECKS[check.rule].required.format(**shown)


def _hint(check: Check) -> str:
    return check.hint or CHECKS[check.rule].hint
