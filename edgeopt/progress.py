"""How long work tells the person at the terminal where it is; the terminal itself is in cli."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "Several", "Silent", "SilentSeveral"]


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


class Several(Protocol):
    """Progress of several devices at once, called from a thread each. `host` tells about the work
    that they share; `line` is one device's own; `done` ends that line with what came of it."""

    @property
    def host(self) -> Progress: ...

    def line(self, name: str) -> Progress: ...

    def done(self, name: str, ok: bool, text: str) -> None: ...


class SilentSeveral:
    """Shows nothing: for library use and tests."""

    host: Progress = Silent()

    def line(self, name: str) -> Progress:
        return self.host

    def done(self, name: str, ok: bool, text: str) -> None: ...
