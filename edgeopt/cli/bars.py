"""Live progress on a terminal."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column

__all__ = ["Bars", "DeviceBars"]

_NAME_WIDTH = 20
_BAR = 24


class Bars:
    """One line a stage: a spinner while it runs, a tick and its seconds when the next begins."""

    def __init__(self, console: Console, bars: Progress | None = None) -> None:
        self._bars = bars or _progress(console, _BAR)
        self._task: TaskID | None = None
        self._text = ""
        self._unit = ""
        self._began = 0.0

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish("[red]x[/]" if kind else "[green]✓[/]")
        self._bars.stop()

    def stage(self, text: str, total: int | None = None, unit: str = "") -> None:
        self.finish("[green]✓[/]")
        self._text, self._unit, self._began = text, unit, time.monotonic()
        self._task = self._bars.add_task(escape(text), total=total, count="")

    def advance(self, done: int, total: int | None = None) -> None:
        if self._task is None:
            return
        count = _count(done, total, self._unit, self._began)
        self._bars.update(self._task, completed=done, total=total, count=count)

    def note(self, text: str) -> None:
        self._bars.console.print(f"[yellow]note:[/] {escape(text)}")

    def finish(self, mark: str) -> None:
        """End the stage that runs, when one does."""
        if self._task is None:
            return
        self._bars.remove_task(self._task)
        self._task = None
        seconds = time.monotonic() - self._began
        self._bars.console.print(f"{mark} {escape(self._text)} [dim]{seconds:.1f} s[/]")


class DeviceBars:
    """A live line for each device, and above them what has ended: stages of the host, devices.

    Its methods may be called from the devices' threads.
    """

    def __init__(self, console: Console, names: Sequence[str]) -> None:
        self._bars = _progress(console, _BAR // 2)
        self.host = Bars(console, self._bars)
        self._width = min(_NAME_WIDTH, max((len(name) for name in names), default=0))
        self._lines: dict[str, _DeviceLine] = {}
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> DeviceBars:
        self.host.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.host.__exit__(kind, error, trace)

    def line(self, name: str) -> _DeviceLine:
        with self._lock:
            return self._lines.setdefault(name, _DeviceLine(self, name))

    def done(self, name: str, ok: bool, text: str) -> None:
        with self._lock:
            line = self._lines.pop(name, None)
        spent = f" [dim]{line.end():.1f} s[/]" if line else ""
        mark = "[green]✓[/]" if ok else "[red]x[/]"
        self._bars.console.print(f"{mark} [bold]{self.shown(name)}[/]  {escape(text)}{spent}")

    def shown(self, name: str) -> str:
        return escape(name.ljust(self._width))

    def note(self, name: str, text: str) -> None:
        """What several devices say is said once; their rows have it."""
        with self._lock:
            if text in self._said:
                return
            self._said.add(text)
        self._bars.console.print(f"[yellow]note:[/] {escape(name)}: {escape(text)}")

    def begin(self, name: str) -> TaskID:
        return self._bars.add_task(f"[bold]{self.shown(name)}[/]", total=None, count="")

    def update(self, task: TaskID, **changes: object) -> None:
        self._bars.update(task, **changes)  # type: ignore[arg-type]

    def restart(self, task: TaskID, description: str, total: int | None) -> None:
        """Another stage, with a clock of its own."""
        self._bars.reset(task, description=description, count="")
        for each in self._bars.tasks:
            if each.id == task:
                each.total = total  # rich itself never makes a length unknown again

    def remove(self, task: TaskID) -> None:
        self._bars.remove_task(task)


class _DeviceLine:
    """One device's progress: its name, the stage it is at, and how far."""

    def __init__(self, bars: DeviceBars, name: str) -> None:
        self._bars, self._name, self._unit = bars, name, ""
        self._task = bars.begin(name)
        self._began = self._stage_began = time.monotonic()

    def stage(self, text: str, total: int | None = None, unit: str = "") -> None:
        self._unit, self._stage_began = unit, time.monotonic()
        said = re.sub(rf" (to|on) (\S+://\S+|{re.escape(self._name)})$", "", text)  # the line's own
        description = f"[bold]{self._bars.shown(self._name)}[/]  {escape(said)}"
        self._bars.restart(self._task, description, total)

    def advance(self, done: int, total: int | None = None) -> None:
        count = _count(done, total, self._unit, self._stage_began)
        self._bars.update(self._task, completed=done, total=total, count=count)

    def note(self, text: str) -> None:
        self._bars.note(self._name, text)

    def end(self) -> float:
        """Take the line away; its seconds."""
        self._bars.remove(self._task)
        return time.monotonic() - self._began


def _progress(console: Console, bar: int) -> Progress:
    columns: tuple[ProgressColumn, ...] = (
        SpinnerColumn(),
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        BarColumn(bar),
        TextColumn("{task.fields[count]}", table_column=Column(no_wrap=True)),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=True)


def _count(done: int, total: int | None, unit: str, began: float) -> str:
    if unit == "B" and total:
        return f"{done / 1e6:.1f}/{total / 1e6:.1f} MB"
    count = f"{done}/{total} {unit}" if total else f"{done} {unit}"
    spent = time.monotonic() - began
    if unit == "samples" and done and spent > 1:
        count += f", {done / spent:.3g}/s"
    return count.strip()
