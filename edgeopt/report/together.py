"""Several models compiled for one chip: a report of each, and what they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeopt import __version__
from edgeopt.report.report import Report
from edgeopt.report.units import bytes_text

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["JointReport", "together_summary"]


@dataclass(frozen=True, kw_only=True)
class JointReport:
    """The reports in the order of the command line, which is that of the cache's priority."""

    reports: tuple[Report, ...]
    failure: Mapping[str, Any] | None = None

    @property
    def caching_token(self) -> int | None:
        """What all files carry; None where nothing was compiled or nothing is cached."""
        first = self.reports[0].compilation if self.reports else None
        return first["details"].get("caching_token") if first else None

    def to_json(self) -> dict[str, Any]:
        return {
            "edgeopt": __version__,
            "models": [report.to_json() for report in self.reports],
            "caching_token": self.caching_token,
            "parameter_bytes": {"on_chip": self._bytes(0), "off_chip": self._bytes(1)},
            "error": None if self.failure is None else dict(self.failure),
        }

    def _bytes(self, kind: int) -> int | None:
        found = [
            (report.placement.on_chip_bytes, report.placement.off_chip_bytes)[kind]
            for report in self.reports
            if report.placement and report.compilation
        ]
        known = [value for value in found if value is not None]
        return sum(known) if known and len(known) == len(self.reports) else None


def together_summary(joint: JointReport) -> RenderableType:
    """Each model's block, then what they share."""
    from rich.console import Group
    from rich.markup import escape

    from edgeopt.report.terminal import deploy_summary

    parts: list[RenderableType] = []
    for number, report in enumerate(joint.reports, 1):
        parts += [
            f"[bold]{number}. {escape(report.model.path.name)}[/]",
            deploy_summary(report),
            "",
        ]
    content = joint.to_json()
    on_chip, off_chip = (content["parameter_bytes"][key] for key in ("on_chip", "off_chip"))
    if on_chip is not None:
        streamed = f", {bytes_text(off_chip)} streamed" if off_chip else ", nothing is streamed"
        parts.append(f"together: {bytes_text(on_chip)} of parameters on chip{streamed}")
    if joint.caching_token is not None:
        parts.append(f"[green]✓[/] one caching token in all files: {joint.caching_token}")
        parts.append("[dim]The cache is filled in the order of the command line.[/]")
    return Group(*parts)
