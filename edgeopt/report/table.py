"""The tables of `edgeopt table`, for terminals and files. Works on the document alone.

Three views of the same cells: the published comparison of original, post-training quantized and
quantization-aware trained; the published comparison of activations; and every cell by itself.
Published figures have lines of their own, marked as such.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape as escape_html
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["View", "check_suffix", "export", "tables", "views"]

_KINDS = (".md", ".html", ".csv", ".json", ".txt")
NOT_MEASURED = "not measured"
_THREE = ("float32", "int8", "qat")
_ACTIVATIONS = ("float32", "int8", "int16x8")
_METRICS = {
    "top1": "top-1",
    "wer": "WER",
    "cer": "CER",
    "map50": "mAP (IoU 0.5)",
    "f1": "F1",
    "auc": "AUC",
    "mae": "MAE",
}
_UNBROKEN = {"model": ["  published"], "scheme": ["dynamic_int8"]}  # on narrow terminals
_LOWER_IS_BETTER = ("wer", "cer", "mae", "mse", "rmse")

Cell = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class View:
    """One table as text; `published` are the numbers of the lines that are someone else's."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    published: frozenset[int] = frozenset()


def views(document: Mapping[str, Any]) -> list[View]:
    """The tables that the rows of an edgeopt.table/1 document can fill."""
    rows = document["rows"]
    found = [_techniques(rows)]
    if any("int16x8" in row["schemes"] for row in rows):
        found.append(_activations(rows))
    return [*found, _cells(rows)]


def _techniques(rows: Sequence[Cell]) -> View:
    lines: list[tuple[str, ...]] = []
    theirs = set()
    for row in rows:
        cells = row["cells"]
        lines.append(
            (
                row["name"],
                _metric(row),
                *(_accuracy(row, name) for name in _THREE),
                *(_latency(row, name) for name in _THREE),
                _size(cells.get("float32")),
                _size(cells.get("int8") or cells.get("qat")),
            )
        )
        if known := row["published"]:
            theirs.add(len(lines))
            lines.append(
                (
                    "  published",
                    known.get("metric") or _metric(row),
                    *(_given(known, "accuracy", name) for name in _THREE),
                    *(_given(known, "latency_ms", name) for name in _THREE),
                    _given(known, "size_mb", "float32"),
                    _given(known, "size_mb", "int8"),
                )
            )
    columns = (
        "model",
        "metric",
        "accuracy, original",
        "accuracy, PTQ",
        "accuracy, QAT",
        "ms, float",
        "ms, PTQ",
        "ms, QAT",
        "MB, float",
        "MB, int8",
    )
    return View(
        title="Original, post-training quantized (PTQ), quantization-aware trained (QAT)",
        columns=columns,
        lines=tuple(lines),
        published=frozenset(theirs),
    )


def _activations(rows: Sequence[Cell]) -> View:
    lines: list[tuple[str, ...]] = []
    theirs = set()
    for row in rows:
        own = (_accuracy(row, name) for name in _ACTIVATIONS)
        lines.append((row["name"], _metric(row), *own))
        if known := row["published"]:
            theirs.add(len(lines))
            given = (_given(known, "accuracy", name) for name in _ACTIVATIONS)
            lines.append(("  published", known.get("metric") or _metric(row), *given))
    columns = ("model", "metric", "float32", "int8", "int16x8")
    return View(
        title="int8 and int16 activations, int8 weights",
        columns=columns,
        lines=tuple(lines),
        published=frozenset(theirs),
    )


def _cells(rows: Sequence[Cell]) -> View:
    lines = []
    for row in rows:
        whole = (row["cells"].get("float32") or {}).get("size_bytes")
        for scheme in row["schemes"]:
            cell = row["cells"].get(scheme)
            size = cell["size_bytes"] if cell else None
            share = f"{100 * size / whole:.0f}%" if size and whole else "-"
            lines.append(
                (
                    row["name"],
                    scheme,
                    _size(cell),
                    share,
                    _megabytes(cell["gzip_bytes"]) if cell else "-",
                    _latency(row, scheme),
                    str(cell["latency"]["runs"]) if cell and cell["latency"] else "-",
                    _accuracy(row, scheme),
                    _state(cell),
                )
            )
    columns = ("model", "scheme", "MB", "of float", "gzip MB", "ms", "runs", "accuracy",
               "state")  # fmt: skip
    return View(title="Every cell", columns=columns, lines=tuple(lines))


