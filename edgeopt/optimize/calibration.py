"""Calibration: true minimum and maximum of every activation, over several processes.

Minimum and maximum do not care for order, so the result is the same for any number of processes.
Each process watches one thread's inference (LiteRT's profiler), which scales with the processors.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError, ModelError
from edgeopt.optimize.child import Child, ChildDied
from edgeopt.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeopt.dataset import Dataset

__all__ = ["WORKER", "Ranges", "calibrate", "merge", "processes_for"]

WORKER = "edgeopt.optimize.quantizer_worker"
_STUCK_S = 600.0  # one inference of the largest edge models takes seconds
_FEW = 10
_IN_FLIGHT = 2  # a process has its next sample waiting while it works on one

Range = tuple[list[float], list[float]]


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Tensor name to ([minimum], [maximum]) in real units, and how they were measured."""

    ranges: Mapping[str, Range]
    samples: int
    seconds: float
    startup_seconds: float
    processes: int
    notes: tuple[str, ...] = ()

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
) -> Ranges:
    """Run up to `limit` samples, evenly spread over the set (already matched to the model).

    Raises InputError for data that cannot calibrate (identical samples, NaN), ModelError when the
    model crashes or gives NaN.
    """
    total = dataset.count(limit)
    count = processes_for(total, processes)
    feed = _Feed(dataset.spread(total), total, progress)
    progress.stage("Calibrating", total, "samples")
    began = time.perf_counter()
    children = [Child(WORKER) for _ in range(count)]
    try:
        for child in children:
            child.send({"do": "load", "model": str(float_path), "every_tensor": every_tensor})
        for child in children:
            _answer(child)  # loaded
        feed.moved, loaded = time.monotonic(), time.perf_counter()
        _run_threads(children, feed)
        seconds = time.perf_counter() - loaded
        for child in children:
            child.send({"do": "ranges"})
        found = merge([_answer(child)["ranges"] for child in children])
    finally:
        for child in children:
            child.__exit__(None, None, None)
    _check(found, feed)
    return Ranges(
        ranges=found,
        samples=total,
        seconds=seconds,
        startup_seconds=loaded - began,
        processes=count,
        notes=_notes(total),
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
    lock: threading.Lock = field(default_factory=threading.Lock)
    error: BaseException | None = None
    done: int = 0
    moved: float = field(default_factory=time.monotonic)
    first: bytes | None = None
    varied: bool = False

    def next(self) -> tuple[NDArray[Any], ...] | None:
        with self.lock:
            if self.error is not None:
                return None
            try:
                sample = next(self.stream, None)
            except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                self.error = error
                return None
            if sample is not None and not self.varied:
                content = b"".join(array.tobytes() for array in sample)
                self.first = self.first if self.first is not None else content
                self.varied = content != self.first
            return sample

    def finish(self) -> None:
        with self.lock:
            self.done += 1
            self.moved = time.monotonic()
            self.progress.advance(self.done, self.total)

    def fail(self, error: BaseException) -> None:
        with self.lock:
            self.error = self.error or error


def _drive(child: Child, feed: _Feed) -> None:
    """One process's thread: keep a sample ahead of it, count what it finishes."""
    waiting = 0
    try:
        while (sample := feed.next()) is not None:
            child.send({"do": "sample"}, sample)
            waiting += 1
            if waiting >= _IN_FLIGHT:
                child.answer()
                waiting -= 1
                feed.finish()
        for _ in range(waiting):
            child.answer()
            feed.finish()
    except BaseException as error:  # noqa: BLE001 - raised again in the main thread
        feed.fail(error)


def _run_threads(children: list[Child], feed: _Feed) -> None:
    threads = [threading.Thread(target=_drive, args=(c, feed), daemon=True) for c in children]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(0.05)
        stuck = time.monotonic() - feed.moved > _STUCK_S
        if feed.error is not None or stuck:
            break
    if isinstance(feed.error, ChildDied):
        raise ModelError(
            "The LiteRT runtime crashed while calibrating.",
            "Check that the float model runs: edgeopt benchmark on it.",
            details={"log": str(feed.error)},
        ) from feed.error
    if feed.error is not None:
        raise feed.error
    if any(thread.is_alive() for thread in threads):
        raise ModelError(f"The model gave no answer for {_STUCK_S:g} s while calibrating.")


def _answer(child: Child) -> dict[str, Any]:
    try:
        return child.answer()
    except ChildDied as error:
        raise ModelError(
            "The LiteRT runtime crashed while calibrating.", details={"log": str(error)}
        ) from error


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
