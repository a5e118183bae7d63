"""The segments of a compiled pipeline as a table: what each chip does and holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from edgeopt.report.units import bytes_text

__all__ = ["segments_view"]


def segments_view(compilation: Mapping[str, Any] | None) -> list[RenderableType]:
    """A row a segment; nothing for a model in one piece. Sizes are those of the files."""
    segments = (compilation or {}).get("segments") or ()
    if not segments:
        return []
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("segment", "mapped", "on CPU", "on chip", "streamed"):
        table.add_column(name, justify="right")
    table.add_column("takes", overflow="fold")
    for segment in segments:
        placed = segment["placement"]
        memory = placed["parameter_bytes"]
        table.add_row(
            str(segment["index"]),
            str(placed["ops_mapped"]),
            str(placed["ops_cpu"]),
            *("-" if memory[k] is None else bytes_text(memory[k]) for k in ("on_chip", "off_chip")),
            ", ".join(_input(one) for one in segment["inputs"]),
        )
    return ["", table]


def _input(one: Mapping[str, Any]) -> str:
    name = "".join(c if c.isprintable() else "�" for c in one["name"])
    origin = "the input" if one["from_segment"] is None else f"segment {one['from_segment']}"
    return escape(f"{name} of {origin}")
