"""What the accelerator makes of one operation: takes it, leaves it to the CPU, or fails on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import edgeopt.verify.shape_checks  # noqa: F401 - registers its rules
from edgeopt.facts import Operator, Tensor
from edgeopt.findings import Violation
from edgeopt.profile import HardwareProfile
from edgeopt.profile.rules import Check, OperationRule
from edgeopt.verify.checks import CHECKS, uncertain
from edgeopt.verify.graph import Graph, known_shape

__all__ = ["Judgement", "judge", "phrase", "requirement"]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """`supported`: the accelerator takes it. `reason`, `hint` and `cause` are empty when it does.

    `certain` is False in a bracket, between what is known to be taken and what is known refused.
    `phrase` is what the tool itself prints for the refusal. `fatal` breaks the whole model if the
    operation is in the partition; `advice` is legal or not certain. `checked` counts the
    comparisons that could be made.
    """

    supported: bool
    reason: str = ""
    hint: str = ""
    cause: str = ""
    phrase: str | None = None
    certain: bool = True
    source: str = ""
    fatal: tuple[Violation, ...] = ()
    advice: tuple[Violation, ...] = ()
    checked: int = 1


def judge(op: Operator, graph: Graph, profile: HardwareProfile) -> Judgement:
    """By the profile's rule for the operation; one that has none runs on the CPU."""
    rule = profile.operations.get(op.op)
    remedy = profile.remedies.get(op.op, "")
    if rule is None or rule.custom != op.custom:
        what = "custom operation" if op.custom else "operation not supported"
        cause = "custom" if op.custom else "operation_unsupported"
        taken = profile.activation_types
        plain = OperationRule(name=op.op, types=taken, output_types=taken)
        causes = {cause} | {name for name, _ in _refusals(op, graph, plain, profile)}
        return Judgement(
            supported=False,
            reason=what,
            hint=remedy,
            cause=cause,
            phrase=phrase(causes, profile),
            source=profile.partition.source,
        )
    if refusals := list(_refusals(op, graph, rule, profile)):
        unquantized = profile.requires_quantization and _float_weights(op)
        cause, reason = refusals[0]
        return Judgement(
            supported=False,
            reason=reason,
            hint=remedy or ("Give calibration data with --calibration." if unquantized else ""),
            cause=cause,
            phrase=phrase({name for name, _ in refusals}, profile),
            source=rule.source,
            checked=4,
        )
    return _run_checks(op, graph, rule, profile)


def phrase(causes: set[str], profile: HardwareProfile) -> str | None:
    """What the tool prints: of several causes the one it looks at first, None where not known."""
    named = [text for cause, text in profile.phrases.items() if cause in causes]
    return named[0] if named else profile.phrases.get("limitation")


def _refusals(
    op: Operator, graph: Graph, rule: OperationRule, profile: HardwareProfile
) -> Iterator[tuple[str, str]]:
    """Why the operation is left to the CPU before any rule of its own is looked at: the cause and
    the reason in words."""
    types = sorted(set(_wrong_types(op, graph, rule, profile)))
    if types:
        cause = next((rule.type_causes[t] for t in types if t in rule.type_causes), "data_type")
        yield cause, f"unsupported data type {', '.join(types)}"
    if rule.max_version is not None and (op.version or 0) > rule.max_version:
        yield "version", f"version {op.version} is newer than {rule.max_version}"
    offered = profile.partition.runtime_version
    if rule.min_runtime is not None and offered is not None and rule.min_runtime > offered:
        yield "runtime", f"needs runtime {rule.min_runtime}, the device has {offered}"
    for tensor in (*graph.inputs(op), *op.outputs):
        if profile.max_rank is not None and (tensor.rank or 0) > profile.max_rank:
            yield "rank", f"rank {tensor.rank} is above {profile.max_rank}"
        if not graph.constant(tensor) and _outer_dimensions(tensor, profile.free_inner_dims):
            shape, free = list(tensor.shape or ()), profile.free_inner_dims
            yield "outer_dimension", f"shape {shape} exceeds 1 outside its {free} inner dimensions"


def _wrong_types(
    op: Operator, graph: Graph, rule: OperationRule, profile: HardwareProfile
) -> Iterator[str]:
    for tensor in graph.inputs(op):
        if not graph.constant(tensor):
            if tensor.dtype not in rule.types:
                yield tensor.dtype
        elif profile.requires_quantization and tensor.dtype.startswith(("float", "bfloat")):
            yield tensor.dtype
    yield from (t.dtype for t in op.outputs if t.dtype not in rule.output_types)


def _float_weights(op: Operator) -> bool:
    return any(t is not None and t.constant and t.dtype.startswith("float") for t in op.inputs)


def _outer_dimensions(tensor: Tensor, free: int | None) -> bool:
    shape = known_shape(tensor)
    return free is not None and shape is not None and any(d > 1 for d in shape[:-free])


def _run_checks(
    op: Operator, graph: Graph, rule: OperationRule, profile: HardwareProfile
) -> Judgement:
    remedy = profile.remedies.get(op.op, "")
    certain = True
    fatal: list[Violation] = []
    advice: list[Violation] = []
    checked = 4  # name, types, version and shape
    for check in rule.checks:
        found = CHECKS[check.rule].function(op, graph, check.parameters)
        if found is None:
            continue
        checked += 1
        doubt = "" if found else uncertain(check, op, graph)
        if found and check.stage == "support_check":
            reason = f"{found}; {requirement(check)}"
            hint = remedy or _hint(check)
            return Judgement(
                supported=False,
                reason=reason,
                hint=hint,
                cause=check.cause,
                phrase=phrase({check.cause}, profile),
                source=check.source,
                checked=checked,
            )
        if found:
            (fatal if check.stage == "graph_build" else advice).append(_violation(op, check, found))
        elif doubt:
            certain = certain and check.stage != "support_check"
            advice.append(_violation(op, check, f"{doubt}, between what is known to work and not"))
    return Judgement(
        supported=True,
        certain=certain,
        fatal=tuple(fatal),
        advice=tuple(advice),
        checked=checked,
        source=rule.source,
    )


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
