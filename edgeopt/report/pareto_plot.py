"""The front as a picture: SVG written here, PNG by matplotlib (the `plot` extra)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from edgeopt.errors import InputError, ToolError
from edgeopt.report.pareto import comparable
from edgeopt.report.units import bytes_text, duration_text

__all__ = ["Point", "check_plot", "draw", "points", "svg"]

_WIDTH, _HEIGHT = 860, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 190, 56, 64
_FRONT, _REST = "#0b7a4b", "#8a8f98"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One candidate: latency in ns with its 95% interval, accuracy (or None), bytes after gzip."""

    name: str
    latency_ns: float
    interval_ns: tuple[float, float]
    accuracy: float | None
    gzip_bytes: int
    front: bool


def check_plot(path: Path | None) -> None:
    """Refuse a picture that could not be drawn, before any work is done.

    Raises InputError for an unknown ending, ToolError where matplotlib is missing.
    """
    from edgeopt.store import check_place

    if path is None:
        return
    if path.suffix not in (".svg", ".png"):
        raise InputError(f"--plot {path} has no known ending.", "Use .svg or .png.")
    check_place(path)
    if path.suffix == ".png" and find_spec("matplotlib") is None:
        raise ToolError(
            "A PNG is drawn by matplotlib, which is not installed.",
            "pip install 'edgeopt[plot]', or draw an .svg, which needs nothing.",
        )


def draw(content: Mapping[str, Any], path: Path) -> None:
    """Write the picture of a tune's JSON whole or not at all."""
    from edgeopt.store import publish, scratch

    found = points(content)
    title = f"{Path(content['model']['path']).name} on {content['device']['name']}"
    metric = next((r["metric"] for r in content["candidates"] if r["metric"]), None)
    with scratch() as folder:
        file = folder / f"plot{path.suffix}"
        if path.suffix == ".svg":
            file.write_text(svg(found, title, metric), encoding="utf-8")
        else:
            _png(found, title, metric, file)
        publish(file, path)


def points(content: Mapping[str, Any]) -> list[Point]:
    """What has a valid latency; the others are in the table, with the reason."""
    return [
        Point(
            name=row["name"],
            latency_ns=row["latency_ns"],
            interval_ns=tuple(row["latency_ci95_ns"] or (row["latency_ns"],) * 2),
            accuracy=row["accuracy"],
            gzip_bytes=row["gzip_bytes"],
            front=row["front"],
        )
        for row in comparable(content["candidates"])
    ]


def _height(point: Point, metric: str | None) -> float:
    return float(point.gzip_bytes) if metric is None else float(point.accuracy or 0.0)


_LOG_FROM = 5.0  # a slow kernel beside a fast one would press all others into the axis


