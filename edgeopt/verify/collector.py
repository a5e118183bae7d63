"""Gathers what a check finds: how many comparisons, which rules were broken."""

from __future__ import annotations

from edgeopt.findings import ConstraintReport, Violation
from edgeopt.profile import HardwareProfile

__all__ = ["Collector"]


class Collector:
    """One profile's rules over one file. `require` counts each comparison it is given."""

    def __init__(self, profile: HardwareProfile) -> None:
        self.profile = profile
        self.checked = 0
        self.violations: list[Violation] = []
        self.warnings: list[Violation] = []

    def require(
        self, good: bool, constraint: str, where: str, found: str, required: str, hint: str
    ) -> bool:
        """Count a comparison, and note a violation when it fails."""
        self.checked += 1
        if not good:
            self.violations.append(self._finding(constraint, where, found, required, hint))
        return good

    def warn(
        self, constraint: str, where: str, found: str, required: str, hint: str, source: str = ""
    ) -> None:
        self.warnings.append(self._finding(constraint, where, found, required, hint, source))

    def report(self) -> ConstraintReport:
        return ConstraintReport(
            profile=self.profile.name,
            checked=self.checked,
            violations=tuple(self.violations),
            warnings=tuple(self.warnings),
        )

    def _finding(
        self, constraint: str, where: str, found: str, required: str, hint: str, source: str = ""
    ) -> Violation:
        group = constraint.partition(".")[0]
        return Violation(
            constraint=constraint,
            where=where,
            found=found,
            required=required,
            hint=hint,
            source=source or self._source(group),
        )

    def _source(self, group: str) -> str:
        if group == "operations":
            return self.profile.runtime.source
        if group == "placement":
            return self.profile.partition.source
        return self.profile.sources.get(group, "")
