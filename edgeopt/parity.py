"""Parity: how far two runs of a model on the same samples are apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Parity"]


@dataclass(frozen=True, kw_only=True)
class Parity:
    """`max_abs_diff` is in units of the model's output, None when nothing could be compared.

    `worst` is (sample index, output index) of the largest difference. `reason` says why it failed.
    """

    samples: int
    max_abs_diff: float | None
    tolerance: float
    passed: bool
    exact: bool
    worst: tuple[int, int] | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "samples": self.samples,
            "max_abs_diff": self.max_abs_diff,
            "tolerance": self.tolerance,
            "passed": self.passed,
            "exact": self.exact,
            "worst": list(self.worst) if self.worst else None,
            "reason": self.reason or None,
        }