def _logarithmic(values: list[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) > _LOG_FROM


class _Scale:
    """From values to pixels, with a little room at both ends; `log` for a wide range."""

    def __init__(self, values: list[float], start: float, end: float, *, log: bool = False) -> None:
        self.log, self.start, self.end = log, start, end
        low, high = (self._place(v) for v in (min(values), max(values)))
        room = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
        self.low, self.high = low - room, high + room

    def _place(self, value: float) -> float:
        return math.log(value) if self.log else value

    def __call__(self, value: float) -> float:
        share = (self._place(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        even = [self.low + (self.high - self.low) * n / 4 for n in range(5)]
        return [math.exp(v) for v in even] if self.log else even


def svg(found: list[Point], title: str, metric: str | None) -> str:
    """Latency to the right, accuracy upwards (the download where there is none), the download as
    the area of the mark. No script, no font or file from elsewhere."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="28" font-size="16">{escape(title)}</text>',
    ]
    if not found:
        text = "no candidate has a valid measurement"
        return "\n".join([*parts, f'<text x="{_LEFT}" y="80">{text}</text>', "</svg>", ""])
    ends = [v for p in found for v in (p.latency_ns, *p.interval_ns)]
    across = _Scale(ends, _LEFT, _WIDTH - _RIGHT, log=_logarithmic(ends))
    up = _Scale([_height(p, metric) for p in found], _HEIGHT - _BOTTOM, _TOP)
    parts += _axes(across, up, metric)
    parts += _marks(found, across, up, metric)
    parts += _legend()
    return "\n".join([*parts, "</svg>", ""])


def _axes(across: _Scale, up: _Scale, metric: str | None) -> list[str]:
    floor, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for value in across.ticks():
        x = f"{across(value):.1f}"
        parts.append(f'<line x1="{x}" y1="{_TOP}" x2="{x}" y2="{floor}" stroke="#eee"/>')
        label = duration_text(max(value, 0.0))
        parts.append(f'<text x="{x}" y="{floor + 20}" text-anchor="middle">{label}</text>')
    for value in up.ticks():
        y = f"{up(value):.1f}"
        parts.append(f'<line x1="{_LEFT}" y1="{y}" x2="{right}" y2="{y}" stroke="#eee"/>')
        label = bytes_text(value) if metric is None else f"{value:.4f}"
        parts.append(f'<text x="{_LEFT - 8}" y="{y}" dy="4" text-anchor="end">{label}</text>')
    name = "download (gzip)" if metric is None else metric
    parts.append(
        f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 16}" text-anchor="middle">'
        f"latency of one inference, median with 95% interval{', logarithmic' * across.log}</text>"
    )
    parts.append(f'<text x="{_LEFT}" y="{_TOP - 10}">{escape(name)}</text>')
    return parts


def _marks(found: list[Point], across: _Scale, up: _Scale, metric: str | None) -> list[str]:
    largest = max(p.gzip_bytes for p in found)
    best = sorted((p for p in found if p.front), key=lambda p: p.latency_ns)
    line = " ".join(f"{across(p.latency_ns):.1f},{up(_height(p, metric)):.1f}" for p in best)
    parts = [f'<polyline points="{line}" fill="none" stroke="{_FRONT}" stroke-dasharray="4 3"/>']
    taken: list[tuple[float, float]] = []
    for point in sorted(found, key=lambda p: not p.front):
        colour = _FRONT if point.front else _REST
        x, y = across(point.latency_ns), up(_height(point, metric))
        low, high = (across(v) for v in point.interval_ns)
        radius = 4 + 10 * (point.gzip_bytes / largest) ** 0.5
        parts.append(
            f'<line x1="{low:.1f}" y1="{y:.1f}" x2="{high:.1f}" y2="{y:.1f}" stroke="{colour}"/>'
        )
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" '
            f'fill-opacity="0.55"><title>{escape(_told(point))}</title></circle>'
        )
        weight = "bold" if point.front else "normal"
        right, line_y = x + radius + 4, y - 6
        while any(abs(line_y - b) < 13 and abs(right - a) < 140 for a, b in taken):
            line_y += 13  # names of points that lie together stand under each other
        taken.append((right, line_y))
        parts.append(
            f'<text x="{right:.1f}" y="{line_y:.1f}" font-weight="{weight}">'
            f"{escape(point.name)}</text>"
        )
    return parts


def _legend() -> list[str]:
    x = _WIDTH - _RIGHT + 24
    lines = ((_FRONT, "on the Pareto front"), (_REST, "beaten by another"))
    parts = []
    for number, (colour, text) in enumerate(lines):
        y = _TOP + 18 * number
        parts.append(f'<circle cx="{x}" cy="{y}" r="5" fill="{colour}" fill-opacity="0.55"/>')
        parts.append(f'<text x="{x + 12}" y="{y + 4}">{text}</text>')
    y = _TOP + 18 * len(lines)
    return [*parts, f'<text x="{x - 6}" y="{y + 4}">area: download (gzip)</text>']


def _told(point: Point) -> str:
    accuracy = "" if point.accuracy is None else f"{point.accuracy:.4f}, "
    return (
        f"{point.name}: {accuracy}{duration_text(point.latency_ns)}, "
        f"{bytes_text(point.gzip_bytes)} gzip"
    )


def _png(found: list[Point], title: str, metric: str | None, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH / 100, _HEIGHT / 100), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    largest = max((p.gzip_bytes for p in found), default=1)
    for point in found:
        colour, y = (_FRONT if point.front else _REST), _height(point, metric)
        x = point.latency_ns / 1e6
        low, high = (v / 1e6 for v in point.interval_ns)
        axes.plot([low, high], [y, y], color=colour, linewidth=1)
        axes.scatter([x], [y], s=30 + 250 * point.gzip_bytes / largest, color=colour, alpha=0.55)
        axes.annotate(point.name, (x, y), xytext=(8, 6), textcoords="offset points", fontsize=8)
    best = sorted((p for p in found if p.front), key=lambda p: p.latency_ns)
    axes.plot(
        [p.latency_ns / 1e6 for p in best],
        [_height(p, metric) for p in best],
        color=_FRONT,
        linestyle="--",
        linewidth=1,
    )
    if found and _logarithmic([v for p in found for v in (p.latency_ns, *p.interval_ns)]):
        axes.set_xscale("log")
    axes.set_xlabel("latency of one inference in ms, median with 95% interval")
    axes.set_ylabel("download (gzip) in bytes" if metric is None else metric)
    axes.set_title(title)
    axes.grid(alpha=0.2)
    figure.savefig(path, format="png")
