"""Several models measured on one device: a report of each, and each against the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeopt import __version__
from edgeopt.errors import EdgeoptError
from edgeopt.measurement import Comparison
from edgeopt.report.fleet import error_of_all, worst
from edgeopt.report.report import Report
from edgeopt.report.units import bytes_text, duration_text

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Variant", "VariantsReport", "variants_summary"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One model. `report` is as far as it came, None where it could not even be read; `error` the
    error object of what ended it, None when all is well."""

    name: str
    report: Report | None
    error: Mapping[str, Any] | None = None

    @property
    def exit_code(self) -> int:
        return int(self.error["exit_code"]) if self.error else 0

    def to_json(self) -> dict[str, Any]:
        return {
            **(self.report.to_json() if self.report else {}),
            "name": self.name,
            "error": dict(self.error) if self.error else None,
        }


@dataclass(frozen=True, kw_only=True)
class VariantsReport:
    """The variants in the order of the command line; `order` is that of their processes.

    `comparisons` hold every measured variant but the first against the first one.
    """

    variants: tuple[Variant, ...]
    comparisons: tuple[tuple[str, str, Comparison], ...]
    order: tuple[str, ...]
    seed: int
    interleaved: bool
    complete: bool = True

    def to_json(self) -> dict[str, Any]:
        return {
            "edgeopt": __version__,
            "variants": [variant.to_json() for variant in self.variants],
            "comparisons": [
                {"old": old, "new": new, **found.to_json()} for old, new, found in self.comparisons
            ],
            "order": list(self.order),
            "seed": self.seed,
            "interleaved": self.interleaved,
            "exit_code": worst(variant.exit_code for variant in self.variants),
            "complete": self.complete,
        }

    def failure(self) -> EdgeoptError | None:
        """The error of the whole, None when every variant is well."""
        failed = [(v.name, v.error) for v in self.variants if v.error]
        return error_of_all("model", failed, of=len(self.variants), reached=self)


def variants_summary(found: VariantsReport) -> RenderableType:
    """A row a model, how each compares with the first, and what a reader must know of each."""
    from rich.console import Group
    from rich.markup import escape

    from edgeopt.report.terminal import device_line, visible

    parts: list[RenderableType] = []
    first = next((v.report for v in found.variants if v.report and v.report.device), None)
    if first is not None and first.device is not None:
        parts += [device_line(first.device), ""]
    parts.append(_table(found))
    how = "in random alternation" if found.interleaved else "one model after the other"
    parts.append(f"[dim]{len(found.order)} processes, {how} (order seed {found.seed})[/]")
    for variant in found.variants:
        for text in _told(variant):
            parts.append(f"[yellow]{escape(visible(variant.name))}:[/] {escape(visible(text))}")
    return Group(*parts)


def _table(found: VariantsReport) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("model", overflow="fold")
    for name in ("size", "median", "p90", "p99", "runs", "against the first"):
        table.add_column(name, justify="right", no_wrap=name != "against the first")
    against = {new: comparison for _, new, comparison in found.comparisons}
    for variant in found.variants:
        report = variant.report
        measured = report.measurement if report else None
        cells = ["-"] * 4
        if measured is not None:
            stats = measured.stats
            typical = stats.median_ns if stats.median_ns is not None else stats.mean_ns
            runs = "?" if measured.runs is None else str(measured.runs)
            cells = [
                duration_text(typical) + ("" if measured.valid else " (invalid)"),
                duration_text(stats.p90_ns),
                duration_text(stats.p99_ns),
                f"{runs} in {len(measured.processes)}",
            ]
        size = bytes_text(report.model.size_bytes) if report else "-"
        table.add_row(
            Text(variant.name), size, *cells, _against(against.get(variant.name), variant, found)
        )
    return table


def _against(
    comparison: Comparison | None, variant: Variant, found: VariantsReport
) -> RenderableType:
    from rich.text import Text

    if comparison is None or comparison.ratio is None:
        return Text("" if variant is found.variants[0] else "-")
    text = f"x {comparison.ratio:.3f}"
    if comparison.interval:
        text += f" ({comparison.interval[0]:.3f} to {comparison.interval[1]:.3f})"
    colour = {"slower": "red", "faster": "green"}.get(comparison.verdict, "")
    return Text(f"{text} {comparison.verdict}", style=colour)


def _told(variant: Variant) -> list[str]:
    """What ended it, what speaks against its times, and warnings."""
    measured = variant.report.measurement if variant.report else None
    told = [str(variant.error["message"])] if variant.error else []
    if measured is not None:
        told += [] if variant.error else list(measured.invalid_reasons)
        told += measured.notes
    return told
