"""Calibration: true minimum and maximum of every activation, over several processes.

Each sample is run by itself and minimum and maximum do not care for order, so the result is the
same for any number of processes and any chunks. Samples travel in chunks that grow with the model's
speed. The processes start together, one a processor; one that is late is neither waited for nor
missed.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.child import Child, ChildDied
from edgeopt.errors import InputError, ModelError
from edgeopt.optimize.statistics import FEWEST, held_out
from edgeopt.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeopt.dataset import Dataset

__all__ = ["Ranges", "calibrate", "merge", "processes_for"]

_WORKER = "edgeopt.optimize.calibration_worker"
_STUCK_S = 600.0  # one inference of the largest edge models takes seconds
_FEW = 10
_IN_FLIGHT = 2  # a process has its next chunk waiting while it works on one
# A chunk costs 0.1 ms to pass on: nothing beside 50 ms of work, and progress still moves smoothly.
_CHUNK_S = 0.05
_CHUNK_SAMPLES = 32
_CHUNK_BYTES = 1 << 20
_PREPARED_BYTES = 64 << 20
_KEPT_BYTES = 64 << 20
_ALONE = 32  # so few samples are one process's work
_PATIENCE_S = 0.1  # processes that start side by side are ready this close together

Range = tuple[list[float], list[float]]


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Tensor name to ([minimum], [maximum]) in real units, and how they were measured.

    `kept` are the samples held out, when statistics were asked for (all where they are few)."""

    ranges: Mapping[str, Range]
    samples: int
    seconds: float
    startup_seconds: float
    processes: int
    notes: tuple[str, ...] = ()
    kept: tuple[tuple[NDArray[Any], ...], ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "samples": self.samples,
            "seconds": self.seconds,
            "startup_seconds": self.startup_seconds,
            "samples_per_second": self.samples / self.seconds if self.seconds else None,
            "processes": self.processes,
            "method": "minimum and maximum",
        }


def processes_for(samples: int, wanted: int | None) -> int:
    """How many processes: what was asked for, else one a processor; never more than samples."""
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:
        usable = os.cpu_count() or 1
    return max(1, min(wanted or usable, samples))


def calibrate(
    float_path: Path,
    dataset: Dataset,
    *,
    limit: int,
    processes: int | None,
    progress: Progress,
    every_tensor: bool = False,
    statistics: Path | None = None,
) -> Ranges:
    """Run up to `limit` samples, evenly spread over the set (already matched to the model).

    `statistics` is a folder: each process leaves a file there that `statistics.load` reads.
    Raises InputError for data that cannot calibrate (identical samples, NaN), ModelError when the
    model crashes or gives NaN.
    """
    total = dataset.count(limit)
    count = processes_for(total, processes)
    if processes is None and total < _ALONE:
        count = 1
    patience = _PATIENCE_S if processes is None else _STUCK_S  # a number that was asked for holds
    feed = _Feed(dataset.spread(total), total, progress, crew=count, patience_s=patience)
    feed.keep = statistics is not None
    progress.stage("Calibrating", total, "samples")
    began = time.perf_counter()
    load: dict[str, Any] = {"do": "load", "model": str(float_path), "every_tensor": every_tensor}
    if statistics is not None:
        load["statistics"], load["samples"] = str(statistics), total
    crew = _Crew(load, feed)
    try:
        crew.hire(count)
        feed.prepare()
        crew.work()
        ended = time.perf_counter()
    finally:
        crew.dismiss()
    found = merge(feed.found)
    _check(found, feed)
    return Ranges(
        ranges=found,
        samples=total,
        seconds=ended - feed.began,
        startup_seconds=feed.began - began,
        processes=feed.ready,
        notes=_notes(total),
        kept=tuple(feed.kept),
    )


def merge(parts: list[Mapping[str, Range]]) -> dict[str, Range]:
    """The union of ranges: elementwise minimum of minima, maximum of maxima. NaN stays NaN."""
    merged: dict[str, Range] = {}
    for part in parts:
        for name, (low, high) in part.items():
            if name not in merged:
                merged[name] = (list(low), list(high))
                continue
            lows, highs = merged[name]
            merged[name] = (
                [a if a < b or math.isnan(a) else b for a, b in zip(lows, low, strict=True)],
                [a if a > b or math.isnan(a) else b for a, b in zip(highs, high, strict=True)],
            )
    return merged


