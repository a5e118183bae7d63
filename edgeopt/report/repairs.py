"""What a person sees of explanations and repairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table

from edgeopt.report.printable import plain

__all__ = ["explanation_lines", "repair_summary", "to_map_more"]

_MOST = 12  # groups of operations that are shown; --json has all
_KINDS = {
    "automatic": "[green]edgeopt fix[/]",
    "cut": "[cyan]cut off[/]",
    "source": "[yellow]source model[/]",
    "none": "[dim]follows[/]",
}


def repair_summary(content: Mapping[str, Any]) -> RenderableType:
    """What `edgeopt fix` found, did and proved, and what remains for a person."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("model", plain(content["model"]["path"]))
    grid.add_row("target", plain(content["target"]["name"]))
    grid.add_row("rules", _rules(content))
    grid.add_row("placement", _placement(content))
    parts: list[RenderableType] = [grid]
    if content["repairs"]:
        parts += ["", "[bold]Repairs[/]", *_steps(content["repairs"])]
    if content["parts"]:
        parts += ["", "[bold]Parts[/]", *_cuts(content)]
    remaining = content["remaining"]
    if remaining:
        parts += ["", *to_map_more(remaining)]
    parts += ["", *_outcome(content)]
    parts += [f"[yellow]note:[/] {plain(note)}" for note in content["notes"]]
    return Group(*parts)


def _rules(content: Mapping[str, Any]) -> str:
    before, after = (len(content[k]["constraints"]["violations"]) for k in ("before", "after"))
    mark = "[green]✓[/]" if not after else "[red]x[/]"
    return f"{mark} broken: {before} before, {after} after" if content["changed"] else (
        f"{mark} broken: {after}"
    )  # fmt: skip


def _placement(content: Mapping[str, Any]) -> str:
    before, after = content["before"]["placement"], content["after"]["placement"]
    if before is None or after is None:
        return "not known"

    def text(one: Mapping[str, Any]) -> str:
        line = f"{one['ops_mapped']} of {one['ops_total']} operations mapped"
        if one["ops_mapped_range"] is None:
            return line
        least, most = one["ops_mapped_range"]
        return f"{line}, [yellow]{one['ops_uncertain']} uncertain[/] ({least} to {most} mapped)"

    if not content["changed"]:
        return f"{text(after)}  [dim]predicted[/]"
    return f"{text(before)}  →  [bold]{text(after)}[/]  [dim]predicted[/]"


def _steps(steps: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for step in steps:
        mark = "[green]✓[/]" if step["applied"] else "[yellow]-[/]"
        proof = step["proof"]
        lines.append(f"{mark} {plain(step['name'].replace('_', ' '))}{_proven(step, proof)}")
        shown = [plain(change) for change in step["changes"][:_MOST]]
        if len(step["changes"]) > _MOST:
            shown.append(f"and {len(step['changes']) - _MOST} more (--json shows all)")
        if step["reason"]:
            shown.append(f"not applied: {plain(step['reason'])}")
        lines += [Padding(line, (0, 0, 0, 4)) for line in shown]
    return lines


def _proven(step: Mapping[str, Any], proof: Mapping[str, Any] | None) -> str:
    if not step["applied"] or not proof:
        return ""
    kernels = " and ".join(k["kernels"] for k in proof["kernels"])
    return f"  [dim]same outputs on {proof['samples']} samples ({kernels} kernels)[/]"


def _cuts(content: Mapping[str, Any]) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for part in content["parts"]:
        mapped = part["placement"]["ops_mapped"] if part["placement"] else 0
        runs = f"{mapped} mapped, to compile"
        if part["role"] in ("head", "tail"):
            runs = "on the CPU" + (f" ({mapped} would map, compiled by itself)" if mapped else "")
        count = part["operations"]
        lines.append(f"  {plain(part['name'])}: {count} operation{'s' * (count != 1)}, {runs}")
    proof = content["split_proof"]
    if proof:
        until = f", up to {plain(proof['not_run'][0])}" if proof["not_run"] else ""
        lines.append(
            f"  [dim]the chain gives the same outputs on {proof['samples']} samples{until}[/]"
        )
    return lines


def to_map_more(rows: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """The section of that name: what is on the CPU, why, and what would map it."""
    return ["[bold]To map more[/]  [dim](predicted)[/]", explanation_lines(rows)]


def explanation_lines(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Operations with the same cause and repair together, those that win the most first."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["why"], row["repair"], row["kind"]), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: _order(item[1]))
    lines: list[RenderableType] = []
    for (why, repair, kind), items in ordered[:_MOST]:
        lines.append(f"{_who(items)}{_gain(items)}  {_KINDS[kind]}")
        lines.append(Padding(plain(why), (0, 0, 0, 4)))
        lines.append(Padding(f"[bold]{plain(repair)}[/]", (0, 0, 0, 4)))
    if len(ordered) > _MOST:
        left = sum(len(items) for _, items in ordered[_MOST:])
        lines.append(f"[dim]and {left} more operations (--json shows all)[/]")
    return Group(*lines)


def _order(items: Sequence[Mapping[str, Any]]) -> tuple[bool, int, int]:
    gains = [row["would_map"] for row in items if row["would_map"] is not None]
    return items[0]["kind"] == "none", -max(gains, default=-(1 << 30)), int(items[0]["index"])


def _who(items: Sequence[Mapping[str, Any]]) -> str:
    first = items[0]
    layer = f" ({plain(first['layer'])})" if first["layer"] else ""
    name = f"[bold]{plain(first['op'])} #{first['index']}[/]{layer}"
    others = [f"#{row['index']}" for row in items[1:4]]
    if not others:
        return name
    more = f" and {len(items) - 4} more" if len(items) > 4 else ""
    return f"{name}, {', '.join(others)}{more}"


def _gain(items: Sequence[Mapping[str, Any]]) -> str:
    gains = [row["would_map"] for row in items if row["would_map"] is not None]
    if not gains:
        return ""
    best = max(gains)
    most = "up to " if min(gains) < best else ""
    won = f"[green]{most}+{best} mapped[/]" if best > 0 else "[dim]wins nothing by itself[/]"
    return f"  {won}"


def _outcome(content: Mapping[str, Any]) -> list[RenderableType]:
    made = [a for a in content["artifacts"] if a["stage"] != "source"]
    if made:
        lines: list[RenderableType] = [f"{a['stage']}: {plain(a['path'])}" for a in made]
        if content["manifest"]:
            lines.append(f"manifest: {plain(content['manifest'])}")
        elif not content["changed"] and not content["parts"]:
            lines.append("Nothing could be repaired: that file is a copy of the model.")
        return lines
    if content["dry_run"]:
        return ["Nothing was written (--dry-run)."]
    if not content["changed"] and content["complete"]:
        if content["remaining"]:
            return ["Nothing that edgeopt fix can repair: the file was left alone."]
        return ["Nothing to repair: the file is as it should be, and was left alone."]
    return ["Nothing was written."]
