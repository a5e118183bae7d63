"""Tables of candidates: what a plan weighed, and what a search or `tune` measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table

from edgeopt.plan import Candidate, Plan
from edgeopt.report.measurement import half_text
from edgeopt.report.printable import plain
from edgeopt.report.units import bytes_text, duration_text, percent_text

__all__ = ["PlanTable", "candidates_table", "latency_text", "search_text"]

_WIDE = 100  # columns from which the hardware fits in the table too
_DATA = {"calibration": "sample", "train_data": "labelled"}
_STATUS = {
    "passed": "[green]✓ passed[/]",
    "missed": "[yellow]x missed[/]",
    "failed": "[red]x failed[/]",
    "measured": "[green]✓[/]",
    "invalid": "[red]invalid[/]",
}


class PlanTable:
    """Every choice with expected size, data, hardware, cost and why; fits 80 columns."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._table(wide=options.max_width >= _WIDE)
        yield ""
        yield self._reasons()

    def _chosen(self, candidate: Candidate) -> bool:
        spec, plan = candidate.spec, self.plan
        same = (spec.scheme, spec.techniques) == (plan.scheme, plan.techniques)
        return same and dict(spec.quality) == dict(plan.quality)

    def _table(self, *, wide: bool) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("", width=1)
        table.add_column("choice", no_wrap=True)
        table.add_column("weights", justify="right", no_wrap=True)
        table.add_column("data", no_wrap=True)
        if wide:
            table.add_column("runs on", no_wrap=True)
        table.add_column("costs")
        for candidate in self.plan.candidates:
            row = [self._mark(candidate), plain(candidate.name), _size(candidate)]
            row.append(", ".join(_DATA[n] for n in candidate.needs) or "none")
            if wide:
                row.append(", ".join(candidate.support))
            style = "" if candidate.available else "dim"
            table.add_row(*row, candidate.cost, style="bold" if self._chosen(candidate) else style)
        return table

    def _mark(self, candidate: Candidate) -> str:
        if self._chosen(candidate):
            return "[green]✓[/]"
        return "" if candidate.available else "x" if candidate.refused else "-"

    def _reasons(self) -> Table:
        """One line for all candidates that share a reason."""
        groups: dict[str, list[str]] = {}
        for candidate in self.plan.candidates:
            if not self._chosen(candidate):
                groups.setdefault(candidate.reason, []).append(candidate.name)
        grid = Table.grid(padding=(0, 2))
        grid.add_column(overflow="fold", max_width=34)
        grid.add_column(overflow="fold", style="dim")
        for reason, names in groups.items():
            grid.add_row(plain(", ".join(names)), plain(reason))
        return grid


def search_text(plan: Plan) -> str:
    """What a deploy under the accuracy budget tries, in that order, and which of it is trained."""
    trained = {c.name for c in plan.candidates if c.spec.techniques}
    names = [
        f"{number}. {plain(name)}{' [dim](training)[/]' if name in trained else ''}"
        for number, name in enumerate(plan.search, 1)
    ]
    return "\n".join(["in this order, until one keeps the accuracy budget:", *names])


def _size(candidate: Candidate) -> str:
    if candidate.expected_size_bytes is None or candidate.expected_size_ratio is None:
        return "-"
    share = f"{100 * candidate.expected_size_ratio:.0f}%"
    return f"{bytes_text(candidate.expected_size_bytes)} ({share})"


def candidates_table(
    rows: Sequence[Mapping[str, Any]], *, kept: str | None = None, front: Iterable[str] = ()
) -> RenderableType:
    """What was tried, each with what was measured; "-" is "not measured". `kept` and the names on
    the `front` are marked."""
    marked = {*front, *filter(None, [kept])}
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", width=1)
    table.add_column("candidate", overflow="fold", min_width=10)
    metric = next((r["metric"] for r in rows if r["metric"]), "accuracy")
    for name in (metric, "drop", "size", "gzip", "latency"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        on = row["name"] in marked
        table.add_row(
            "[green]*[/]" if on else "",
            plain(row["name"]),
            "-" if row["accuracy"] is None else f"{row['accuracy']:.4f}",
            "-" if row["drop"] is None else percent_text(row["drop"]),
            "-" if row["size_bytes"] is None else bytes_text(row["size_bytes"]),
            "-" if row["gzip_bytes"] is None else bytes_text(row["gzip_bytes"]),
            latency_text(row),
            _status(row),
            style="bold" if on else "",
        )
    return table


def _status(row: Mapping[str, Any]) -> str:
    if row["status"] == "measured" and row.get("latency_disturbance"):
        return "[yellow]not judged[/]"
    return _STATUS.get(row["status"], str(row["status"]))


def latency_text(row: Mapping[str, Any]) -> str:
    """The median with its 95% interval; a time that must not be believed says so."""
    if row["latency_ns"] is None:
        return "-"
    text = duration_text(row["latency_ns"])
    if row["latency_valid"] is False:
        return f"{text} [red]?[/]"
    if row["latency_ci95_ns"]:
        text += f" {half_text(row['latency_ci95_ns'], row['latency_ns'])}"
    return text
