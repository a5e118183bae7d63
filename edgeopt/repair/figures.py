"""The figures that an explanation's texts use: shapes, scales and limits of one operation."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from edgeopt.facts import Operator, Tensor
from edgeopt.profile import HardwareProfile

__all__ = ["figures"]


class _Known(dict[str, Any]):
    """What is not known is a question mark in the text."""

    def __missing__(self, key: str) -> str:
        return "?"


def figures(op: Operator, profile: HardwareProfile, cause: str) -> Mapping[str, Any]:
    """By the names that causes.toml uses, each as text; "?" for what the file does not say."""
    rule = profile.operations.get(op.op)
    first = next((t for t in op.inputs if t is not None and not t.constant), None)
    result = op.outputs[0] if op.outputs else None
    found = _Known(op=op.op, place=_place_name(profile))
    if rule is not None:
        found["max_version"] = str(rule.max_version)
        for check in rule.checks:
            if cause in (check.cause, check.rule):
                found.update({k: _text(v) for k, v in check.parameters.items() if v is not None})
    found["input_shape"], found["output_shape"] = _shape(first), _shape(result)
    known = first is not None and result is not None and first.shape and result.shape
    if known and first is not None and result is not None:
        a, b = first.shape or (), result.shape or ()
        found["rows"] = f"{prod(b[:-1]):,}"
        if len(a) == 4 and len(b) == 4 and min(*a[1:3], *b[1:3]) > 0:
            found["scale"] = f"{max(b[1] / a[1], b[2] / a[2]):.4g}"
            found["input_shape"] = f"{a[1]} x {a[2]}"
            found["output_shape"] = f"{b[1]} x {b[2]}"
    return found


def _place_name(profile: HardwareProfile) -> str:
    return f"the {profile.partition.label}"


def _text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return " or ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _shape(tensor: Tensor | None) -> str:
    if tensor is None or tensor.shape is None:
        return "?"
    return "[" + ", ".join("?" if d < 0 else str(d) for d in tensor.shape) + "]"
