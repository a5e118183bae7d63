"""Several models measured on one device: a report of each, and each against the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeopt import __version__
from edgeopt.errors import EdgeoptError
from edgeopt.measurement import Comparison, Measurement
from edgeopt.measurement.turns import Turns
from edgeopt.report.fleet import error_of_all, worst
from edgeopt.report.measurement import half_text
from edgeopt.report.report import Report
from edgeopt.report.units import bytes_text, duration_text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

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

    `comparisons` hold every measured variant but the first against the first one, by their `turns`
    where they took any. A report that is not `complete` (so far, or stopped) has no exit code yet.
    """

    variants: tuple[Variant, ...]
    comparisons: tuple[tuple[str, str, Comparison], ...]
    order: tuple[str, ...]
    seed: int
    interleaved: bool
    complete: bool = True
    turns: Turns | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "edgeopt": __version__,
            "variants": [variant.to_json() for variant in self.variants],
            "comparisons": [
                {"old": old, "new": new, **found.to_json()} for old, new, found in self.comparisons
            ],
            "turns": self.turns.to_json() if self.turns else None,
            "order": list(self.order),
            "seed": self.seed,
            "interleaved": self.interleaved,
            "exit_code": self._exit_code() if self.complete else None,
            "complete": self.complete,
        }

    def _exit_code(self) -> int:
        return worst(variant.exit_code for variant in self.variants)

    def failure(self) -> EdgeoptError | None:
        """The error of the whole, None when every variant is well."""
        failed = [(v.name, v.error) for v in self.variants if v.error]
        return error_of_all("model", failed, of=len(self.variants), reached=self)


def variants_summary(found: VariantsReport) -> RenderableType:
    """A row a model, how each compares with the first, and what a reader must know of each."""
    from rich.console import Group
    from rich.markup import escape
    from rich.padding import Padding
    from rich.text import Text

    from edgeopt.report.printable import visible
    from edgeopt.report.terminal import device_line

    parts: list[RenderableType] = []
    first = next((v.report for v in found.variants if v.report and v.report.device), None)
    if first is not None and first.device is not None:
        parts += [device_line(first.device), ""]
    parts.append(_table(found))
    how = "in random alternation" if found.interleaved else "one model after the other"
    how = f"{len(found.order)} processes, {how} (order seed {found.seed})"
    how += f"; {found.turns}" if found.turns else ""
    parts += [Text(visible(how), style="dim"), ""]
    parts += [_against(found, *row) for row in found.comparisons]
    for variant in found.variants:
        if told := _told(variant):
            parts += ["", f"[bold]{escape(visible(variant.name))}[/]"]
            parts += [Padding(line, (0, 0, 0, 2)) for line in told]
    return Group(*parts)


def _against(found: VariantsReport, old: str, new: str, comparison: Comparison) -> RenderableType:
    """A ratio of times with its interval, and the verdict; below 1 the new one is faster."""
    from rich.text import Text

    from edgeopt.report.printable import visible

    text = Text(visible(f"{new} against {old}: "))
    if comparison.ratio is not None:
        text.append(f"time x {comparison.ratio:.3f}")
    if comparison.interval:
        low, high = comparison.interval
        text.append(f" ({100 * comparison.confidence:.0f}% interval {low:.3f} to {high:.3f})")
    colours = {"slower": "red", "faster": "green", "same": "green"}
    text.append(f", {comparison.verdict}", style=colours.get(comparison.verdict, "yellow"))
    text.append(" (by turns)" if comparison.method == "turns" else "", style="dim")
    measured = [v.report.measurement for v in found.variants if v.name in (old, new) and v.report]
    if any(m is not None and not m.valid for m in measured):
        text.append(": a measurement that is invalid is not judged")
    elif comparison.reasons:
        text.append(visible(f": {'; '.join(comparison.reasons)}"))
    return text


def _table(found: VariantsReport) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    from edgeopt.report.printable import visible

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("model", overflow="fold")
    table.add_column("")
    for name in ("size", "median", "±", "p90", "p99", "runs", "processes"):
        table.add_column(name, justify="right", no_wrap=True)
    for variant in found.variants:
        report = variant.report
        measured = report.measurement if report else None
        mark = Text("x", style="red") if variant.error else _mark(measured)
        size = bytes_text(report.model.size_bytes) if report else "-"
        table.add_row(Text(visible(variant.name)), mark, size, *_cells(measured))
    return table


def _mark(measured: Measurement | None) -> Text:
    """A tick is for what was judged: disturbed figures that are used all the same get a "?"."""
    from rich.text import Text

    disturbed = measured is not None and bool(measured.disturbance)
    return Text("?", style="yellow") if disturbed else Text("✓", style="green")


def _cells(measured: Measurement | None) -> list[str]:
    """Median (a mean where the runtime prints no median), the larger half of its interval, tail,
    effort."""
    if measured is None:
        return ["-"] * 6
    stats = measured.stats
    typical, ends = stats.median_ns, stats.ci95_ns
    if typical is None:
        typical, ends = stats.mean_ns, stats.mean_ci95_ns
    half = half_text(ends, typical).lstrip("±") if ends and typical else "-"
    return [
        duration_text(typical),
        half,
        duration_text(stats.p90_ns),
        duration_text(stats.p99_ns),
        "?" if measured.runs is None else str(measured.runs),
        str(len(measured.pooled)),
    ]


def _told(variant: Variant) -> list[str]:
    """What ended it, what speaks against its times, and warnings."""
    from rich.markup import escape

    from edgeopt.report.printable import visible

    measured = variant.report.measurement if variant.report else None
    told = [f"[red]error:[/] {escape(visible(variant.error['message']))}"] if variant.error else []
    if measured is not None:
        told += [f"[yellow]note:[/] {escape(visible(note))}" for note in measured.notes]
    return told