@dataclass
class _Feed:
    """The samples, shared by the threads that feed the processes; the first error ends it."""

    stream: Iterator[tuple[NDArray[Any], ...]]
    total: int
    progress: Progress
    crew: int = 1
    patience_s: float = _PATIENCE_S
    found: list[Mapping[str, Range]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    error: BaseException | None = None
    began: float = 0.0  # when the work began
    ready: int = 0
    all_ready: threading.Event = field(default_factory=threading.Event)
    over: bool = False
    done: int = 0
    worked_s: float = 0.0  # inside the processes, together
    moved: float = field(default_factory=time.monotonic)
    # Drawn, but not yet given: prepared during the start, or not alike the chunk before it.
    ahead: deque[tuple[NDArray[Any], ...]] = field(default_factory=deque)
    first: bytes | None = None
    varied: bool = False
    given: int = 0  # samples handed out: their numbers
    keep: bool = False  # the samples held out
    kept: list[tuple[NDArray[Any], ...]] = field(default_factory=list)
    kept_bytes: int = 0

    def begin(self) -> bool:
        """A process is ready: wait a little for the others. False when it comes too late."""
        with self.lock:
            if self.over or self.error is not None:
                return False
            self.ready += 1
            self.moved = time.monotonic()
            if self.ready == self.crew:
                self.all_ready.set()
        self.all_ready.wait(self.patience_s)
        self.all_ready.set()
        with self.lock:
            self.began = self.began or time.perf_counter()
        return True

    def prepare(self) -> None:
        """Use the time in which the processes start: draw samples until they are ready."""
        size = 0
        while size < _PREPARED_BYTES:
            with self.lock:
                sample = None if self.began or self.error else next(self.stream, None)
                if sample is None:
                    return
                self.ahead.append(sample)
                size += sum(array.nbytes for array in sample)

    def next(self) -> tuple[int, list[NDArray[Any]]] | None:
        """The number of the next chunk's first sample, and the chunk: an array per input, its first
        axis counting samples."""
        import numpy as np

        with self.lock:
            if self.error is not None:
                return None
            try:
                samples = self._gather()
                self.over = not samples
                first, self.given = self.given, self.given + len(samples)
                chunk = [np.stack(arrays) for arrays in zip(*samples, strict=True)]
                return (first, chunk) if chunk else None
            except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                self.error = error
                return None

    def _gather(self) -> list[tuple[NDArray[Any], ...]]:
        samples: list[tuple[NDArray[Any], ...]] = []
        while not samples or len(samples) < self._room(samples[0]):
            sample = self.ahead.popleft() if self.ahead else next(self.stream, None)
            if sample is None:
                break
            if samples and not all(map(_alike, sample, samples[0])):
                self.ahead.appendleft(sample)
                break
            self._compare(sample)
            self._hold(sample, self.given + len(samples))
            samples.append(sample)
        return samples

    def _room(self, sample: tuple[NDArray[Any], ...]) -> int:
        """How many samples like this a chunk has: few of a slow model or of large ones."""
        if not self.done:
            return 1
        in_time = _CHUNK_S * self.done / max(self.worked_s, 1e-9)
        in_size = _CHUNK_BYTES / max(sum(array.nbytes for array in sample), 1)
        a_share = math.ceil(self.total / (4 * self.crew))  # else the last chunk is one's alone
        return int(min(_CHUNK_SAMPLES, a_share, in_time, in_size))

    def _compare(self, sample: tuple[NDArray[Any], ...]) -> None:
        if not self.varied:
            content = b"".join(array.tobytes() for array in sample)
            self.first = self.first if self.first is not None else content
            self.varied = content != self.first

    def _hold(self, sample: tuple[NDArray[Any], ...], number: int) -> None:
        held = held_out(number, self.total) or self.total < FEWEST
        if self.keep and held and self.kept_bytes < _KEPT_BYTES:
            self.kept.append(sample)
            self.kept_bytes += sum(array.nbytes for array in sample)

    def finish(self, answer: Mapping[str, Any]) -> None:
        with self.lock:
            self.done += answer["done"]
            self.worked_s += answer["seconds"]
            self.moved = time.monotonic()
            self.progress.advance(self.done, self.total)

    def fail(self, error: BaseException) -> None:
        with self.lock:
            self.error = self.error or error
        self.all_ready.set()


def _alike(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


@dataclass
class _Crew:
    """The processes, each with a thread that feeds it."""

    load: dict[str, Any]
    feed: _Feed
    children: list[Child] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    starting: set[Child] = field(default_factory=set)

    def hire(self, count: int) -> None:
        for _ in range(count):
            child = Child(_WORKER)
            self.children.append(child)
            self.starting.add(child)
            thread = threading.Thread(target=self._drive, args=(child,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _drive(self, child: Child) -> None:
        """One process's thread: keep a chunk ahead of it, count what it finishes."""
        waiting = 0
        try:
            child.send(self.load)
            child.answer()
            works = self.feed.begin()
            self.starting.discard(child)
            if not works:
                return
            while (given := self.feed.next()) is not None:
                first, chunk = given
                child.send({"do": "samples", "first": first}, chunk)
                waiting += 1
                if waiting >= _IN_FLIGHT:
                    self.feed.finish(child.answer())
                    waiting -= 1
            for _ in range(waiting):
                self.feed.finish(child.answer())
            child.send({"do": "ranges"})
            self.feed.found.append(child.answer()["ranges"])
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self.feed.fail(error)

    def work(self) -> None:
        """Wait for the end, but not for processes that are still starting when it comes."""
        while self._working():
            for thread in self.threads:
                thread.join(0.01)
            if self.feed.error is not None or time.monotonic() - self.feed.moved > _STUCK_S:
                break
        if isinstance(self.feed.error, ChildDied):
            raise ModelError(
                "The LiteRT runtime crashed while calibrating.",
                "Check that the float model runs: edgeopt benchmark on it.",
                details={"log": str(self.feed.error)},
            ) from self.feed.error
        if self.feed.error is not None:
            raise self.feed.error
        if self._working():
            raise ModelError(f"The model gave no answer for {_STUCK_S:g} s while calibrating.")

    def _working(self) -> bool:
        alive = sum(thread.is_alive() for thread in self.threads)
        return alive > (len(self.starting) if self.feed.over else 0)

    def dismiss(self) -> None:
        for child in self.children:
            child.__exit__(None, None, None)


def _check(found: Mapping[str, Range], feed: _Feed) -> None:
    if feed.total > 1 and not feed.varied:
        raise InputError(
            f"All {feed.total} calibration samples are identical: ranges cannot be measured.",
            "Give 100 to 500 different samples of real input.",
        )
    for name, (low, high) in found.items():
        if not all(math.isfinite(value) for value in (*low, *high)):
            raise ModelError(
                f"The tensor {name} becomes NaN or infinite with the calibration data.",
                "Check the data's scaling (--preprocess) and the model's weights.",
            )


def _notes(total: int) -> tuple[str, ...]:
    if total >= _FEW:
        return ()
    several = f"only {total} sample{'s' * (total > 1)}"
    return (f"Calibrated with {several}: ranges may be too narrow. Give 100 or more.",)
