"""Read what edgetpu_compiler prints, on stdout and into its .log, into values.

One model is one block; co-compilation and segments print several. Everything is optional: versions
differ in what they say, and other programs' lines may stand in between. Sizes come with two
decimals, so they are rounded; the compiled file has them exactly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any

from edgeopt.compile.compiler_failures import op_status
from edgeopt.compile.contract import OpStatus

__all__ = ["CompilerOutput", "ModelBlock", "Size", "parse_output", "says_double"]

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB)")
_VERSION = re.compile(r"Edge TPU Compiler version\s+(\d+(?:\.\d+)+)")
_HEADER = re.compile(r"\s*Operator\s+Count\s+Status\s*")
_ROW = re.compile(r"([A-Za-z][\w.:/-]*)\s+(\d+)\s+(\S.*)")
# The name column is 31 wide; a longer name runs straight into the count.
_LONG_ROW = re.compile(r"([A-Za-z][\w.:/-]{29,}?\D)(\d+)\s{2,}(\S.*)")
_NAME_WIDTH = 31
_DOUBLE = re.compile(r"\b(test double|double|recorded|recording)\b", re.IGNORECASE)
_COMPILED = re.compile(r"Models? compiled successfully in\s+(\d+(?:\.\d+)?)\s*ms")

_PLAIN = {"Input model": "input", "Input": "input", "Output model": "output", "Output": "output"}
_PLAIN["Operation log"] = "log"
_SIZES = {
    "Input size": "input_size",
    "Output size": "output_size",
    "On-chip memory available for caching model parameters": "on_chip_available",
    "On-chip memory used for caching model parameters": "on_chip_used",
    "On-chip memory remaining for caching model parameters": "on_chip_remaining",
    "Off-chip memory used for streaming uncached model parameters": "off_chip",
}
_COUNTS = {
    "Number of Edge TPU subgraphs": "subgraphs",
    "Total number of operations": "total_operations",
    "Number of operations that will run on Edge TPU": "mapped",
    "Number of operations that will run on CPU": "cpu",
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """A printed size. `bytes` is the nearest integer; `error_bytes` what rounding may hide."""

    bytes: int
    text: str
    error_bytes: int

    @property
    def rounded(self) -> bool:
        return self.error_bytes > 0

    def fits(self, exact_bytes: int) -> bool:
        """Whether `exact_bytes` prints as this."""
        return abs(exact_bytes - self.bytes) <= self.error_bytes + 1

    def to_json(self) -> dict[str, Any]:
        return {"bytes": self.bytes, "text": self.text, "rounded": self.rounded}


@dataclass(frozen=True, kw_only=True)
class ModelBlock:
    """What was said of one model (or segment). None: not said."""

    input: str | None = None
    output: str | None = None
    log: str | None = None
    compile_ms: float | None = None
    input_size: Size | None = None
    output_size: Size | None = None
    on_chip_available: Size | None = None
    on_chip_used: Size | None = None
    on_chip_remaining: Size | None = None
    off_chip: Size | None = None
    subgraphs: int | None = None
    total_operations: int | None = None
    mapped: int | None = None
    cpu: int | None = None
    operations: tuple[OpStatus, ...] = ()

    def to_json(self) -> dict[str, Any]:
        def plain(value: Any) -> Any:
            if isinstance(value, tuple):
                return [row.to_json() for row in value]
            return value.to_json() if isinstance(value, Size) else value

        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True, kw_only=True)
class CompilerOutput:
    """A whole run's text as values. `other` keeps the lines that mean nothing to us."""

    version: str | None = None
    blocks: tuple[ModelBlock, ...] = ()
    succeeded: bool = False
    failed: bool = False
    timer_s: int | None = None
    is_double: bool = False
    other: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "models": [block.to_json() for block in self.blocks],
            "succeeded": self.succeeded,
            "failed": self.failed,
            "timer_s": self.timer_s,
            "is_double": self.is_double,
            "other": list(self.other),
        }


