"""A picture of a model's graph and of where each operation runs: SVG, or a page of HTML.

Self-contained: no script, no font, nothing loaded. What runs on the chip has round corners and is
blue; what stays on the CPU has square corners, a thick edge and is orange (colours of Okabe and
Ito, told apart with any kind of colour vision); what is not certain is hatched. Lines that cross
between chip and CPU are thick, and marked with the bytes that cross with each inference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from edgeopt.errors import InputError
from edgeopt.facts import Operator, Subgraph, Tensor
from edgeopt.report.picture_layout import Layout, lay_out
from edgeopt.report.units import bytes_text

__all__ = ["MOST_OPERATIONS", "STYLES", "Place", "Style", "draw_svg", "page"]

MOST_OPERATIONS = 3000
_BOX, _TALL = 300, 40  # pixels
_ROW, _GAP, _SIDE, _HEAD = 70, 26, 24, 116


@dataclass(frozen=True, kw_only=True)
class Style:
    label: str
    fill: str
    pale: str
    text: str
    corner: int
    edge: int


STYLES = {
    "chip": Style(label="chip", fill="#0072B2", pale="#9CC8E3", text="#ffffff", corner=12,
                  edge=0),
    "cpu": Style(label="CPU", fill="#E69F00", pale="#F6DFA6", text="#000000", corner=0, edge=4),
    "none": Style(label="neither", fill="#D9D9D9", pale="#EEEEEE", text="#000000", corner=4,
                  edge=0),
    "end": Style(label="input or output", fill="#ffffff", pale="#ffffff", text="#000000",
                 corner=20, edge=0),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one operation is: kind "chip", "cpu" or "none". `group` tells several partitions apart;
    `surprise` says what was predicted instead."""

    kind: str
    certain: bool = True
    reason: str = ""
    layer: str = ""
    group: int | None = None
    surprise: str = ""


@dataclass(frozen=True, kw_only=True)
class _Node:
    kind: str
    title: str
    first: str
    second: str
    note: str
    place: Place | None = None


def draw_svg(
    graph: Subgraph, places: Mapping[int, Place], title: str, lines: Sequence[str], chip: str
) -> str:
    """The picture; `lines` stand under `title`, `chip` is what the accelerator is called.

    Raises InputError for a graph of more than MOST_OPERATIONS operations: nobody could read it.
    """
    if len(graph.operators) > MOST_OPERATIONS:
        raise InputError(
            f"A picture of {len(graph.operators)} operations cannot be read or shown.",
            f"Up to {MOST_OPERATIONS} are drawn; --node-data suits larger models.",
        )
    nodes, edges = _graph(graph, places, chip)
    plan = lay_out(len(nodes), [(a, b) for a, b, _ in edges])
    width = max(plan.width * (_BOX + _GAP) - _GAP, 640) + 2 * _SIDE
    height = plan.layers * _ROW + _HEAD + _SIDE
    body = [*_edges(nodes, edges, plan), *_boxes(nodes, plan)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="Helvetica, Arial, sans-serif">',
            _DEFINITIONS,
            f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
            *_head(title, lines, chip, nodes),
            *body,
            "</svg>\n",
        ]
    )


def page(svg: str, title: str, rows: Sequence[tuple[int, str, str]]) -> str:
    """HTML around the picture: what is not on the chip as a list of links (index, name, why)."""
    items = "".join(
        f'<li><a href="#op{index}">{_text(name)}</a> {_text(why)}</li>' for index, name, why in rows
    )
    aside = f"<aside><h2>Not on the chip ({len(rows)})</h2><ol>{items}</ol></aside>" if rows else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}'
        f"</title><style>{_PAGE}</style></head><body>{aside}<main>{svg}</main></body></html>\n"
    )


def _graph(
    graph: Subgraph, places: Mapping[int, Place], chip: str
) -> tuple[list[_Node], list[tuple[int, int, Tensor]]]:
    """Operations, then inputs, then outputs; each tensor that leads from one to another."""
    nodes = [_operation(op, places.get(op.index), chip) for op in graph.operators]
    maker: dict[int, int] = {}
    for number, op in enumerate(graph.operators):
        for tensor in op.outputs:
            maker.setdefault(tensor.index, number)
    for index in dict.fromkeys(t.index for t in graph.inputs):
        if index not in maker:
            maker[index] = len(nodes)
            nodes.append(_end("input", graph.tensors[index]))
    edges = []
    for number, op in enumerate(graph.operators):
        for index in dict.fromkeys(t.index for t in op.inputs if t is not None):
            if index in maker and maker[index] != number:
                edges.append((maker[index], number, graph.tensors[index]))
    for index in dict.fromkeys(t.index for t in graph.outputs):
        nodes.append(_end("output", graph.tensors[index]))
        if index in maker:
            edges.append((maker[index], len(nodes) - 1, graph.tensors[index]))
    return nodes, edges


