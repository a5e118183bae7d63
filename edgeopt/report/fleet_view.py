"""What a person sees of several devices: what they share, a row each, then what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edgeopt.report.fleet import DeviceRow, FleetReport
from edgeopt.report.fleet_own import common, fleet_notes, not_judged, own_views
from edgeopt.report.printable import visible
from edgeopt.report.report import Report
from edgeopt.report.units import bytes_text, duration_text

__all__ = ["fleet_markdown", "fleet_summary", "row_text"]

_HEADS = (
    "device", "result", "median", "95% interval", "p90", "parity", "accuracy", "sent", "found",
)  # fmt: skip


def row_text(row: DeviceRow) -> str:
    """One line for the moment when it ends: the median and parity, or what went wrong."""
    if row.error:
        return str(row.error["message"])
    content = row.content()
    if plain := _examined(content):
        return plain
    said: list[str] = []
    cells = _cells(row, content)
    said += [f"median {cells['median']}"] if cells["median"] != "-" else []
    said += [f"parity {cells['parity']}"] if cells["parity"] != "-" else []
    said += [cells["accuracy"]] if cells["accuracy"] != "-" else []
    return ", ".join(said) or "done"


def _examined(content: Mapping[str, Any]) -> str:
    """What `devices clean`, `doctor` and `show` found."""
    if "freed_bytes" in content:
        return f"{bytes_text(content['freed_bytes'])} freed"
    if "checks" in content:
        found = content["checks"]
        return f"{sum(bool(check['ok']) for check in found)} of {len(found)} checks passed"
    facts = content.get("facts")
    if facts is None:
        return ""
    cores = f"{facts['cores']} cores" if facts.get("cores") else None
    told = (facts.get("model"), facts.get("cpu"), cores, facts.get("arch"), facts.get("os"))
    return ", ".join(str(value) for value in told if value)


def _cells(row: DeviceRow, content: Mapping[str, Any]) -> dict[str, str]:
    measured, parity = content.get("measurement"), content.get("parity")
    stats: Mapping[str, Any] = measured["stats"] if measured else {}
    middle, interval = stats.get("median_ns"), stats.get("ci95_ns")
    text = duration_text(middle) if middle else "-"
    if not middle and stats.get("mean_ns"):
        text = f"{duration_text(stats['mean_ns'])} (mean)"
        interval = stats.get("mean_ci95_ns")
    if measured and not measured["valid"]:
        text += " invalid"
    elif measured and not_judged(measured):
        text += " not judged"
    device = content.get("device") or {}
    sent = device.get("sent_bytes")
    return {
        "device": row.name,
        "result": f"exit {row.exit_code}" if row.error else "ok",
        "median": text,
        "95% interval": " to ".join(duration_text(v) for v in interval) if interval else "-",
        "p90": duration_text(stats["p90_ns"]) if stats.get("p90_ns") else "-",
        "parity": _parity(parity),
        "accuracy": _accuracy(content.get("accuracy")),
        "found": _examined(content) or "-",
        "sent": "-" if sent is None else bytes_text(sent) if sent else "nothing",
    }


def _accuracy(accuracy: Mapping[str, Any] | None) -> str:
    """Only what the device itself computed: the host's is the same for all."""
    if not accuracy or accuracy.get("where") != "device" or accuracy.get("optimized") is None:
        return "-"
    return f"{accuracy['metric']} {accuracy['optimized']:.4f}"


def _parity(parity: Mapping[str, Any] | None) -> str:
    if parity is None:
        return "-"
    difference = parity["max_abs_diff"]
    shown = "?" if difference is None else f"{difference:.3g}"
    if not parity["passed"]:
        return f"differs by {shown}"
    return "equal" if difference == 0 else f"within {shown}"


