"""A measurement in a few lines that can be pasted into a release note."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from edgeopt.report.units import bytes_text, duration_text

if TYPE_CHECKING:
    from rich.table import Table

    from edgeopt.measurement import Measurement

__all__ = ["add_measurement", "fine_text", "half_text", "interval_text", "measurement_notes"]


def add_measurement(grid: Table, measured: Measurement) -> None:
    """The rows of one measurement: may it be believed, how fast, how sure, how it was measured.

    What is wrong comes before the figures; that nothing is comes after them.
    """
    clean = measured.valid and not measured.disturbance
    if not clean:
        grid.add_row("valid", _validity(measured))
    grid.add_row("latency", _latency(measured, "bold green" if clean else "bold yellow"))
    if tail := _tail(measured):
        grid.add_row("tail", tail)
    grid.add_row("start", _start(measured))
    grid.add_row("effort", _effort(measured))
    if spread := _spread(measured):
        grid.add_row("spread", spread)
    if clean:
        grid.add_row("valid", _validity(measured))


def measurement_notes(measured: Measurement) -> list[str]:
    """Warnings that leave the numbers valid, as markup; not what the row `valid` says."""
    told = [text for text in measured.notes if text != measured.disturbance]
    return [f"[yellow]note:[/] {escape(text)}" for text in told]


def fine_text(nanoseconds: float) -> str:
    """As duration_text, with the fourth digit that a narrow interval needs: 1234567 -> 1.235 ms."""
    for limit, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if nanoseconds >= limit:
            return f"{_four(nanoseconds / limit)} {unit}"
    return f"{nanoseconds:.0f} ns"


def _four(value: float) -> str:
    """Four digits, those behind the point kept: 48.30."""
    return f"{value:.{max(0, 3 - len(str(int(value))) + 1)}f}"


def interval_text(ends: tuple[float, float], typical: float) -> str:
    """ "48.3 to 48.5 us (±0.2%)", with the larger half of the interval."""
    low, high = (fine_text(end) for end in ends)
    low = low.rpartition(" ")[0] if low.split()[-1] == high.split()[-1] else low
    return f"{low} to {high} ({half_text(ends, typical)})"


def half_text(ends: Sequence[float], typical: float) -> str:
    """ "±0.2%": how far the farther end of the interval is from the typical value."""
    half = max(typical - ends[0], ends[1] - typical) / typical
    return f"±{100 * half:.2g}%" if half < 1 else f"±{100 * half:.0f}%"


def _latency(measured: Measurement, style: str) -> str:
    stats = measured.stats
    if stats.median_ns is not None and measured.samples_ns:
        text = f"[{style}]{fine_text(stats.median_ns)}[/] median"
        if stats.ci95_ns:
            text += f", 95% interval {interval_text(stats.ci95_ns, stats.median_ns)}"
        return text
    if stats.mean_ns is None:
        return duration_text(stats.median_ns)
    text = f"[{style}]{fine_text(stats.mean_ns)}[/] mean"
    if stats.mean_ci95_ns:
        text += f", 95% interval {interval_text(stats.mean_ci95_ns, stats.mean_ns)}"
    return text


def _tail(measured: Measurement) -> str:
    stats = measured.stats
    rows = [("p90", stats.p90_ns), ("p99", stats.p99_ns)]
    if measured.samples_ns:
        rows += [("slowest", max(measured.samples_ns)), ("mean", stats.mean_ns)]
    return ", ".join(f"{name} {duration_text(value)}" for name, value in rows if value is not None)


def _start(measured: Measurement) -> str:
    parts = [
        f"initialisation {duration_text(measured.init_ns)}",
        f"first inference {duration_text(measured.first_ns)}",
    ]
    if measured.peak_rss_bytes is not None:
        peak = f"peak memory {bytes_text(measured.peak_rss_bytes)}"
        if measured.base_rss_bytes is not None:
            peak += f" ({bytes_text(measured.base_rss_bytes)} runtime)"
        parts.append(peak)
    return ", ".join(parts)


def _effort(measured: Measurement) -> str:
    count = len(measured.pooled)
    runs = "an unknown number of" if measured.runs is None else f"{measured.runs}"
    text = f"{runs} run{'' if measured.runs == 1 else 's'} in {_many(count, 'process')}"
    if measured.warmup_ns is not None:
        text += f", after {len(measured.warmup_ns)} warm-up runs"
    return text


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 'es'}"


def _spread(measured: Measurement) -> str:
    """How single runs scatter around their process's own median, and processes among each other."""
    found = measured.details["variance"] or {}
    parts = [
        f"{100 * found[key]:.2g}% {where}"
        for key, where in (("within_sd", "within a process"), ("between_sd", "between processes"))
        if found.get(key) is not None
    ]
    return ", ".join(parts) + "  [dim]standard deviations[/]" if parts else ""


def _validity(measured: Measurement) -> str:
    if text := measured.disturbance:
        head, _, rest = text.partition(",")
        return f"[yellow]{escape(head.lower())}[/],{escape(rest.rstrip('.'))}"
    out = len(measured.left_out)
    if measured.valid:
        left = f"; {out} disturbed and left out" if out else ""
        return f"[green]✓[/] {_many(len(measured.pooled), 'process')}, no disturbance seen{left}"
    reasons = "\n".join(escape(reason) for reason in measured.invalid_reasons)
    return f"[red]x invalid:[/] {reasons}"
