"""Fleet: the same work on several devices at once, a thread each; one that fails stops no other.

This machine, when it is one of them, is measured by itself after all others: what is done here
for them would disturb it. Devices at one address wait for each other.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import TracebackType
from typing import Any

from edgeopt import stop
from edgeopt.device.selection import Chosen, Selection
from edgeopt.errors import EdgeoptError
from edgeopt.progress import Progress, Several
from edgeopt.report.fleet import DeviceRow, FleetReport

__all__ = ["Fleet", "Work"]

_END_S = 30.0  # for all threads to kill, remove and disconnect; a dead link may take 20 s of it
_LOOK_S = 0.1

Work = Callable[[Progress], Any]


class Fleet:
    """Use it in a `with`: leaving it on an error or Ctrl-C ends all work, and cleans up after it.

    `jobs` is how many devices work at a time (None: all). `told` gets the report whenever a row is
    added. `disturbed` False is for work that this machine may do beside the others'. An exception
    that ends the block carries the report so far as its `reached`.
    """

    def __init__(
        self,
        selection: Selection,
        show: Several,
        *,
        jobs: int | None = None,
        told: Callable[[FleetReport], None] | None = None,
        disturbed: bool = True,
    ) -> None:
        self.selection, self.show = selection, show
        self._told, self._disturbed = told, disturbed
        self._turns = _Turns(jobs or max(1, len(selection.devices)))
        self._alone: list[tuple[Chosen, Work]] = []
        self._threads: dict[str, threading.Thread] = {}
        self._rows: dict[str, DeviceRow] = {}
        self._arrived: queue.SimpleQueue[DeviceRow] = queue.SimpleQueue()
        self._stop = stop.Stop()
        self._notes = [*selection.notes, *self._said_of_local()]
        for note in self._notes:
            show.host.note(note)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            return
        if not isinstance(error, KeyboardInterrupt):
            self._told = None  # it may be what failed; the report goes with the error
        self._end()
        if getattr(error, "reached", None) is None or isinstance(error, KeyboardInterrupt):
            error.reached = self.report()  # type: ignore[attr-defined]

    def start(self, chosen: Chosen, work: Work) -> None:
        """Begin `work` for a device; this machine's begins in `finish`."""
        if chosen.spec.kind == "local" and self._disturbed:
            self._alone.append((chosen, work))
        else:
            self._begin(chosen, work)
        self._collect(0)

    def settle(self, chosen: Chosen, reached: Any, error: EdgeoptError | None = None) -> None:
        """A device that has nothing to do itself, or for which nothing can be done."""
        failure = error.to_json() if error else None
        self._arrived.put(self._row(chosen, reached, failure, None))
        self._collect(0)

    def finish(self) -> FleetReport:
        """Wait for all. Raises the error of the worst kind there was, with the report."""
        if self._threads:
            count = len(self._threads)
            self.show.host.stage(f"Waiting for {count} device{'s' * (count > 1)}")
        self._wait()
        for chosen, work in self._alone:
            self._begin(chosen, work)
            self._wait()
        report = self.report()
        if failure := report.failure():
            raise failure
        return report

    @property
    def settled(self) -> frozenset[str]:
        """The names of the devices that have their row."""
        return frozenset(self._rows)

    def report(self) -> FleetReport:
        """What is known now."""
        names = [chosen.spec.name for chosen in self.selection.devices]
        return FleetReport(
            rows=tuple(self._rows[name] for name in names if name in self._rows),
            pending=tuple(name for name in names if name not in self._rows),
            notes=tuple(self._notes),
        )

    def _said_of_local(self) -> list[str]:
        kinds = [chosen.spec.kind for chosen in self.selection.devices]
        if not self._disturbed or "local" not in kinds or len(kinds) < 2:
            return []
        return [
            "This machine (local) is measured by itself, after the others: work for them would "
            "disturb it."
        ]

    def _begin(self, chosen: Chosen, work: Work) -> None:
        name = chosen.spec.name
        thread = threading.Thread(
            target=self._body, args=(chosen, work), name=f"edgeopt {name}", daemon=True
        )
        self._threads[name] = thread
        self._turns.queue(chosen)
        thread.start()

    def _body(self, chosen: Chosen, work: Work) -> None:
        """One device's thread: whatever happens becomes its row."""
        try:
            row = self._done(chosen, work)
        except Exception as bug:  # noqa: BLE001 - a row that cannot be shown is waited for too
            spec, error = chosen.spec, _bug(chosen.spec.name, bug)
            row = DeviceRow(name=spec.name, url=spec.url, kind=spec.kind, error=error)
        self._arrived.put(row)

    def _done(self, chosen: Chosen, work: Work) -> DeviceRow:
        name, began = chosen.spec.name, None
        reached: Any = None
        error: dict[str, Any] | None = None
        with stop.heeding(self._stop):
            try:
                with self._turns.of(chosen):
                    began = time.monotonic()
                    reached = work(self.show.line(name))
                self._made(chosen, reached)
            except EdgeoptError as failure:
                reached, error = failure.reached, failure.to_json()
                if self._stop.asked:
                    error = _stopped(name)
            except KeyboardInterrupt as told:
                reached, error = getattr(told, "reached", None), _stopped(name)
            except Exception as bug:  # noqa: BLE001 - one device's bug ends no other's work
                reached, error = None, _bug(name, bug)
        spent = None if began is None else time.monotonic() - began
        return self._row(chosen, reached, error, spent)

    def _row(
        self, chosen: Chosen, reached: Any, error: dict[str, Any] | None, seconds: float | None
    ) -> DeviceRow:
        """The row, which the terminal has shown."""
        row = replace(self._made(chosen, reached), error=error, seconds=seconds)
        self.show.done(row.name, error is None, _text(row))
        return row

    def _made(self, chosen: Chosen, reached: Any) -> DeviceRow:
        """A row, of which is known that it can be shown."""
        spec = chosen.spec
        row = DeviceRow(
            name=spec.name, url=spec.url, kind=spec.kind, tags=spec.tags, reached=reached
        )
        _text(row)
        return row

    def _wait(self) -> None:
        while set(self._threads) - set(self._rows):
            self._collect(_LOOK_S)

    def _collect(self, wait_s: float) -> None:
        """Take in the rows that have arrived, waiting so long for the first."""
        with suppress(queue.Empty):
            while True:
                row = self._arrived.get(wait_s > 0, wait_s or None)
                self._rows[row.name] = row
                if self._told:
                    self._told(self.report())
                wait_s = 0

    def _end(self) -> None:
        """Stop every thread and wait for its clean-up; then every device has a row."""
        self._stop.ask()
        end = time.monotonic() + _END_S
        while time.monotonic() < end and any(t.is_alive() for t in self._threads.values()):
            self._collect(_LOOK_S)
        self._collect(0)
        for chosen in self.selection.devices:
            if chosen.spec.name not in self._rows:
                late = chosen.spec.name in self._threads
                self._arrived.put(self._row(chosen, None, _stopped(chosen.spec.name, late), None))
        self._collect(0)


