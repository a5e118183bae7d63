"""Share out samples among forked processes: what one has loaded all have, and none waits long.

The ranges of samples lie in a pipe from which every process takes the next when it is free; they
get smaller towards the end. Observations come back by sample number, so that what is made of them
does not depend on how many processes there were or which was faster.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from edgeopt.errors import EdgeoptError

__all__ = ["PoolError", "ranges", "share_out"]

_TICKET = struct.Struct("<II")
_SMALLEST_PIPE = 16_384  # macOS
_LARGEST_RANGE = 64
_FLUSH_S = 0.2

Observe = Callable[[int, int], Iterator[Any]]


class PoolError(Exception):
    """A worker's error as it told it: {"kind", "message", "hint"}, or how its process ended."""

    def __init__(self, problem: dict[str, str]) -> None:
        super().__init__(problem["message"])
        self.problem = problem


def ranges(count: int, workers: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of the pieces of `count` samples: at most 64 long while there is much left,
    a quarter of an even share towards the end; all fit into a pipe that nobody reads yet."""
    least = -(-count * _TICKET.size // _SMALLEST_PIPE)
    most = max(_LARGEST_RANGE, least)
    start = 0
    while start < count:
        size = max(least, min(most, (count - start) // (workers * 4)))
        size = min(size, count - start)
        yield start, start + size
        start += size


@dataclass
class _Worker:
    pid: int
    answers: int
    rest: bytes = b""
    told_error: bool = False


@dataclass
class _Gathered:
    observations: dict[int, Any] = field(default_factory=dict)
    errors: dict[int, dict[str, str]] = field(default_factory=dict)


def share_out(
    count: int,
    workers: int,
    prepare: Callable[[], Observe],
    moved: Callable[[int], None],
) -> list[Any]:
    """`prepare()(start, stop)` over all ranges, in order, computed by `workers` forks of this
    process.

    `prepare` runs once in each. `moved` is told how many are done. Raises PoolError with the error
    of the lowest sample; all processes have ended then.
    """
    take, give = os.pipe()
    for ticket in ranges(count, workers):
        os.write(give, _TICKET.pack(*ticket))
    os.close(give)
    started: list[_Worker] = []
    try:
        for _ in range(workers):
            started.append(_fork(take, prepare))
        gathered = _gather(started, take, moved)
    finally:
        os.close(take)
        for worker in started:
            _end(worker)
    if gathered.errors:
        raise PoolError(gathered.errors[min(gathered.errors)])
    return [gathered.observations[index] for index in range(count)]


def _fork(take: int, prepare: Callable[[], Observe]) -> _Worker:
    read, write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():  # Python 3.12 warns of threads: ours are numpy's, and idle
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        os.close(write)
        return _Worker(pid=pid, answers=read)
    code = 1
    try:
        os.close(read)
        code = _work(take, write, prepare)
    except BaseException:  # noqa: BLE001 - a fork must never return into its parent's code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _work(take: int, write: int, prepare: Callable[[], Observe]) -> int:
    index = 0

    def say(message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(write, data) :]

    try:
        observe = prepare()
        while ticket := os.read(take, _TICKET.size):
            start, stop = _TICKET.unpack(ticket)
            kept: list[Any] = []
            told = time.monotonic()
            index = start
            for seen in observe(start, stop):
                kept.append(seen)
                index += 1
                if time.monotonic() - told > _FLUSH_S:
                    say({"at": index - len(kept), "seen": kept})
                    kept, told = [], time.monotonic()
            if kept:
                say({"at": stop - len(kept), "seen": kept})
    except EdgeoptError as error:
        say({"at": index, "error": {"kind": error.kind, "message": error.message,
                                    "hint": error.hint}})  # fmt: skip
        return 1
    except Exception as error:  # noqa: BLE001 - told with the sample; the trace is in the log
        traceback.print_exc()
        said = f"{type(error).__name__}: {error}"
        say({"at": index, "error": {"kind": "crash", "message": said, "hint": ""}})
        return 1
    say({"end": True})
    return 0


def _gather(started: list[_Worker], take: int, moved: Callable[[int], None]) -> _Gathered:
    found = _Gathered()
    with selectors.DefaultSelector() as waiting:
        for worker in started:
            waiting.register(worker.answers, selectors.EVENT_READ, worker)
        while waiting.get_map():
            for key, _ in waiting.select():
                worker = key.data
                data = os.read(worker.answers, 1 << 20)
                if not data:
                    waiting.unregister(worker.answers)
                    _ended(worker, found)
                for line in _lines(worker, data):
                    _heed(worker, json.loads(line), found)
                moved(len(found.observations))
            if found.errors:
                while os.read(take, _TICKET.size):  # nobody begins anything new
                    pass
    return found


def _lines(worker: _Worker, data: bytes) -> list[bytes]:
    *lines, worker.rest = (worker.rest + data).split(b"\n")
    return lines


def _heed(worker: _Worker, message: dict[str, Any], found: _Gathered) -> None:
    if "end" in message:
        worker.told_error = True  # nothing more to tell
    elif "error" in message:
        worker.told_error = True
        found.errors[int(message["at"])] = message["error"]
    else:
        start = int(message["at"])
        found.observations.update(enumerate(message["seen"], start))


def _ended(worker: _Worker, found: _Gathered) -> None:
    """A process that ended without a last word has crashed."""
    _, status = os.waitpid(worker.pid, 0)
    worker.pid = 0
    if worker.told_error:
        return
    code = os.waitstatus_to_exitcode(status)
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    at = next((i for i in range(1 << 62) if i not in found.observations), 0)
    found.errors.setdefault(at, {"kind": "crash", "message": how, "hint": ""})


def _end(worker: _Worker) -> None:
    if worker.pid:
        try:
            os.kill(worker.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(worker.pid, 0)
        worker.pid = 0
    os.close(worker.answers)
