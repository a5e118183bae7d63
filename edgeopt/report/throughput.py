"""Throughput and latency under load, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from edgeopt.report.printable import plain
from edgeopt.report.units import bytes_text, duration_text

__all__ = ["throughput_view"]


def throughput_view(found: Mapping[str, Any] | None) -> list[RenderableType]:
    """A table and notes, nothing for None."""
    if found is None:
        return []
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    if not found["valid"]:
        table.add_row("[red]invalid[/]", "; ".join(map(plain, found["invalid_reasons"])))
    rate = found["per_second"]
    table.add_row("answered", f"[bold]{_rate(rate['value'])} {found['unit']}/s[/]{_ends(rate)}")
    if found["loop"] == "open":
        kept = "" if found["kept_up"] else f", {found['unanswered_at_end']} unanswered at the end"
        asked = f"{_rate(found['asked_per_second'])}/s asked for on average (Poisson)"
        table.add_row("offered", f"{_rate(found['offered_per_second'])}/s, {asked}{kept}")
    if found["alone"]:
        table.add_row("one alone", _alone(found))
    latency = found["latency_ns"]
    for name in ("median", "p90", "p99"):
        table.add_row(name, _latency(latency, name))
    if found["fairness"] and found["concurrency"] > 1:
        table.add_row("fairness", _fairness(found["fairness"]))
    cpu, memory = found["cpu"], found["memory"]
    table.add_row("cores", f"{cpu['busy_cores']:.2f} busy of {cpu['cores'] or '?'}")
    table.add_row("memory", _memory(memory))
    parts: list[RenderableType] = ["", _title(found), table]
    return parts + [f"[yellow]note:[/] {plain(note)}" for note in found["notes"]]


def _title(found: Mapping[str, Any]) -> str:
    many = f"{found['concurrency']} at a time" if found["concurrency"] > 1 else "one at a time"
    batch = f", batch {found['batch']}" if found["batch"] else ""
    how = f"{found['loop']} loop, {found['time_s']:g} s, {found['requests']} requests"
    return f"[bold]Under load[/]  [dim]{many}{batch}, {how}[/]"


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _ends(rate: Mapping[str, Any]) -> str:
    ends = rate["ci95"]
    return f"  [dim]95% within {_rate(ends[0])} to {_rate(ends[1])}[/]" if ends else ""


def _alone(found: Mapping[str, Any]) -> str:
    text = f"{_rate(found['alone']['per_second'])}/s"
    if found["speedup"] is None:
        return text
    part = found["speedup"] / found["concurrency"]
    return f"{text}: {found['speedup']:.2f} times as many together  [dim]{100 * part:.0f}% each[/]"


def _latency(latency: Mapping[str, Any], name: str) -> str:
    ends = latency[f"{name}_ci95"]
    if latency[name] is None:
        return "-  [dim]too few requests[/]"
    text = duration_text(latency[name])
    if not ends:
        return text
    return f"{text}  [dim]95% within {duration_text(ends[0])} to {duration_text(ends[1])}[/]"


def _fairness(fairness: Mapping[str, Any]) -> str:
    least = 100 * fairness["least_of_most"]
    return f"the least served thread had {least:.0f}% of the most served one's requests"


def _memory(memory: Mapping[str, Any]) -> str:
    peak = memory["peak_rss_bytes"]
    text = f"{bytes_text(peak)} at most" if peak else "?"
    more = memory["each_further_bytes"]
    return text + (f", {bytes_text(more)} for each further interpreter" if more else "")
