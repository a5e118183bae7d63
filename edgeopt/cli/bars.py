"""Live progress on a terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

__all__ = ["Bars"]


class Bars:
    """One line a stage: a spinner while it runs, a tick and its seconds when the next begins."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(24),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
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
        self._finish("[red]x[/]" if kind else "[green]✓[/]")
        self._bars.stop()

    def stage(self, text: str, total: int | None = None, unit: str = "") -> None:
        self._finish("[green]✓[/]")
        self._text, self._unit, self._began = text, unit, time.monotonic()
        self._task = self._bars.add_task(escape(text), total=total, count="")

    def advance(self, done: int, total: int | None = None) -> None:
        if self._task is None:
            return
        count = f"{done}/{total} {self._unit}" if total else f"{done} {self._unit}"
        spent = time.monotonic() - self._began
        if self._unit == "samples" and done and spent > 1:
            count += f", {done / spent:.3g}/s"
        self._bars.update(self._task, completed=done, total=total, count=count.strip())

    def note(self, text: str) -> None:
        self._bars.console.print(f"[yellow]note:[/] {escape(text)}")

    def _finish(self, mark: str) -> None:
        if self._task is None:
            return
        self._bars.remove_task(self._task)
        self._task = None
        seconds = time.monotonic() - self._began
        self._bars.console.print(f"{mark} {escape(self._text)} [dim]{seconds:.1f} s[/]")
