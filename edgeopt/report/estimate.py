"""Estimates for people: each line says that it is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from edgeopt.report.units import bytes_text, duration_text

__all__ = ["add_rows", "advice_view"]

_FITS = {
    "yes": "[green]fits[/] the cache",
    "no": "[yellow]does not fit[/] the cache",
    "uncertain": "[yellow]may not fit[/] the cache",
}


def add_rows(grid: Table, estimate: Mapping[str, Any] | None) -> None:
    """The rows `memory` and `latency` of a summary; none where nothing was estimated."""
    if estimate is None:
        return
    if line := _memory_line(estimate):
        grid.add_row("memory", line)
    if line := _latency_line(estimate):
        grid.add_row("latency", line)
    for note in estimate["notes"]:
        grid.add_row("", f"[dim]{escape(note)}[/]")


def _memory_line(estimate: Mapping[str, Any]) -> str | None:
    """`3.8 MiB of parameters, all on chip; fits the cache (6.0 to 7.8 MiB)  estimate`."""
    memory = estimate["parameter_bytes"]
    by = escape(estimate["estimator"])
    if areas := estimate["memory_bytes"]:
        told = ", ".join(f"{bytes_text(count)} {escape(area)}" for area, count in areas.items())
        return f"{told}  [dim]estimate by {by}[/]"
    if memory is None:
        return None
    line = f"{bytes_text(memory['total'])} of parameters, "
    if memory["off_chip"]:
        line += f"{bytes_text(memory['on_chip'])} on chip and "
        line += f"{bytes_text(memory['off_chip'])} streamed"
    else:
        line += "all on chip"
    low, high = memory["limit_interval"]
    line += f"; {_FITS[memory['fits']]} ({bytes_text(low)} to {bytes_text(high)})"
    return f"{line}  [dim]estimate[/]"


def _latency_line(estimate: Mapping[str, Any]) -> str | None:
    """The value with its interval and host, and below it why."""
    latency = estimate["latency_ms"]
    if latency is None:
        return None
    line = f"about {_ms(latency['value'])}"
    if latency["low"] is None:
        line += f" on {escape(latency['host'])}"
        line += f"  [dim]estimate by {escape(estimate['estimator'])}, not measured[/]\n"
        return line + escape(latency["reason"])
    line += f", {_ms(latency['low'])} to {_ms(latency['high'])}"
    if latency["coverage"] is not None:
        line += f" for {100 * latency['coverage']:.0f}% of models"
    line += f", over {escape(latency['host'])}"
    line += "  [dim]estimate, not measured[/]\n" + escape(latency["reason"])
    for text in latency["extrapolated"]:
        line += f"\n[yellow]extrapolated:[/] {escape(text)}"
    return line


def advice_view(estimate: Mapping[str, Any] | None) -> list[RenderableType]:
    """What could be done, with a table of choices each; nothing where there is none."""
    parts: list[RenderableType] = []
    for item in estimate["advice"] if estimate else ():
        parts += [""]
        parts.append(f"[yellow]advice:[/] {escape(item['text'])}  [dim]estimate[/]")
        if item["choices"]:
            parts.append(_choices(item["choices"]))
    return parts


def _choices(choices: list[Mapping[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 2), header_style="bold")
    table.add_column("choice", overflow="fold")
    table.add_column("inference", justify="right", no_wrap=True)
    table.add_column("between", justify="right", no_wrap=True)
    streams = any(choice["per_second"] for choice in choices)
    if streams:
        table.add_column("a second", justify="right", no_wrap=True)
    table.add_column("", style="dim")
    for choice in choices:
        latency = choice["latency_ms"]
        row = [escape(choice["name"]), _ms(latency["value"])]
        row.append(f"{_ms(latency['low'])} to {_ms(latency['high'])}")
        if streams:
            row.append(f"{choice['per_second']:.0f}" if choice["per_second"] else "")
        table.add_row(*row, escape(choice["detail"]))
    return table


def _ms(value: float) -> str:
    return duration_text(1e6 * value)