def _metric(row: Cell) -> str:
    """What was measured, else what would be."""
    measured = (cell["accuracy"]["metric"] for cell in row["cells"].values() if cell["accuracy"])
    name = next(measured, row["metric"])
    shown = _METRICS.get(name, name) or "-"
    return f"{shown} (lower is better)" if name in _LOWER_IS_BETTER else shown


def _accuracy(row: Cell, scheme: str) -> str:
    cell = row["cells"].get(scheme)
    if cell is None or not cell["accuracy"]:
        return _missing(row, scheme)
    return f"{cell['accuracy']['optimized']:.4f}"


def _latency(row: Cell, scheme: str) -> str:
    cell = row["cells"].get(scheme)
    if cell is None or not cell["latency"] or cell["latency"]["median_ns"] is None:
        return _missing(row, scheme)
    shown = (
        f"{cell['latency']['median_ns'] / 1e6:.{2 if cell['latency']['median_ns'] < 1e8 else 0}f}"
    )
    if not cell["latency"]["valid"]:
        return f"{shown} (invalid)"
    return f"{shown} (not judged)" if cell["latency"].get("disturbance") else shown


def _missing(row: Cell, scheme: str) -> str:
    """Why there is no number."""
    cell = row["cells"].get(scheme)
    if scheme not in row["schemes"]:
        return "not run"
    return "failed" if cell and cell["error"] and not cell["size_bytes"] else NOT_MEASURED


def _size(cell: Cell | None) -> str:
    return _megabytes(cell["size_bytes"]) if cell else "-"


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.2f}"


def _given(known: Mapping[str, Any], kind: str, name: str) -> str:
    value = (known.get(kind) or {}).get(name)
    return "-" if value is None else f"{value:g}"


def _state(cell: Cell | None) -> str:
    if cell is None:
        return "to do"
    if cell["error"]:
        return f"failed: {cell['error']['message']}"
    made = "float" if cell["engine"] == "copy" else cell["engine"]
    return f"{made}{', from before' if cell['resumed'] else ''}"


def _remarks(document: Mapping[str, Any]) -> list[str]:
    """What a reader must know before using a number."""
    told = [
        f"Measured with edgeopt {document['edgeopt']} on {document['device']}, target "
        f"{document['target']}. ms is the median latency, MB is 10^6 bytes, accuracies are "
        "fractions.",
    ]
    if random := [row["name"] for row in document["rows"] if not row["trained"]]:
        told.append(
            f"Random weights, as none were given: {', '.join(random)}. Their sizes and latencies "
            "hold; their accuracy says nothing and is not measured."
        )
    if disturbed := [
        f"{row['name']} {scheme}"
        for row in document["rows"]
        for scheme, cell in row["cells"].items()
        if cell["latency"] and cell["latency"].get("disturbance")
    ]:
        told.append(
            "Not judged (--conditions report), though something disturbed it meanwhile: "
            f"{', '.join(disturbed)}."
        )
    known = [row["published"] for row in document["rows"] if row["published"]]
    for source in dict.fromkeys(p["source"] for p in known):
        device = next((p["device"] for p in known if p["source"] == source and p["device"]), "")
        told.append(f"Published: {source}{f' ({device})' if device else ''}. Not measured here.")
    return told


def tables(document: Mapping[str, Any]) -> list[Any]:
    """For a terminal: rich tables and the remarks below them."""
    return [*(_rich(view) for view in views(document)), "\n".join(_remarks(document))]


