"""Two measurements side by side, and what is to be made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgeopt.measurement import Comparison
from edgeopt.measurement.differences import Difference
from edgeopt.report.measurement import fine_text, interval_text
from edgeopt.report.printable import visible

__all__ = ["comparison_view"]

_COLOURS = {"slower": "bold red", "faster": "bold green", "same": "bold green"}


def comparison_view(
    result: Comparison,
    sides: Sequence[Mapping[str, Any]],
    differences: Sequence[Difference],
    notes: Sequence[str],
    *,
    which: str,
) -> RenderableType:
    """A row a side (`which` says what they are), the verdict with its interval, what was allowed
    and what is not known."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    for name in (result.basis, "95% interval", "within", "between", "runs", "processes"):
        table.add_column(name, justify="right")
    for name, side in zip(("old", "new"), sides, strict=True):
        typical, interval = side[f"{result.basis}_ns"], side["ci95_ns"]
        table.add_row(
            name,
            fine_text(typical),
            interval_text(interval, typical) if interval else "-",
            _percent(side["within_sd"]),
            _percent(side["between_sd"]),
            "?" if side["runs"] is None else str(side["runs"]),
            str(side["processes"]),
        )
    lines: list[RenderableType] = [table, ""]
    lines.append(Text(str(result), style=_COLOURS.get(result.verdict, "bold yellow")))
    lines.append("[dim]within, between: standard deviation of runs, and of processes[/]")
    lines.append(f"[dim]{escape(visible(which))}[/]")
    for difference in differences:
        text = f"{difference.text}; allowed: {difference.reason}"
        lines.append(f"[yellow]differs:[/] {escape(visible(text))}")
    lines += [f"[yellow]note:[/] {escape(visible(note))}" for note in notes]
    return Group(*lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2g}%"
