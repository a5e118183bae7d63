"""What every compiler takes and gives: CompileOptions in, CompileResult out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError
from edgeopt.findings import Placement

__all__ = ["CompileOptions", "CompileResult", "CompiledSegment", "OpStatus"]


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """How to compile. Times in seconds; None means "the compiler's own default".

    `compiler` is a path or a name on PATH, `container:IMAGE` or `ssh://[user@]host[:port][/path]`.
    `command` is the argv template of the `command` compiler. `runtime_version` is what the device's
    libedgetpu offers, and a compiled file that needs a newer one is refused. `extra` holds a
    compiler's own flags by name; an unknown one is refused by the compiler that reads it.
    """

    compiler: str | None = None
    timeout_s: float = 600.0
    min_runtime_version: int | None = None
    search_delegate: bool = False
    runtime_version: int | None = None
    command: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s < float("inf"):
            raise InputError(
                f"The compile timeout must be a number of seconds above 0, not {self.timeout_s:g}."
            )
        if self.min_runtime_version is not None and self.min_runtime_version < 1:
            raise InputError(
                f"min_runtime_version must be 1 or more, not {self.min_runtime_version}.",
                "Current Edge TPU runtimes are version 14.",
            )


@dataclass(frozen=True, kw_only=True)
class OpStatus:
    """A row of the compiler's table: `count` operations of one kind that share one fate.

    `status` is the compiler's own phrase; `cause` and `remedy` are ours, empty when mapped or when
    the phrase is not one we know.
    """

    op: str
    count: int
    status: str
    mapped: bool
    cause: str = ""
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "op": self.op,
            "count": self.count,
            "status": self.status,
            "mapped": self.mapped,
            "cause": self.cause or None,
            "remedy": self.remedy or None,
        }


@dataclass(frozen=True, kw_only=True)
class CompiledSegment:
    """One file of a pipeline: `index` from 0 of `of`. It runs on a chip of its own.

    `inputs` are (tensor name, index of the segment that makes it, None for the model's own input);
    `placement` is that of its part of the source.
    """

    index: int
    of: int
    path: Path
    placement: Placement
    inputs: tuple[tuple[str, int | None], ...]
    outputs: tuple[str, ...]
    operations: tuple[OpStatus, ...] = ()
    compile_ms: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "of": self.of,
            "path": str(self.path),
            "placement": self.placement.to_json(),
            "inputs": [{"name": name, "from_segment": maker} for name, maker in self.inputs],
            "outputs": list(self.outputs),
            "operations": [row.to_json() for row in self.operations],
            "compile_ms": self.compile_ms,
            "details": dict(self.details),
        }


@dataclass(frozen=True, kw_only=True)
class CompileResult:
    """A compiled file and the evidence for it. `compile_ms` is the compiler's own figure.

    `compiler_kind` says what kind of program did it, as far as can be seen from outside;
    `is_double` is True when it is known to be a stand-in, whose results must never pass for a
    genuine compilation. `details` holds the compiler's own extra figures (plain JSON values).
    `segments` are the files of a pipeline, in order; `path` is then the first of them.
    """

    path: Path
    log: Path | None = None
    stdout: str = ""
    compiler_version: str | None = None
    compiler_kind: str = "none"
    argv: tuple[str, ...] = ()
    placement: Placement | None = None
    operations: tuple[OpStatus, ...] = ()
    is_double: bool = False
    compile_ms: float | None = None
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    segments: tuple[CompiledSegment, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "log": str(self.log) if self.log else None,
            "compiler_version": self.compiler_version,
            "compiler_kind": self.compiler_kind,
            "argv": list(self.argv),
            "placement": self.placement.to_json() if self.placement else None,
            "operations": [row.to_json() for row in self.operations],
            "is_double": self.is_double,
            "compile_ms": self.compile_ms,
            "warnings": list(self.warnings),
            "segments": [segment.to_json() for segment in self.segments],
            "details": dict(self.details),
        }
