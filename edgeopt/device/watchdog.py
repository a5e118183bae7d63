"""A deadline for library calls that have none: cuts the connection when it passes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

__all__ = ["Watchdog"]


class Watchdog:
    """Calls `cut` once, after `timeout_s` in all or `stall_s` since the last `poke`.

    What it cuts must make the guarded call fail. paramiko's `exec_command` and socket writes wait
    without limit for a server that has stopped but still acknowledges packets.
    """

    def __init__(
        self, cut: Callable[[], None], *, timeout_s: float, stall_s: float | None = None
    ) -> None:
        self._cut = cut
        self._deadline = time.monotonic() + timeout_s
        self._stall_s = stall_s
        self.poked = time.monotonic()
        self.late = False  # it cut because `timeout_s` had passed
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="edgeopt-watchdog")

    def poke(self) -> None:
        self.poked = time.monotonic()

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(max(0.0, self._next() - time.monotonic())):
            if time.monotonic() >= self._next():
                self.late = time.monotonic() >= self._deadline
                self._cut()
                return

    def _next(self) -> float:
        if self._stall_s is None:
            return self._deadline
        return min(self._deadline, self.poked + self._stall_s)
