"""What reaches the terminal: one JSON document or a table on stdout, all else on stderr."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from edgeopt.errors import EdgeoptError
from edgeopt.progress import Progress, Several, Silent

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "ErrorReporter",
    "checks",
    "document",
    "emit",
    "progress",
    "several",
    "stderr",
    "stdout",
    "warn",
]


_FILE_WIDTH = 120  # of tables that go into a file or a pipe, where no terminal gives a width


def stdout() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _FILE_WIDTH
    return Console(highlight=False, width=width)


def stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def document(verb: str, content: Mapping[str, Any]) -> str:
    """The JSON document of a verb: sorted keys, its schema named, strict JSON."""
    full = {"schema": f"edgeopt.{verb}/1", **content}
    return json.dumps(full, sort_keys=True, indent=2, allow_nan=False, default=str) + "\n"


def emit(verb: str, content: Mapping[str, Any]) -> None:
    sys.stdout.write(document(verb, content))
    sys.stdout.flush()


def warn(text: str) -> None:
    """What went wrong beside the work."""
    stderr().print(f"[bold yellow]warning:[/] {_plain(text)}")


@dataclass(frozen=True, kw_only=True)
class ErrorReporter:
    """Says what went wrong and what to do: words on stderr, with --json a document on stdout.

    What was reached before the error is part of the document: it is never lost.
    """

    verb: str
    as_json: bool

    def ours(self, error: EdgeoptError) -> int:
        reached = error.reached.to_json() if hasattr(error.reached, "to_json") else error.reached
        return self._tell(error.to_json(), reached)

    def usage(self, error: click.ClickException) -> int:
        command = getattr(getattr(error, "ctx", None), "command_path", "edgeopt")
        return self._tell(_error("usage", error.format_message(), f"See {command} --help.", 2))

    def interrupted(self, code: int, reached: Any = None) -> int:
        found = reached.to_json() if hasattr(reached, "to_json") else reached
        return self._tell(_error("interrupted", "Stopped.", "", code), found)

    def full(self) -> int:
        """No space for the output itself, so nothing more goes there."""
        message = "The output could not be written: no space is left where it goes."
        error = _error("input", message, "Free some, or send it to another file system.", 2)
        return replace(self, as_json=False)._tell(error)

    def bug(self, error: BaseException, trace: str) -> int:
        with tempfile.NamedTemporaryFile(
            "w", prefix="edgeopt-bug-", suffix=".txt", delete=False
        ) as file:
            file.write(trace)
        message = f"A bug in edgeopt: {type(error).__name__}: {error}"
        return self._tell(_error("bug", message, f"Please report it with {file.name}.", 1))

    def _tell(self, error: Mapping[str, Any], reached: Mapping[str, Any] | None = None) -> int:
        if self.as_json:
            emit(self.verb, {**(reached or {}), "error": error})
        console = stderr()
        console.print(f"[bold red]error:[/] {_plain(error['message'])}")
        for line in error["details"].get("lines", []):
            console.print(f"  {_plain(line)}")
        if error["hint"]:
            console.print(f"[bold]hint:[/]  {_plain(error['hint'])}")
        return int(error["exit_code"])


def _error(kind: str, message: str, hint: str, code: int) -> dict[str, Any]:
    return {"kind": kind, "message": message, "hint": hint, "exit_code": code, "details": {}}


def _plain(text: str) -> str:
    """Text from models, devices and tools: no control characters, no markup."""
    from rich.markup import escape

    return escape(_visible(text))


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """Progress on stderr: live bars on a terminal, one plain line a stage elsewhere."""
    if quiet:
        yield Silent()
    elif sys.stderr.isatty():
        from edgeopt.cli.bars import Bars

        with Bars(stderr()) as bars:
            yield bars
    else:
        yield _Lines()


@contextmanager
def several(names: Sequence[str]) -> Iterator[Several]:
    """Progress of several devices: a live line each on a terminal, else lines with their names."""
    if sys.stderr.isatty():
        from edgeopt.cli.bars import DeviceBars

        with DeviceBars(stderr(), names) as bars:
            yield bars
    else:
        yield _DeviceLines()


class _Lines:
    """For logs and CI: each stage once, when it begins."""

    def __init__(self, name: str = "") -> None:
        self._begin = f"edgeopt: {name}: " if name else "edgeopt: "

    def stage(self, text: str, total: int | None = None, unit: str = "") -> None:
        self._say(text)

    def advance(self, done: int, total: int | None = None) -> None: ...

    def note(self, text: str) -> None:
        self._say(f"note: {text}")

    def _say(self, text: str) -> None:
        """In one write: lines of several threads do not run into each other."""
        sys.stderr.write(f"{self._begin}{_visible(text)}\n")
        sys.stderr.flush()


class _DeviceLines:
    """For logs and CI: each line begins with the device's name."""

    def __init__(self) -> None:
        self.host: Progress = _Lines()

    def line(self, name: str) -> Progress:
        return _Lines(name)

    def done(self, name: str, ok: bool, text: str) -> None:
        _Lines(name).stage(f"{'ok' if ok else 'failed'}: {text}")


def checks(rows: Sequence[Mapping[str, Any]]) -> None:
    """The table of a doctor: what was looked at, what was found, what to do."""
    from rich.padding import Padding

    console = stdout()
    for row in rows:
        missing = "[red]x[/]" if row.get("required", True) else "[yellow]-[/]"
        fine = "[yellow]![/]" if row.get("warning") else "[green]✓[/]"
        mark = fine if row["ok"] else missing
        console.print(f"{mark} [bold]{_plain(row['name'])}[/]  {_plain(str(row['found']))}")
        failed = not row["ok"] and row.get("required", True)
        if row["hint"] and (failed or row.get("warning")):
            console.print(Padding(_plain(row["hint"]), (0, 0, 0, 4)))
