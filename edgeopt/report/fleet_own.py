"""What belongs to one of several devices alone: its notes, and how it was prepared and profiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from edgeopt.errors import ResultError
from edgeopt.report.conditions import add_conditions
from edgeopt.report.fleet import DeviceRow, FleetReport
from edgeopt.report.printable import visible
from edgeopt.report.profile import profile_view
from edgeopt.report.report import Report
from edgeopt.report.throughput import throughput_view

__all__ = ["common", "fleet_notes", "not_judged", "own_views"]


def common(report: Report) -> Report:
    """The same without what a single device did or found."""
    there = bool(report.accuracy) and report.accuracy.get("where") == "device"  # type: ignore[union-attr]
    return replace(
        report,
        accuracy=None if there else report.accuracy,
        device=None,
        parity=None,
        parity_note="",
        effort=None,
        measurement=None,
        preparation=None,
        tries=(),
        profile=None,
        throughput=None,
        notes=(),
    )


def own_views(rows: Sequence[DeviceRow]) -> list[RenderableType]:
    """Under the name of each device: what was set there, repeated, profiled or put under load."""
    parts: list[RenderableType] = []
    for row in rows:
        found = row.reached
        if not isinstance(found, Report):
            continue
        view = [*_conditions(found), *profile_view(found.profile)]
        view += throughput_view(found.throughput)
        parts += ["", f"[bold cyan]{escape(visible(row.name))}[/]", *view] if view else []
    return parts


def _conditions(report: Report) -> list[RenderableType]:
    if not (report.preparation or report.tries):
        return []
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    add_conditions(grid, report)
    return [grid]


def not_judged(measurement: Mapping[str, Any]) -> bool:
    """A process of it was disturbed, and its times count all the same (--conditions report)."""
    disturbed = any(process["invalid_reasons"] for process in measurement["processes"])
    return disturbed and not measurement["judged"]


def fleet_notes(fleet: FleetReport) -> list[str]:
    """Each note once, with the devices that it is about unless it is about all of them. What a
    reader must know of single figures is among them."""
    said: dict[str, list[str]] = {}
    for row in fleet.rows:
        content = row.content()
        measured = content.get("measurement") or {}
        told = [*_reasons(row, measured), *(measured.get("notes") or ())]
        for note in dict.fromkeys(map(str, (*told, *(content.get("notes") or ())))):
            said.setdefault(note, []).append(row.name)
    everyone = len(fleet.rows)
    own = [
        text if len(names) == everyone else f"{', '.join(names)}: {text}"
        for text, names in said.items()
    ]
    return [*fleet.notes, *own]


def _reasons(row: DeviceRow, measured: Mapping[str, Any]) -> list[str]:
    """Why its times are invalid, where the error that ended it says something else."""
    if not measured or measured["valid"] or row.exit_code == ResultError.exit_code:
        return []
    return [f"Invalid: {'; '.join(map(str, measured['invalid_reasons']))}."]