def _operation(op: Operator, place: Place | None, chip: str) -> _Node:
    out = op.outputs[0] if op.outputs else None
    kind = place.kind if place else "none"
    name = (place.layer if place else "") or (out.name.split(";")[0] if out else "")
    where = chip if kind == "chip" else STYLES[kind].label
    told = [f"{op.op} #{op.index}, version {op.version}", f"layer: {name or 'not named'}"]
    if place and place.group is not None:
        where += f", partition {place.group}"
    told.append(f"runs on: {where}" + ("" if not place or place.certain else " (uncertain)"))
    told += [place.reason] if place and place.reason else []
    told += [place.surprise] if place and place.surprise else []
    told += [f"in: {_shape(t)} {_short(t.name, 60)}" for t in op.inputs if t and not t.constant][:8]
    told += [f"out: {_shape(t)} {_short(t.name, 60)}" for t in op.outputs[:8]]
    note = f"P{place.group}" if place and place.group is not None else ""
    return _Node(
        kind=kind,
        title="\n".join(told),
        first=f"{_short(op.op, 20)} #{op.index}",
        second=name,
        note=" ".join(filter(None, (_sides(out), note))),
        place=place,
    )


def _end(side: str, tensor: Tensor) -> _Node:
    return _Node(
        kind="end",
        title=f"{side} {_short(tensor.name, 200)}\n{_shape(tensor)}",
        first=side,
        second=tensor.name,
        note=_shape(tensor),
    )


def _crosses(start: _Node, end: _Node) -> bool:
    """Between the chip and anything else: the host has to move it."""
    return (start.kind == "chip") != (end.kind == "chip") or (
        start.kind == end.kind == "chip" and _group(start) != _group(end)
    )


def _group(node: _Node) -> int | None:
    return node.place.group if node.place else None


def _edges(nodes: list[_Node], edges: list[tuple[int, int, Tensor]], plan: Layout) -> list[str]:
    plain, marked, labels = [], [], []
    told: set[tuple[int, str]] = set()
    for (start, end, tensor), bends in zip(edges, plan.lines, strict=True):
        passed = [_at(bend, down) for bend in bends for down in (0, _TALL)]  # beside the boxes
        points = [_at(plan.nodes[start], _TALL), *passed, _at(plan.nodes[end], 0)]
        path = _curve(points)
        if not _crosses(nodes[start], nodes[end]):
            plain.append(f'<path d="{path}"/>')
            continue
        size = "?" if tensor.size_bytes is None else bytes_text(tensor.size_bytes)
        into = nodes[end].kind == "chip"
        what = f"{size} {'to' if into else 'from'} the chip: {_short(tensor.name, 60)}"
        marked.append(f'<path d="{path}"><title>{_text(what)}</title></path>')
        if (tensor.index, nodes[end].kind) not in told:  # moved once, whoever reads it
            told.add((tensor.index, nodes[end].kind))
            x, y = points[-1] if into else points[0]
            labels.append(_bytes_label(x, y - 9 if into else y + 20, size))
    return [
        f'<g fill="none" stroke="#8a8a8a" stroke-width="1.3">{"".join(plain)}</g>',
        f'<g fill="none" stroke="#B0004C" stroke-width="3" stroke-dasharray="7 3">'
        f"{''.join(marked)}</g>",
        *labels,
    ]


def _bytes_label(x: float, y: float, size: str) -> str:
    wide = 7 * len(size) + 10
    return (
        f'<g><rect x="{x - wide / 2:.0f}" y="{y - 12:.0f}" width="{wide}" height="16" rx="3" '
        f'fill="#ffffff" stroke="#B0004C"/><text x="{x:.0f}" y="{y:.0f}" font-size="11" '
        f'text-anchor="middle" fill="#7A0035">{size}</text></g>'
    )


def _at(place: tuple[float, int], down: int) -> tuple[float, float]:
    """The middle of a box, `down` pixels below its top."""
    return _SIDE + place[0] * (_BOX + _GAP) + _BOX / 2, _HEAD + place[1] * _ROW + down


def _curve(points: list[tuple[float, float]]) -> str:
    x, y = points[0]
    parts = [f"M{x:.0f} {y:.0f}"]
    for nx, ny in points[1:]:
        if abs(nx - x) < 1:
            parts.append(f"L{nx:.0f} {ny:.0f}")
        else:
            mid = (y + ny) / 2
            parts.append(f"C{x:.0f} {mid:.0f} {nx:.0f} {mid:.0f} {nx:.0f} {ny:.0f}")
        x, y = nx, ny
    return "".join(parts)


def _boxes(nodes: list[_Node], plan: Layout) -> list[str]:
    return [_box(node, *place) for node, place in zip(nodes, plan.nodes, strict=True)]


