"""A profile for people: what takes the time, by type, by layer and by operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from edgeopt.report.printable import plain
from edgeopt.report.units import duration_text

__all__ = ["profile_view"]

_ROWS = 10
_BAR = 20
_GROUPED = 0.7  # of as many layers as operators, the operators tell the same
_LAYER = 48  # the column that may wrap is the one that shrinks
_METHODS = {
    "litert_profiler": "LiteRT's profiler",
    "benchmark_model": "benchmark_model's table",
    "whole": "the whole alone",
}


def profile_view(profile: Mapping[str, Any] | None) -> list[RenderableType]:
    """Tables and notes, nothing for None."""
    if profile is None:
        return []
    parts: list[RenderableType] = ["", _headline(profile)]
    if profile["partitions"]:
        parts.append(_partitions(profile))
    parts += ["", _by_type(profile), ""]
    if 1 < len(profile["by_layer"]) <= _GROUPED * len(profile["operators"]):
        parts += [_by_layer(profile), ""]
    if len(profile["operators"]) > 1:
        parts.append(_slowest(profile))
    return parts + [f"[yellow]note:[/] {plain(note)}" for note in profile["notes"]]


def _headline(profile: Mapping[str, Any]) -> str:
    whole, total = profile["whole"], profile["sum"]
    count = f"{profile['runs']} runs, {profile['threads']} thread(s)"
    kernels = ", XNNPACK off" if profile["kernels"] == "builtin" else ""
    lines = [
        f"[bold]Where the time goes[/]  [dim]{_METHODS[profile['method']]}, {count}{kernels}[/]"
    ]
    plain = duration_text(whole["plain"]["typical_ns"])
    added = profile["overhead"]
    if added is None:
        return f"{lines[0]}\n{plain} an inference"
    held = duration_text(total["whole_ns"])
    with_it = " with the profiler" if total["held_against"] == "profiler_on" else ""
    lines.append(
        f"{plain} an inference; the operators add up to {duration_text(total['typical_ns'])},"
        f" {100 * total['share_of_whole']:.0f}% of {held}{with_it}."
    )
    off = duration_text(whole["profiler_off"]["typical_ns"])
    share = f"{100 * abs(added['share']):.0f}% of {off}"
    more = "adds" if added["ns"] >= 0 else "seems to take off"
    lines.append(
        f"[dim]The profiler {more} {duration_text(abs(added['ns']))}"
        f" ({share}) to a run, most of it outside of operators.[/]"
        if profile["method"] == "litert_profiler"
        else f"[dim]The profiler {more} {duration_text(abs(added['ns']))} to a run.[/]"
    )
    return "\n".join(lines)


def _partitions(profile: Mapping[str, Any]) -> str:
    """How much lies in partitions of the graph that a delegate took."""
    mine = profile["partitions"]
    held = [part["operators"] for part in mine]
    count = "?" if None in held else str(sum(map(len, held)))
    share = sum(part["share"] or 0 for part in mine)
    where = "1 partition" if len(mine) == 1 else f"{len(mine)} partitions"
    return (
        f"[dim]{count} of {len(profile['operators'])} operators are in {where} of"
        f" {mine[0]['delegate']}, {100 * share:.0f}% of the time.[/]"
    )


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name, justify in columns:
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    return table


def _by_type(profile: Mapping[str, Any]) -> Table:
    table = _table(("operation", "left"), ("count", "right"), ("time", "right"), ("share", "right"))
    table.add_column("", no_wrap=True, style="cyan")
    rows = [row for row in profile["by_type"] if row["op"] is not None or row["typical_ns"]]
    shown = _first(rows)
    for row in shown:
        name = "(no operator of the file)" if row["op"] is None else plain(row["op"])
        table.add_row(name, _count(row), *_time(row), _bar(row["share"]))
    if left := rows[len(shown) :]:
        share = 100 * sum(row["share"] or 0 for row in left)
        table.add_row(f"[dim]and {len(left)} more types[/]", "", "", f"[dim]{share:.1f}%[/]", "")
    return table


def _by_layer(profile: Mapping[str, Any]) -> Table:
    rows = profile["by_layer"]
    table = _table(("count", "right"), ("time", "right"), ("share", "right"))
    table.add_column("layer", overflow="ellipsis", max_width=_LAYER)
    shown = _first(rows)
    for row in shown:
        table.add_row(_count(row), *_time(row), _layer(row["layer"], "(no layer known)"))
    _rest(table, rows, shown, 3, "layers")
    return table


def _slowest(profile: Mapping[str, Any]) -> Table:
    """The slowest operators, and every row of time that belongs to none."""
    rows = sorted(
        [row for row in profile["operators"] if not row["nested"]],
        key=lambda row: -(row["typical_ns"] or -1.0),
    )
    shown = _first(rows)
    spread = any(row["p10_ns"] is not None for row in rows)
    table = _table(("#", "right"), ("operation", "left"), ("time", "right"))
    if spread:
        table.add_column("p10 to p90", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("layer", overflow="ellipsis", max_width=_LAYER, style="dim")
    for row in shown:
        time, share = _time(row)
        cells = [
            str(row["index"]),
            plain(row["op"]),
            time,
            *([_range(row)] if spread else []),
            share,
        ]
        table.add_row(*cells, _layer(row["layer"], ""))
    _rest(table, rows, shown, 4 + spread, "operators")
    for row in profile["unmatched"]:
        if row["typical_ns"]:
            time, share = _time(row)
            cells = ["", "-", time, *([_range(row)] if spread else []), share]
            table.add_row(*cells, f"[yellow]{plain(_short(row['name']))}[/]")
    return table


def _first(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One line more costs no more than the line that says that it is left out."""
    return list(rows) if len(rows) <= _ROWS + 1 else list(rows[:_ROWS])


def _rest(
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    shown: Sequence[Mapping[str, Any]],
    before: int,
    what: str,
) -> None:
    left = rows[len(shown) :]
    if left:
        share = sum(row["share"] or 0 for row in left)
        text = f"[dim]and {len(left)} more {what}, {100 * share:.1f}%[/]"
        table.add_row(*[""] * before, text)


def _count(row: Mapping[str, Any]) -> str:
    missing = row["count"] - row["timed"]
    return f"{row['count']}" + (f" ({missing} ?)" if missing else "")


def _time(row: Mapping[str, Any]) -> tuple[str, str]:
    if row["typical_ns"] is None:
        return "?", "?"
    share = "" if row["share"] is None else f"{100 * row['share']:.1f}%"
    return duration_text(row["typical_ns"]) if row["typical_ns"] else "< 1 us", share


def _range(row: Mapping[str, Any]) -> str:
    if row["p10_ns"] is None:
        return ""
    low, high = (duration_text(row[key]) if row[key] else "0" for key in ("p10_ns", "p90_ns"))
    return low if low == high else f"{low} - {high}"


def _short(name: str) -> str:
    return name.partition(":")[0]


def _bar(share: float | None) -> str:
    return "█" * round(_BAR * (share or 0))


def _layer(name: str | None, without: str) -> str:
    """The end of a long path tells layers apart."""
    if not name:
        return f"[dim]{without}[/]" if without else ""
    return plain(name if len(name) <= 40 else "…" + name[-39:])