def fleet_summary(fleet: FleetReport) -> RenderableType:
    """One block: the model and what was made of it, the table, the failures, the notes."""
    parts: list[RenderableType] = []
    for heading, report in _shared(fleet.rows):
        from edgeopt.report.terminal import deploy_summary

        parts += [f"[bold]{escape(heading)}[/]"] if heading else []
        parts += [deploy_summary(report), ""]
    own = own_views(fleet.rows)
    parts += [*own[1:], *([""] if own else []), _table(fleet)]
    well = len(fleet.rows) - len(fleet.failed)
    count = f"{well} of {len(fleet.rows)} devices are well"
    silent = [r for r in fleet.rows if isinstance(r.reached, Report) and not r.reached.device]
    if len(silent) == len(fleet.rows) and not fleet.failed:
        count = f"made for {well} of {len(fleet.rows)} devices, and run on none"
    parts += ["", f"[green]✓[/] {count}" if not fleet.failed else f"[red]x[/] {count}"]
    for row in fleet.failed:
        assert row.error is not None
        parts.append(f"[red]{escape(row.name)}[/] (exit {row.exit_code}): {_plain(row, 'message')}")
        if row.error["hint"]:
            parts.append(f"  [bold]hint:[/] {_plain(row, 'hint')}")
    notes = [f"[yellow]note:[/] {escape(visible(text))}" for text in fleet_notes(fleet)]
    return Group(*parts, *(["", *notes] if notes else []))


def _shared(rows: Sequence[DeviceRow]) -> list[tuple[str, Report]]:
    """What was made, once a target, without what single devices did with it; a heading where
    there are several."""
    found: dict[str, Report] = {}
    for row in rows:
        if isinstance(row.reached, Report):
            found.setdefault(row.reached.target.name, row.reached)
    return [(name if len(found) > 1 else "", common(report)) for name, report in found.items()]


def _table(fleet: FleetReport) -> Table:
    rows = [_cells(row, row.content()) for row in fleet.rows]
    used = [h for h in _HEADS if h in _HEADS[:2] or any(cells[h] != "-" for cells in rows)]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for head in used:
        left = head in ("device", "result", "parity", "accuracy", "found")
        table.add_column(head, justify="left" if left else "right", overflow="fold")
    for row, cells in zip(fleet.rows, rows, strict=True):
        colour = "red" if row.error else "green"
        cells["result"] = f"[{colour}]{cells['result']}[/]"
        table.add_row(*(cells[h] if h == "result" else escape(visible(cells[h])) for h in used))
    for name in fleet.pending:
        table.add_row(escape(visible(name)), "[yellow]at work[/]")
    return table


def fleet_markdown(fleet: FleetReport, *, title: str) -> str:
    """The same as a Markdown table, for a release note or an issue."""
    rows = [_cells(row, row.content()) for row in fleet.rows]
    used = [h for h in _HEADS if h in _HEADS[:2] or any(cells[h] != "-" for cells in rows)]
    lines = [f"# {title}", ""]
    for _, report in _shared(fleet.rows):
        made = report.final
        size = f", {bytes_text(made.size_bytes)}, sha256 `{made.sha256[:12]}`" if made else ""
        lines.append(f"- {_cell(report.model.path.name)} for {_cell(report.target.name)}{size}")
    lines += ["", f"| {' | '.join(used)} |", "|" + " --- |" * len(used)]
    lines += [f"| {' | '.join(_cell(cells[h]) for h in used)} |" for cells in rows]
    lines.append("")
    for row in fleet.failed:
        assert row.error is not None
        said = f"{row.error['message']} {row.error['hint']}".strip()
        lines.append(f"- **{_cell(row.name)}** (exit {row.exit_code}): {_cell(said)}")
    lines += [f"- note: {_cell(text)}" for text in fleet_notes(fleet)]
    return "\n".join(lines) + "\n"


def _plain(row: DeviceRow, key: str) -> str:
    return escape(visible(row.error[key] if row.error else ""))


def _cell(text: str) -> str:
    """Inert in Markdown: nothing from a device or a file name ends a cell or makes a tag."""
    shown = visible(text)
    for character in "\\|<>&`*_[]":
        shown = shown.replace(character, f"\\{character}")
    return shown