class _Turns:
    """So many devices at a time, one at an address, in the order in which they were queued."""

    def __init__(self, jobs: int) -> None:
        self._free = jobs
        self._busy: set[str] = set()
        self._line: list[Chosen] = []
        self._changed = threading.Condition()

    def queue(self, chosen: Chosen) -> None:
        with self._changed:
            self._line.append(chosen)

    @contextmanager
    def of(self, chosen: Chosen) -> Iterator[None]:
        """Wait for a queued one's turn, and have it until the block ends."""
        with self._changed:
            try:
                while not self._free or self._next() is not chosen:
                    self._changed.wait(_LOOK_S)
                    stop.check()
                self._free -= 1
                self._busy.add(chosen.address)
            finally:
                self._line.remove(chosen)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._busy.remove(chosen.address)
                self._changed.notify_all()

    def _next(self) -> Chosen | None:
        return next((c for c in self._line if c.address not in self._busy), None)


def _text(row: DeviceRow) -> str:
    from edgeopt.report.fleet_view import row_text

    return row_text(row)


def _stopped(name: str, late: bool = False) -> dict[str, Any]:
    hint = "It did not answer any more: its next run sweeps what is left there." if late else ""
    return _error("interrupted", f"The work on {name} was stopped.", hint, 130)


def _bug(name: str, error: Exception) -> dict[str, Any]:
    handle, path = tempfile.mkstemp(prefix="edgeopt-bug-", suffix=".txt")
    with os.fdopen(handle, "w") as file:
        traceback.print_exception(error, file=file)
    said = f"A bug in edgeopt, met on {name}: {type(error).__name__}: {error}"
    return _error("bug", said, f"Please report it with {path}.", 1)


def _error(kind: str, message: str, hint: str, code: int) -> dict[str, Any]:
    return {"kind": kind, "message": message, "hint": hint, "exit_code": code, "details": {}}
