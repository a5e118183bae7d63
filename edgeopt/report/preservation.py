"""The sections about zeros and distinct values of weights: after training, and of any one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from edgeopt.report.units import count_text

__all__ = ["preservation_line", "weights_table"]


def preservation_line(preservation: Mapping[str, Any]) -> str:
    """One line for the summary: what was kept, in how many layers, how sparse the whole file is."""
    layers, kept = preservation["layers"], " and ".join(preservation["kept"])
    mark = "[green]✓[/]" if preservation["passed"] else "[red]x[/]"
    said = "kept" if preservation["passed"] else "lost"
    parts = [f"{mark} {kept} {said} in the final file: {preservation['sparsity']:.1%} zeros"]
    if "clusters" in preservation["kept"]:
        clustered = [layer for layer in layers if layer["clusters"] is not None]
        most = max((layer["distinct_per_channel"] for layer in clustered), default=0)
        parts.append(f"at most {most} distinct values a channel in {len(clustered)} layers")
    return ", ".join(parts)


def weights_table(layers: Sequence[Mapping[str, Any]]) -> RenderableType:
    """A row for each weighted operation: zeros, distinct values, and before where that is known."""
    before = any(layer.get("reference_sparsity") is not None for layer in layers)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("operation")
    for name in ("weights", "zeros", *(("before",) if before else ()), "distinct", "a channel"):
        table.add_column(name, justify="right")
    table.add_column("layer", overflow="ellipsis", no_wrap=True, max_width=48, style="dim")
    for layer in layers:
        row = [layer["op"], count_text(layer["weights"]), f"{layer['sparsity']:.1%}"]
        if before:
            was = layer.get("reference_sparsity")
            row.append("-" if was is None else f"{was:.1%}")
        row += [str(layer["distinct"]), str(layer["distinct_per_channel"])]
        name = "".join(c if c.isprintable() else "�" for c in layer["layer"])
        table.add_row(*row, escape(name))
    return table
