"""What a person sees of a compiled file: its partitions, and where the source's operations are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from edgeopt.model.compiled import Part
from edgeopt.model.edgetpu_payload import Layer, Partition
from edgeopt.report.printable import plain
from edgeopt.report.units import bytes_text

__all__ = ["partitions_view", "proof_view", "together_view"]

_MOST_ROWS = 12


def partitions_view(partitions: Sequence[Part], left: int) -> RenderableType:
    """One block for each partition; `left` operations are outside."""
    kinds = sorted({part.kind for part in partitions})
    count = f"{len(partitions)} {' and '.join(kinds)} partition"
    count += "s" * (len(partitions) != 1)
    parts: list[RenderableType] = [
        f"[bold]compiled[/]  {count}, {left} operation{'s' * (left != 1)} on the CPU"
    ]
    for number, partition in enumerate(partitions, 1):
        parts.append("")
        if isinstance(partition, Partition):
            parts.append(_partition(number, partition))
        else:  # it says itself what is worth showing
            parts.append(_rows(number, partition))
    return Group(*parts)


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _rows(number: int, part: Part) -> RenderableType:
    """What the format itself says of a part."""
    grid = _grid()
    grid.add_row(f"partition {number}", f"operation {part.operator}")
    for label, text in part.rows():
        grid.add_row(label, "\n".join(plain(line) for line in text.split("\n")))
    return grid


def _partition(number: int, p: Partition) -> RenderableType:
    grid = _grid()
    version = p.compiler_version.removeprefix("cl/")
    made = f"compiler build {plain(version)}" if version else "compiler build not stated"
    grid.add_row(
        f"partition {number}",
        f"operation {p.operator}, chip {plain(p.chip)}, runtime {p.min_runtime_version} or newer"
        f"  [dim]{made}[/]",
    )
    grid.add_row(
        "parameters",
        f"{bytes_text(p.on_chip_bytes)} cached on chip, {bytes_text(p.off_chip_bytes)} streamed "
        "each inference",
    )
    grid.add_row(
        "instructions",
        f"{bytes_text(p.instruction_bytes)} in {p.instruction_chunks} chunk"
        f"{'s' * (p.instruction_chunks != 1)}, {bytes_text(p.payload_bytes)} payload",
    )
    partial = "" if p.dma_complete else "  [dim]only what is fixed before it runs[/]"
    grid.add_row(
        "per inference",
        f"{bytes_text(p.input_dma_bytes)} in, {bytes_text(p.output_dma_bytes)} out, "
        f"{bytes_text(p.parameter_dma_bytes)} parameters by DMA{partial}",
    )
    grid.add_row(
        "memory",
        f"{bytes_text(p.narrow_bytes_per_tile)} of each tile, {bytes_text(p.scratch_bytes)} "
        "scratch on the host",
    )
    grid.add_row("caching token", f"{p.parameter_caching_token}")
    grid.add_row("executables", ", ".join(plain(kind) for kind in p.executables))
    grid.add_row("inputs", "\n".join(map(_layer, p.inputs)) or "-")
    grid.add_row("outputs", "\n".join(map(_layer, p.outputs)) or "-")
    return grid


def _layer(layer: Layer) -> str:
    shape = "?" if layer.shape is None else "x".join(map(str, layer.shape))
    name = layer.name.split(";")[0] + (";..." if ";" in layer.name else "")
    line = f"{plain(name)}  {layer.dtype} {shape}, {bytes_text(layer.size_bytes)}"
    if layer.scale is not None:
        line += f"  [dim]scale {layer.scale:g}, zero point {layer.zero_point}[/]"
    return line


def together_view(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Whether each other file was compiled together with this one."""
    lines = []
    for row in rows:
        yes = row["compiled_together"]
        mark, what = (
            ("[green]✓[/]", "was compiled together with it: the two share the cache")
            if (yes)
            else ("[yellow]x[/]", "was not: each run of one makes the other load its cache again")
        )
        lines.append(f"{mark} {plain(row['path'])} {what}")
    return Group(*lines)


def proof_view(
    mapping: Mapping[str, Any], prediction: Mapping[str, Any], total: int
) -> RenderableType:
    """The mapping in two or three lines, and each disagreement with the prediction in one."""
    inside = sum(len(p["source_ops"]) for p in mapping["partitions"])
    mark = "[green]✓[/]" if mapping["proven"] else "[yellow]x[/]"
    what = "proven" if mapping["proven"] else "not proven"
    line = f"{mark} mapping {what}: {inside} of {total} source operations inside"
    line += f", {len(mapping['cpu_ops'])} on the CPU"
    if mapping["covers"] == "segment":
        line += f", {len(mapping['elsewhere_ops'])} in other segments"
    lines: list[RenderableType] = [line]
    sampled = sum(p["weights"]["sampled"] for p in mapping["partitions"])
    found = sum(p["weights"]["found"] for p in mapping["partitions"])
    if sampled:
        all_ = "all " if found == sampled else f"{found} of "
        lines.append(f"  [dim]{all_}{sampled} samples of the source's weights are inside[/]")
    lines += [f"  [yellow]{plain(problem)}[/]" for problem in mapping["problems"]]
    if prediction["agrees"]:
        lines.append(f"[green]✓[/] as predicted, all {prediction['compared']} operations")
        return Group(*lines)
    wrong = prediction["disagreements"]
    lines.append(
        f"[yellow]x[/] {len(wrong)} of {prediction['compared']} operations are not where they were "
        "predicted:"
    )
    lines.append(_disagreements(wrong[:_MOST_ROWS]))
    if len(wrong) > _MOST_ROWS:
        lines.append(f"  and {len(wrong) - _MOST_ROWS} more (--json has all)")
    return Group(*lines)


def _disagreements(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("#", justify="right")
    for name in ("operation", "predicted", "compiled"):
        table.add_column(name, no_wrap=True)
    table.add_column("layer", overflow="ellipsis", no_wrap=True, style="dim")
    for row in rows:
        predicted = row["predicted"] + ("" if row["certain"] else " (uncertain)")
        table.add_row(
            str(row["index"]), plain(row["op"]), predicted, row["actual"], plain(row["layer"])
        )
    return table
