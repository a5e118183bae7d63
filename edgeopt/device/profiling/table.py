"""The table of operators that benchmark_model prints with --enable_op_profiling, as values. Pure.

One line an operator in the section "Run Order", of the regular runs and not of the initialization:
its type, the first and the mean time in milliseconds, and its name, which ends in the operator's
index (`[tensor names]:7`). Columns are read by their titles: newer programs have more of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeopt.device.printable import clean_text
from edgeopt.device.profiling.events import Row, same_operation
from edgeopt.device.profiling.figures import only_mean
from edgeopt.errors import DeviceError
from edgeopt.facts import ModelFacts, Operator

__all__ = ["TableRow", "operator_table", "rows_of_table"]

_REGULAR = re.compile(r"Operator-wise Profiling Info for Regular Benchmark Runs")
_SECTION = re.compile(r"^=+ (.+?) =+$")
_TITLE = re.compile(r"\[([^\]]+)\]")
_NAME = re.compile(r"^\[(.*)\]:([0-9]{1,9})$")
_LONGEST_MS = 1e9
_MOST_ROWS = 200_000


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """`index` is that in the name, None without one. Times in milliseconds, of one inference;
    `calls` is how often it ran in it."""

    kind: str
    name: str
    index: int | None
    mean_ms: float
    calls: float


def operator_table(log: str) -> tuple[TableRow, ...]:
    """Raises DeviceError when the log holds no such table, or one that contradicts itself."""
    lines = [line.rstrip() for line in log.splitlines()]
    start = next((n for n, line in enumerate(lines) if _REGULAR.search(line)), None)
    if start is None:
        raise _unreadable("there is no table of operators in its output")
    titles: list[str] = []
    rows: list[TableRow] = []
    inside = False
    for line in lines[start + 1 :]:
        if section := _SECTION.match(line.strip()):
            if inside:
                break
            inside = section[1] == "Run Order"
        elif inside and line.strip():
            if "[node type]" in line:
                titles = [title.lower() for title in _TITLE.findall(line)]
            elif titles:
                rows.append(_row(line, titles))
    if not rows or len(rows) > _MOST_ROWS:
        raise _unreadable(f"its table of operators has {len(rows)} rows")
    return tuple(rows)


def _row(line: str, titles: list[str]) -> TableRow:
    cells = line.strip().split("\t")
    values = dict(zip(titles, (cell.strip() for cell in cells), strict=False))
    try:
        mean, calls = float(values["avg ms"]), float(values["times called"])
    except (KeyError, ValueError):
        raise _unreadable(f"a row of its table reads {clean_text(line.strip(), 80)!r}") from None
    if not 0 <= mean <= _LONGEST_MS or not 0 <= calls <= 1e9:
        raise _unreadable(f"an operator took {mean:g} ms")
    name = clean_text(values.get("name", ""), 4000)
    found = _NAME.match(name)
    return TableRow(
        kind=clean_text(values.get("node type", ""), 200),
        name=found[1] if found else name,
        index=int(found[2]) if found else None,
        mean_ms=mean,
        calls=calls,
    )


def rows_of_table(
    table: tuple[TableRow, ...], facts: ModelFacts
) -> tuple[list[Row], dict[int, dict[str, float | None]]]:
    """Rows as of a profiler's events, and their figures by identity, for only means are printed.

    A line is an operator's when index and type agree, of the first subgraph: the table does not
    say which subgraph it means. All else is a row that belongs to no operator.
    """
    by_index = {op.index: op for op in facts.operators() if op.subgraph == 0}
    mine: dict[int, list[TableRow]] = {}
    others: list[TableRow] = []
    for line in table:
        op = by_index.get(-1 if line.index is None else line.index)
        if op is not None and same_operation(line.kind, op) and _named(line, op):
            mine.setdefault(op.index, []).append(line)
        else:
            others.append(line)
    rows, told = [], {}
    for op in facts.operators():
        lines = mine.get(op.index, []) if op.subgraph == 0 else []
        row = Row(
            operator=op,
            name=op.op,
            us=None,
            matched="index" if lines else "",
            nested=op.subgraph != 0,
            calls=sum(line.calls for line in lines),
        )
        rows.append(row)
        if lines:
            told[id(row)] = only_mean(sum(line.mean_ms for line in lines) * 1e6)
    for line in others:
        name = line.kind if not line.name else f"{line.kind} [{line.name[:60]}]"
        row = Row(operator=None, name=name, us=None, matched="", calls=line.calls)
        rows.append(row)
        told[id(row)] = only_mean(line.mean_ms * 1e6)
    return rows, told


def _named(line: TableRow, op: Operator) -> bool:
    """The name is that of the operator's results, joined by commas; blank ones tell nothing."""
    names = ", ".join(tensor.name for tensor in op.outputs)
    return not line.name or not names or clean_text(names, 4000).startswith(line.name[:200])


def _unreadable(what: str) -> DeviceError:
    return DeviceError(
        f"benchmark_model gave no usable profile: {what}.",
        "Give another benchmark_model with --benchmark-binary; one from TensorFlow 2.4 on has"
        " --enable_op_profiling.",
    )
