"""Where a model leaves the accelerator, for people: what stays on the CPU, grouped by reason."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edgeopt.findings import OpPlacement, Placement
from edgeopt.report.printable import plain
from edgeopt.report.units import bytes_text

__all__ = ["cpu_table", "placement_line"]

_SOURCES = {
    "predicted": "predicted",
    "compiler": "from the compiler",
    "compiled_file": "read from the file",
}
Key = TypeVar("Key", bound=Hashable)
_NAMED = 3  # operations of one kind that are named one by one


def placement_line(placement: Placement) -> str:
    """One line: how many are mapped, how many may not be, and where the parameters are."""
    line = f"{placement.ops_mapped} of {placement.ops_total} operations mapped"
    line += f", {placement.ops_cpu} on the CPU"
    if placement.ops_mapped_range is not None:
        least, most = placement.ops_mapped_range
        line += f", [yellow]{placement.ops_uncertain} uncertain[/] ({least} to {most} mapped)"
    if placement.on_chip_bytes is not None:
        line += f"; parameters {bytes_text(placement.on_chip_bytes)} on chip"
        if placement.off_chip_bytes is not None:
            line += f", {bytes_text(placement.off_chip_bytes)} streamed"
    return f"{line}  [dim]{_SOURCES[placement.source]}[/]"


def cpu_table(placement: Placement) -> RenderableType | None:
    """A block for each phrase of the compiler, in it a row for each reason; then what is uncertain.

    None where nothing stays behind and nothing is uncertain.
    """
    parts: list[RenderableType] = []
    left = [op for op in placement.ops if _left(op)]
    if left:
        count = f"{len(left)} operation{'s' * (len(left) > 1)} on the CPU"
        note = ", with the phrase that the compiler prints" if any(o.phrase for o in left) else ""
        parts.append(f"[bold yellow]{count}[/]{note}")
    for phrase, ops in _grouped(left, lambda op: op.phrase or "").items():
        if phrase:
            parts.append(f"  [bold]{escape(phrase)}[/]")
        parts.append(_rows(ops))
    doubted = [op for op in placement.ops if not op.certain and not _left(op)]
    if doubted:
        parts.append(
            f"[bold yellow]{len(doubted)} operation{'s' * (len(doubted) > 1)} mapped if the "
            "compiler takes what it has not been seen to take[/]"
        )
        parts.append(_rows(doubted))
    return Group(*parts) if parts else None


def _left(op: OpPlacement) -> bool:
    return op.placement == "cpu" and bool(op.reason)


def _rows(ops: Iterable[OpPlacement]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", min_width=6, no_wrap=True)
    table.add_column(overflow="fold")
    for (reason, hint), group in _grouped(ops, lambda op: (op.reason, op.hint)).items():
        text = f"{_listed(group)}: {plain(reason)}"
        text += f"\n[dim]{plain(hint)}[/]" if hint else ""
        table.add_row(f"{len(group)}", text)
    return table


def _grouped(
    ops: Iterable[OpPlacement], key: Callable[[OpPlacement], Key]
) -> dict[Key, list[OpPlacement]]:
    found: dict[Key, list[OpPlacement]] = {}
    for op in ops:
        found.setdefault(key(op), []).append(op)
    return found


def _listed(ops: list[OpPlacement]) -> str:
    """`ARG_MAX #89 #130, 7 RESHAPE`; one of which the place is not certain with a "?"."""
    shown = []
    kinds = _grouped(ops, lambda op: op.op)
    for kind, same in kinds.items():
        if len(same) > _NAMED:
            shown.append(f"{len(same)} {plain(kind)}" if len(kinds) > 1 else plain(kind))
        else:
            marks = "".join(f" #{op.index}{'' if op.certain else '?'}" for op in same)
            shown.append(plain(kind) + marks)
    return ", ".join(shown)
