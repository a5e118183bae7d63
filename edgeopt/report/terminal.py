"""What a person sees: summaries as rich renderables, the same for terminal, HTML, SVG and text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeopt.facts import ModelFacts, Tensor
from edgeopt.findings import ConstraintReport, OpPlacement, Placement, Violation
from edgeopt.model.layer_names import layer_names
from edgeopt.report.candidates import PlanTable, candidates_table, search_text
from edgeopt.report.conditions import add_conditions
from edgeopt.report.estimate import add_rows, advice_view
from edgeopt.report.measurement import add_measurement, measurement_notes
from edgeopt.report.placement import cpu_table, placement_line
from edgeopt.report.preservation import preservation_line
from edgeopt.report.printable import plain, visible
from edgeopt.report.profile import profile_view
from edgeopt.report.quality import held_twice, worst_layers
from edgeopt.report.report import Report
from edgeopt.report.segments import segments_view
from edgeopt.report.throughput import throughput_view
from edgeopt.report.training import training_lines
from edgeopt.report.units import bytes_text, count_text, percent_text

_LAYER_WIDTH = 28
__all__ = [
    "deploy_summary", "device_line", "findings", "inspection", "plan_summary",
]  # fmt: skip


def _one_name(text: str) -> str:
    """The converter joins the names of all nodes it fused with ";": the first is enough here."""
    return re.sub(r";[^;()'\s]+(;[^;()'\s]+)*", "; ...", text)


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def deploy_summary(report: Report) -> RenderableType:
    """One block to paste into a release note: model, decision, sizes, rules, device, numbers."""
    grid = _grid()
    grid.add_row("model", _model_line(report.model))
    grid.add_row(
        "target", f"{plain(report.target.name)}  [dim]{plain(report.target.description)}[/]"
    )
    if report.plan:
        grid.add_row("plan", "\n".join(plain(r) for r in report.plan.reasons))
        if report.plan.search and not report.candidates:
            grid.add_row("tries", search_text(report.plan))
    if twice := held_twice(report.conversion, report.beside, report.final):
        grid.add_row("held twice", twice)
    if report.constraints:
        grid.add_row("rules", _rules_line(report.constraints))
    if report.placement and report.target.accelerator != "cpu":
        grid.add_row("placement", placement_line(report.placement))
    add_rows(grid, report.estimate)
    if report.training:
        grid.add_row("training", training_lines(report.training))
    if report.preservation:
        grid.add_row("preserved", preservation_line(report.preservation))
    if report.accuracy:
        grid.add_row("accuracy", _accuracy_line(report.accuracy))
    if report.device:
        grid.add_row("device", device_line(report.device))
        grid.add_row("parity", _parity_line(report))
    if report.measurement:
        add_measurement(grid, report.measurement)
    add_conditions(grid, report)
    parts: list[RenderableType] = [grid]
    if len(report.artifacts) > 1:
        parts += ["", _artifacts(report), *_files(report), *segments_view(report.compilation)]
    parts += profile_view(report.profile) + throughput_view(report.throughput)
    if report.candidates:
        parts += ["", candidates_table(report.candidates, kept=_kept(report.candidates))]
    parts += worst_layers(report.conversion)
    parts += advice_view(report.estimate)
    parts += _notes(report)
    return Group(*parts)


def _kept(rows: Sequence[Mapping[str, Any]]) -> str | None:
    return next((str(row["name"]) for row in rows if row["path"]), None)


def _notes(report: Report) -> list[RenderableType]:
    notes = measurement_notes(report.measurement) if report.measurement else []
    notes += [f"[yellow]note:[/] {plain(n)}" for n in report.notes]
    warnings = report.constraints.warnings if report.constraints else ()
    notes += [f"[yellow]warning:[/] {plain(_one_name(str(w)))}" for w in warnings[:8]]
    if len(warnings) > 8:
        notes.append(
            f"[yellow]warning:[/] and {len(warnings) - 8} more (edgeopt inspect shows all)"
        )
    return ["", *notes] if notes else []


def _model_line(facts: ModelFacts) -> str:
    parameters = count_text(facts.parameters) if facts.parameters is not None else "?"
    name = plain(facts.path.name)
    return (
        f"{name}  [dim]{facts.format}, {parameters} parameters, {bytes_text(facts.size_bytes)}[/]"
    )


def _rules_line(found: ConstraintReport) -> str:
    if found.passed:
        return f"[green]✓[/] {found.checked} checks of {plain(found.profile)} passed"
    count = len(found.violations)
    return f"[red]x[/] {count} of {found.checked} checks of {plain(found.profile)} failed"


def _accuracy_line(accuracy: Any) -> str:
    value, error = accuracy["optimized"], accuracy["standard_error"]
    text = accuracy["metric"] + (" no noise" if value is None else f" {value:.4f}")
    text += "" if error is None else f" ± {error:.4f}"
    if accuracy.get("baseline") is not None:
        plain = accuracy["metric"] in ("mae", "mse", "rmse")  # in the unit of the targets
        drop = f"{accuracy['drop']:.4f}" if plain else percent_text(accuracy["drop"])
        text += f", float {accuracy['baseline']:.4f}, drop {drop}"
    there = ", on the device" if accuracy["where"] == "device" else ""
    return f"{text}  [dim]{accuracy['samples']} samples{there}[/]"


def device_line(device: Any) -> str:
    facts = device["facts"]
    cpu = facts.get("model") or facts.get("cpu") or facts.get("arch") or ""
    runtime = f"{device['runtime']} {device['runtime_version'] or ''}".strip()
    sent = bytes_text(device["sent_bytes"]) + " sent" if device["sent_bytes"] else "nothing sent"
    if device.get("transfer") and device["transfer"]["compression"]:
        sent += f" for {bytes_text(device['transfer']['raw_bytes'])} (gzip)"
    line = f"{plain(device['name'])} ({device['kind']})  [dim]{plain(cpu)}[/]\n"
    how = f"{plain(runtime)} on {device['accelerator']}, {device['threads']} thread(s), {sent}"
    return f"{line}[dim]{how}[/]"


def _parity_line(report: Report) -> str:
    parity = report.parity
    if parity is None:
        return f"[yellow]{plain(report.parity_note or 'not checked')}[/]"
    mark = "[green]✓[/]" if parity["passed"] else "[red]x[/]"
    difference = parity["max_abs_diff"]
    shown = "?" if difference is None else f"{difference:g}"
    return (
        f"{mark} largest difference {shown} over {parity['samples']} samples  "
        f"[dim]{plain(parity['tolerance_reason'])}[/]"
    )


def _artifacts(report: Report) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("stage")
    for name in ("size", "gzip", "of source"):
        table.add_column(name, justify="right")
    table.add_column("sha256")
    base = report.artifacts[0].size_bytes
    for artifact in report.artifacts:
        table.add_row(
            artifact.stage,
            bytes_text(artifact.size_bytes),
            bytes_text(artifact.gzip_bytes),
            f"{100 * artifact.size_bytes / base:.0f}%" if base else "",
            artifact.sha256[:12],
        )
    return table


def _files(report: Report) -> list[RenderableType]:
    """Where the user finds what was made: a line each, so that a path can be copied whole."""
    made = [a for a in report.artifacts if a.stage not in ("source", "float")]
    lines = [Text(f"{a.stage}: {visible(a.path)}", overflow="fold") for a in made]
    return ["", *lines] if lines else []


def plan_summary(report: Report) -> RenderableType:
    """The decision, its reasons, and what was passed over."""
    plan = report.plan
    assert plan is not None
    grid = _grid()
    grid.add_row("model", _model_line(report.model))
    grid.add_row("target", plain(report.target.name))
    grid.add_row("scheme", plan.scheme or "none: keep the model as it is")
    if plan.techniques:
        grid.add_row("training", ", ".join(plan.techniques))
    if plan.io:
        grid.add_row("input, output", plan.io)
    if plan.expected_size_bytes:
        grid.add_row("weights", f"about {bytes_text(plan.expected_size_bytes)}  [dim]predicted[/]")
    grid.add_row("why", "\n".join(plain(r) for r in plan.reasons))
    if plan.search:
        grid.add_row("tries", search_text(plan))
    add_rows(grid, report.estimate)
    table: list[RenderableType] = ["", PlanTable(plan)] if plan.candidates else []
    return Group(grid, *table, *advice_view(report.estimate))


def inspection(
    facts: ModelFacts,
    found: ConstraintReport | None,
    placement: Placement | None,
    estimate: Mapping[str, Any] | None = None,
) -> RenderableType:
    """The table of operations, sizes, and every broken rule."""
    grid = _grid()
    grid.add_row("model", _model_line(facts))
    grid.add_row("gzip", bytes_text(facts.gzip_bytes))
    grid.add_row("sha256", facts.sha256)
    grid.add_row("inputs", "\n".join(_tensor_line(t) for t in facts.inputs) or "-")
    grid.add_row("outputs", "\n".join(_tensor_line(t) for t in facts.outputs) or "-")
    if found:
        grid.add_row("rules", _rules_line(found))
    if placement:
        grid.add_row("placement", placement_line(placement))
    add_rows(grid, estimate)
    parts: list[RenderableType] = [grid, "", _operations(facts, placement)]
    if found and found.violations:
        parts += ["", findings("violation", found.violations)]
    if placement and (table := cpu_table(placement)):
        parts += ["", table]
    # What stays on the CPU, or may, is in the table above.
    told = {op.reason for op in placement.ops if not op.certain} if placement else set()
    rest = [
        warning
        for warning in (found.warnings if found else ())
        if warning.constraint != "placement" and warning.found not in told
    ]
    if rest:
        parts += ["", findings("warning", rest)]
    parts += advice_view(estimate)
    return Group(*parts)


def _tensor_line(tensor: Tensor) -> str:
    shape = (
        "?" if tensor.shape is None else "x".join("?" if d < 0 else str(d) for d in tensor.shape)
    )
    line = f"{plain(tensor.name)}  {tensor.dtype} {shape}"
    if tensor.quantization and tensor.quantization.scales:
        scale, zero = tensor.quantization.scales[0], tensor.quantization.zero_points[0]
        line += f"  [dim]scale {scale:g}, zero point {zero}[/]"
    return line


def _operations(facts: ModelFacts, placement: Placement | None) -> Table:
    placed = {p.index: p for p in placement.ops} if placement else {}
    names = [name for graph in facts.subgraphs for name in layer_names(graph)]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name, justify in (
        ("#", "right"),
        ("operation", "left"),
        ("v", "right"),
        ("type", "left"),
        ("output", "left"),
    ):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    if placed:
        table.add_column("runs on", no_wrap=True)
    # The one that may wrap is the one that shrinks; a name without blanks is then cut.
    table.add_column("layer", overflow="ellipsis", max_width=48, style="dim")
    for op, layer in zip(facts.operators(), names, strict=True):
        out = op.outputs[0] if op.outputs else None
        shape = "x".join("?" if d < 0 else str(d) for d in out.shape) if out and out.shape else "?"
        row = [str(op.index), plain(op.op), str(op.version or ""), out.dtype if out else "", shape]
        if placed:
            where = placed.get(op.index) if op.subgraph == 0 else None
            row.append(_where(where))
        table.add_row(*row, plain(_short(layer or "")))
    return table


def _short(layer: str) -> str:
    """The end of a long path tells the layers apart, its beginning is the model's name."""
    whole = len(layer) <= _LAYER_WIDTH
    return layer if whole else "…" + layer[-_LAYER_WIDTH:].partition("/")[2] or layer


def _where(placed: OpPlacement | None) -> str:
    """ "?" behind a place that is not certain."""
    if placed is None:
        return "cpu"
    return placed.placement if placed.certain else f"{placed.placement} [yellow]?[/]"


def findings(title: str, found: Iterable[Violation]) -> RenderableType:
    """Each finding on its line (where, what it has, what it needs), grouped by what to do."""
    groups: dict[str, list[Violation]] = {}
    for item in found:
        groups.setdefault(item.hint, []).append(item)
    colour = "red" if title == "violation" else "yellow"
    lines: list[RenderableType] = []
    for hint, items in groups.items():
        count = f"{len(items)} {title}{'s' * (len(items) > 1)}"
        lines.append(f"[bold {colour}]{count}:[/] [bold]{plain(_one_name(hint))}[/]")
        for item in items:
            where, what = plain(_one_name(item.where)), plain(_one_name(item.found))
            lines.append(f"  {where}: {what}; requires {plain(item.required)}")
    return Group(*lines)
