"""Stop: how work in threads is told to end, as Ctrl-C tells the main thread.

Only the main thread gets KeyboardInterrupt. What waits in another thread asks `check` between
two looks at what it waits for, and raises Stopped there, once: what then cleans up is not stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Stop", "Stopped", "check", "heeding", "on_stop", "sleep"]

_LOOK_S = 0.1


class Stopped(KeyboardInterrupt):
    """This thread was told to end; cleaned up like Ctrl-C."""


class Stop:
    """Told once, heeded by every thread that is `heeding` it."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._calls: dict[int, Callable[[], None]] = {}
        self._last = 0

    @property
    def asked(self) -> bool:
        return self._event.is_set()

    def ask(self) -> None:
        """Have all threads end, and call what waits for that."""
        with self._lock:
            self._event.set()
            calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call()

    def _register(self, call: Callable[[], None]) -> Callable[[], None]:
        with self._lock:
            self._last += 1
            number = self._last
            self._calls[number] = call

        def forget() -> None:
            with self._lock:
                self._calls.pop(number, None)

        return forget


class _Here(threading.local):
    stop: Stop | None = None
    told = False


_here = _Here()


@contextmanager
def heeding(stop: Stop) -> Iterator[None]:
    """In this thread `check` looks at `stop` until the block ends."""
    _here.stop, _here.told = stop, False
    try:
        yield
    finally:
        _here.stop = None


def check() -> None:
    """Raises Stopped, once, in a thread that was told to end; elsewhere nothing happens."""
    stop = _here.stop
    if stop is not None and stop.asked and not _here.told:
        _here.told = True
        raise Stopped


def sleep(seconds: float) -> None:
    """As time.sleep; raises Stopped in a thread that is told to end meanwhile."""
    end = time.monotonic() + seconds
    check()
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(_LOOK_S, left))
        check()


@contextmanager
def on_stop(call: Callable[[], None]) -> Iterator[None]:
    """Have `call` run, from another thread, when this one is told to end within the block: for
    waiting that nothing else ends, such as on a pipe."""
    stop = _here.stop
    if stop is None or _here.told:
        yield
        return
    forget = stop._register(call)
    try:
        check()
        yield
    finally:
        forget()