def _box(node: _Node, at: float, layer: int) -> str:
    style = STYLES[node.kind]
    x, y = _SIDE + at * (_BOX + _GAP), _HEAD + layer * _ROW
    certain = node.place is None or node.place.certain
    surprise = bool(node.place and node.place.surprise)
    fill = style.fill if certain else f"url(#{node.kind}-hatched)"
    text = style.text if certain else "#000000"
    stroke = "#B0004C" if surprise else "#222222"
    weight = 4 if surprise else 1
    index = node.first.rpartition("#")[2] if node.kind != "end" else ""
    anchor = f' id="op{index}"' if index.isdecimal() else ""
    shape = (
        f'<rect x="{x:.0f}" y="{y}" width="{_BOX}" height="{_TALL}" rx="{style.corner}" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="{weight}"/>'
    )
    if style.edge:
        shape += f'<rect x="{x:.0f}" y="{y}" width="6" height="{_TALL}" fill="#7A5200"/>'
    room = _BOX - 30  # widths of letters are those of the widest usual font, DejaVu Sans
    first = _short(node.first, 26)
    note = _short(node.note, max(3, int((room - 8.8 * len(first)) / 6.8)))
    return (
        f"<g{anchor}><title>{_text(node.title)}</title>{shape}"
        f'<g fill="{text}"><text x="{x + 14:.0f}" y="{y + 16}" font-size="12" '
        f'font-weight="bold">{_text(first)}</text>'
        f'<text x="{x + _BOX - 10:.0f}" y="{y + 16}" font-size="11" text-anchor="end">'
        f"{_text(note)}</text>"
        f'<text x="{x + 14:.0f}" y="{y + 32}" font-size="11">{_text(_short(node.second, 38))}'
        "</text></g></g>"
    )


def _head(title: str, lines: Sequence[str], chip: str, nodes: list[_Node]) -> list[str]:
    parts = [f'<text x="{_SIDE}" y="26" font-size="17" font-weight="bold">{_text(title)}</text>']
    for number, line in enumerate(lines[:2]):
        parts.append(
            f'<text x="{_SIDE}" y="{46 + 17 * number}" font-size="12">{_text(line)}</text>'
        )
    x = _SIDE
    legend = [("chip", True, chip), ("cpu", True, "CPU")]
    for kind, label in (("chip", f"{chip}, uncertain"), ("cpu", "CPU, uncertain")):
        if any(n.kind == kind and n.place and not n.place.certain for n in nodes):
            legend.append((kind, False, label))
    if any(n.kind == "none" for n in nodes):
        legend.append(("none", True, "in no part of this file"))
    for kind, certain, label in legend:
        style = STYLES[kind]
        fill = style.fill if certain else f"url(#{kind}-hatched)"
        parts.append(
            f'<rect x="{x}" y="78" width="30" height="16" rx="{min(style.corner, 6)}" '
            f'fill="{fill}" stroke="#222222"/><text x="{x + 37}" y="91" font-size="12">'
            f"{_text(label)}</text>"
        )
        x += 62 + 7 * len(label)
    parts.append(
        f'<path d="M{x} 86h30" stroke="#B0004C" stroke-width="3" stroke-dasharray="7 3"/>'
        f'<text x="{x + 37}" y="91" font-size="12">crosses between chip and host</text>'
    )
    return parts


def _shape(tensor: Tensor | None) -> str:
    return "?" if tensor is None else f"{_sides(tensor)} {tensor.dtype}"


def _sides(tensor: Tensor | None) -> str:
    if tensor is None or tensor.shape is None:
        return "?"
    return "x".join("?" if d < 0 else str(d) for d in tensor.shape) or "scalar"


def _short(text: str, room: int) -> str:
    """The beginning and the end: layers differ at either."""
    if len(text) <= room:
        return text
    kept = max(room - 1, 1)
    return text[: kept // 3] + "…" + text[len(text) - (kept - kept // 3) :]


def _text(text: str) -> str:
    return escape("".join(c if c.isprintable() or c == "\n" else "�" for c in text))


_DEFINITIONS = "<defs>" + "".join(
    f'<pattern id="{kind}-hatched" width="9" height="9" patternUnits="userSpaceOnUse" '
    f'patternTransform="rotate(45)"><rect width="9" height="9" fill="{STYLES[kind].pale}"/>'
    f'<rect width="3" height="9" fill="{STYLES[kind].fill}" fill-opacity="0.55"/></pattern>'
    for kind in ("chip", "cpu")
) + "</defs>"  # fmt: skip

_PAGE = """
body { margin: 0; font-family: Helvetica, Arial, sans-serif; display: flex; }
aside { width: 22em; height: 100vh; overflow: auto; position: sticky; top: 0; flex: none;
  padding: 0 1em; box-sizing: border-box; border-right: 1px solid #ccc; font-size: 13px; }
aside h2 { font-size: 15px; } aside ol { padding-left: 2em; } li { margin-bottom: 4px; }
main { overflow: auto; }
g:target > rect { stroke: #B0004C; stroke-width: 5; } g[id]:hover > rect { stroke-width: 3; }
"""
