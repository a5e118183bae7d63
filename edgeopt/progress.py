"""How long work tells the person at the terminal where it is; the terminal itself is in cli."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """`stage` names the step that begins; `advance` moves its bar (total None: not known)."""

    def stage(self, text: str, total: int | None = None, unit: str = "") -> None: ...

    def advance(self, done: int, total: int | None = None) -> None: ...

    def note(self, text: str) -> None: ...


class Silent:
    """Shows nothing: for library use and tests."""

    def stage(self, text: str, total: int | None = None, unit: str = "") -> None: ...

    def advance(self, done: int, total: int | None = None) -> None: ...

    def note(self, text: str) -> None: ...