def parse_output(text: str) -> CompilerOutput:
    """Stdout, or a .log file, as values. Never fails: what is not understood is in `other`."""
    reader = _Reader()
    for line in text.splitlines():
        reader.line(line.rstrip())
    version = _VERSION.search(text)
    timer = re.search(r"compilation timeout timer of (\d+) seconds", text)
    # A search for a smaller delegate prints a failure for each attempt: the last word counts.
    good = max(text.rfind("Compilation succeeded"), text.rfind("compiled successfully in"))
    bad = max(text.rfind("Compilation failed"), text.rfind("Internal compiler error"))
    return CompilerOutput(
        version=version.group(1) if version else None,
        blocks=reader.finished(),
        succeeded=good > bad,
        failed=bad > good,
        timer_s=int(timer.group(1)) if timer else None,
        is_double=says_double(text),
        other=tuple(reader.other),
    )


def says_double(text: str) -> bool:
    """Whether a version line, or a marker line of ours, calls itself a double or a recording.

    Only those lines count: a model or a folder may well be named "recording".
    """
    lines = (line for line in text.splitlines() if not line.startswith(("Input", "Output", "Oper")))
    return any(
        _DOUBLE.search(line)
        for line in lines
        if "Compiler version" in line or "edgeopt test double" in line or "not the compiler" in line
    )


def _size(text: str) -> Size | None:
    found = _SIZE.fullmatch(text.strip())
    if not found:
        return None
    number, unit = found.group(1), _UNITS[found.group(2)]
    decimals = len(number.partition(".")[2])
    error = 0 if unit == 1 else -(-unit // (2 * 10**decimals))
    return Size(bytes=round(float(number) * unit), text=text.strip(), error_bytes=error)


class _Reader:
    """Sorts lines into blocks. A label seen again means that the next model's block began."""

    def __init__(self) -> None:
        self.blocks: list[ModelBlock] = []
        self.other: list[str] = []
        self.current: dict[str, Any] = {}
        self.pending_ms: float | None = None
        self.in_table = False

    def line(self, line: str) -> None:
        if _HEADER.fullmatch(line):
            self.in_table = True
        elif self.in_table and (row := _row(line)):
            self.current.setdefault("operations", []).append(row)
        elif found := _COMPILED.search(line):
            self._close()
            self.pending_ms = float(found.group(1))
        elif not self._labelled(line) and line.strip():
            self.other.append(line)

    def _labelled(self, line: str) -> bool:
        label, colon, value = line.partition(": ")
        label, value = label.strip(), value.strip()
        if not colon or not value:
            return False
        if label in _PLAIN:
            self._put(_PLAIN[label], value)
        elif label in _SIZES and (size := _size(value)):
            self._put(_SIZES[label], size)
        elif label in _COUNTS and value.isdigit():
            self._put(_COUNTS[label], int(value))
        else:
            return False
        return True

    def _put(self, key: str, value: Any) -> None:
        self.in_table = False
        if key in self.current or (key == "input" and self.current):
            self._close()
        self.current[key] = value

    def _close(self) -> None:
        """End the current block; the compile time stands before it, once for all its models."""
        self.in_table = False
        if self.current:
            rows = tuple(self.current.pop("operations", ()))
            block = ModelBlock(operations=rows, **self.current)
            self.blocks.append(replace(block, compile_ms=self.pending_ms))
            self.current = {}

    def finished(self) -> tuple[ModelBlock, ...]:
        self._close()
        return tuple(self.blocks)


def _row(line: str) -> OpStatus | None:
    found = _ROW.fullmatch(line) or _LONG_ROW.fullmatch(line)
    if not found:
        return None
    op, count, status = found.groups()
    # A log message may look like a row; a real one has its count beyond the name's column.
    if found.start(2) < min(_NAME_WIDTH, len(op) + 2) and len(op) < _NAME_WIDTH - 1:
        return None
    return op_status(op, int(count), status.strip())