def _rich(view: View) -> Table:
    from rich.markup import escape
    from rich.table import Table

    made = Table(title=view.title, title_justify="left", box=None, header_style="bold",
                 padding=(0, 1, 0, 0))  # fmt: skip
    for place, name in enumerate(view.columns):
        text = place == 0 or name in ("metric", "scheme", "state")
        heading = name.replace(", ", "\n")
        words = re.split(r"\s", heading) + _UNBROKEN.get(name, [])
        width = max(map(len, words))
        made.add_column(
            heading, justify="left" if text else "right", overflow="fold", min_width=width
        )
    for number, line in enumerate(view.lines):
        style = "dim" if number in view.published else None
        made.add_row(*map(escape, line), style=style)
    return made


def check_suffix(path: Path | None) -> None:
    """Refuse what cannot be written, before any work is done (InputError)."""
    from edgeopt.store import check_place

    if path is None:
        return
    if path.suffix not in _KINDS:
        raise InputError(
            f"--report {path} has no known ending.", f"Use one of {', '.join(_KINDS)}."
        )
    check_place(path)


def export(document: Mapping[str, Any], path: Path) -> None:
    """Write it whole or not at all. Raises InputError where it cannot be written."""
    from edgeopt.store import publish_text

    writers = {".md": _markdown, ".html": _html, ".csv": _csv, ".json": _json, ".txt": _plain}
    publish_text(writers[path.suffix](document), path)


def _json(document: Mapping[str, Any]) -> str:
    full = {"schema": "edgeopt.table/1", **document}
    return json.dumps(full, sort_keys=True, indent=2, allow_nan=False, default=str) + "\n"


def _markdown(document: Mapping[str, Any]) -> str:
    parts = [f"# {document['title']}"]
    for view in views(document):
        rows = [view.columns, tuple("---" for _ in view.columns), *view.lines]
        body = "\n".join(f"| {' | '.join(map(_in_markdown, row))} |" for row in rows)
        parts.append(f"## {view.title}\n\n{body}")
    parts.append("\n".join(f"- {remark}" for remark in _remarks(document)))
    return "\n\n".join(parts) + "\n"


def _in_markdown(text: str) -> str:
    shown = text.replace("|", "\\|").replace("\n", " ")
    return f"*{shown.strip()}*" if text.startswith("  ") else shown


def _html(document: Mapping[str, Any]) -> str:
    parts = [f"<h1>{escape_html(document['title'])}</h1>"]
    for view in views(document):
        head = "".join(f"<th>{escape_html(name)}</th>" for name in view.columns)
        body = "".join(
            f"<tr{' class=published' if number in view.published else ''}>"
            + "".join(f"<td>{escape_html(text.strip())}</td>" for text in line)
            + "</tr>\n"
            for number, line in enumerate(view.lines)
        )
        parts.append(f"<h2>{escape_html(view.title)}</h2>\n<table><tr>{head}</tr>\n{body}</table>")
    parts += [f"<p>{escape_html(remark)}</p>" for remark in _remarks(document)]
    return _PAGE.format(title=escape_html(document["title"]), body="\n".join(parts))


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font-family: system-ui, sans-serif; margin: 2em; }}
table {{ border-collapse: collapse; }} td, th {{ padding: .2em .7em; text-align: right; }}
td:first-child, th:first-child {{ text-align: left; }} .published {{ color: #777; }}</style>
</head><body>
{body}
</body></html>
"""


def _csv(document: Mapping[str, Any]) -> str:
    """One line a cell, numbers in base units; empty where nothing was measured."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(
        ("model", "scheme", "metric", "accuracy", "median_ns", "runs", "valid", "size_bytes",
         "gzip_bytes", "trained", "error")
    )  # fmt: skip
    for row in document["rows"]:
        for scheme, cell in row["cells"].items():
            accuracy, latency = cell["accuracy"] or {}, cell["latency"] or {}
            writer.writerow(
                (row["name"], scheme, accuracy.get("metric"), accuracy.get("optimized"),
                 latency.get("median_ns"), latency.get("runs"), latency.get("valid"),
                 cell["size_bytes"], cell["gzip_bytes"], row["trained"],
                 (cell["error"] or {}).get("message"))
            )  # fmt: skip
    return out.getvalue()


def _plain(document: Mapping[str, Any]) -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), record=True, width=160, highlight=False)
    for part in tables(document):
        console.print(part)
        console.print()
    return console.export_text()
