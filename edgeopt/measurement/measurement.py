"""Measurement: the processes of one variant on one device, and what follows from them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from edgeopt.errors import ResultError
from edgeopt.measurement import pool
from edgeopt.measurement.interval import variance
from edgeopt.measurement.judged import JudgedProcess, judge_process
from edgeopt.measurement.notes import disturbance, invalid_reasons, notes_of
from edgeopt.measurement.process import ProcessRun
from edgeopt.measurement.stats import Stats

__all__ = ["Measurement", "measure"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one device did. Build it with `measure`; all the figures follow from `processes`.

    `asked` is how many processes were to be valid (there may have been no time for so many),
    `precision` the asked full width of the median's 95% interval as a fraction of the median (None:
    none was asked for). With `judged` false every reason is reported and the figures are used all
    the same.
    """

    processes: tuple[JudgedProcess, ...]
    asked: int
    precision: float | None = None
    judged: bool = True
    stats: Stats = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if not self.processes:
            raise ResultError("No process finished on the device, so there is no latency.")
        object.__setattr__(self, "stats", pool.pooled_stats(self.pooled, self.summary_ns))

    @cached_property
    def pooled(self) -> tuple[JudgedProcess, ...]:
        """The processes that the figures stand on: the valid ones, or all where none is."""
        valid = tuple(p for p in self.processes if p.valid)
        return valid if valid and self.judged else self.processes

    @property
    def left_out(self) -> tuple[JudgedProcess, ...]:
        return tuple(p for p in self.processes if p not in self.pooled)

    @cached_property
    def invalid_reasons(self) -> tuple[str, ...]:
        """Why the figures must not be believed. Empty when enough processes were undisturbed."""
        return invalid_reasons(self.processes, self.asked) if self.judged else ()

    @property
    def valid(self) -> bool:
        return not self.invalid_reasons

    @property
    def samples_ns(self) -> tuple[int, ...] | None:
        """The timed runs of the pooled processes, one after the other."""
        return tuple(t for p in self.pooled for t in p.samples_ns or ()) or None

    @property
    def warmup_ns(self) -> tuple[int, ...] | None:
        rows = [p.warmup_ns for p in self.pooled if p.warmup_ns is not None]
        return tuple(t for row in rows for t in row) if rows else None

    @property
    def summary_ns(self) -> Mapping[str, float] | None:
        """What stands in for `samples_ns` where a runtime prints no single runs."""
        return pool.pooled_summary([p.run.summary_ns for p in self.pooled if p.run.summary_ns])

    @property
    def first_ns(self) -> int | None:
        """The median of the processes' first inferences; `init_ns`, of their initialisations."""
        return _middle([p.run.first_ns for p in self.pooled])

    @property
    def init_ns(self) -> int | None:
        return _middle([p.run.init_ns for p in self.pooled])

    @property
    def peak_rss_bytes(self) -> int | None:
        """The most that any of the pooled processes took."""
        return max((p.run.peak_rss_bytes or 0 for p in self.pooled), default=0) or None

    @property
    def base_rss_bytes(self) -> int | None:
        """Of that peak, what the runtime takes without a model (in the process that peaked)."""
        peaks = [p.run for p in self.pooled if p.run.peak_rss_bytes == self.peak_rss_bytes]
        return peaks[0].base_rss_bytes if peaks and self.peak_rss_bytes else None

    @property
    def call_overhead_ns(self) -> int | None:
        """The median time of an empty model in the same processes: what a call costs by itself."""
        found = [p.run.conditions.get("call_overhead_ns") for p in self.pooled]
        return _middle([value if isinstance(value, int) else None for value in found])

    @property
    def conditions(self) -> Mapping[str, Any]:
        """Of the first pooled process, with what was read `after` the last one."""
        first, last = self.pooled[0].run.conditions, self.pooled[-1].run.conditions
        return dict(first) | ({"after": last["after"]} if "after" in last else {})

    @property
    def runs(self) -> int | None:
        """How many timed runs the numbers stand on; None when the runtime did not say."""
        counts = [len(p.samples_ns) if p.samples_ns else p.run.runs for p in self.pooled]
        return None if None in counts else sum(c for c in counts if c is not None)

    @property
    def reached(self) -> float | None:
        """The full width of the median's interval as a fraction of the median; of the mean's where
        the runtime prints no single runs."""
        ends, middle = self.stats.ci95_ns, self.stats.median_ns
        if self.samples_ns is None:
            ends, middle = self.stats.mean_ci95_ns, self.stats.mean_ns
        return None if ends is None or not middle else (ends[1] - ends[0]) / middle

    @cached_property
    def details(self) -> dict[str, Any]:
        """`variance`, `outliers`, `modes`, `steady` and `precision` of the JSON document."""
        rows = [p.samples_ns for p in self.pooled if p.samples_ns]
        settled = [p.steady.settled for p in self.pooled]
        numbered = {n: p for n, p in enumerate(self.processes) if p in self.pooled}
        drifts = [p.steady.drift for p in self.pooled if p.steady.drift is not None]
        met = None
        if self.precision is not None:
            met = self.reached is not None and self.reached <= self.precision
        return {
            "variance": pool.variance_json(variance(rows) if rows else None, len(rows)),
            "outliers": pool.outliers_json(numbered),
            "modes": pool.modes_json(numbered),
            "steady": {
                "settled": settled.count(True),
                "unsettled": settled.count(False),
                "unknown": settled.count(None),
                "moved_runs": sum(p.moved_runs for p in self.pooled),
                "drift": max(drifts, key=abs) if drifts else None,
            },
            "precision": {"asked": self.precision, "reached": self.reached, "met": met},
        }

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Warnings that leave the numbers valid."""
        return notes_of(self)

    @property
    def disturbance(self) -> str:
        """What is wrong with figures that are used all the same: then it is the first note."""
        return disturbance(self)

    def to_json(self) -> dict[str, Any]:
        warmup, samples, summary = self.warmup_ns, self.samples_ns, self.summary_ns
        return {
            "warmup_ns": None if warmup is None else list(warmup),
            "samples_ns": None if samples is None else list(samples),
            "summary_ns": None if summary is None else dict(summary),
            "stats": self.stats.to_json(),
            "runs": self.runs,
            "first_ns": self.first_ns,
            "init_ns": self.init_ns,
            "peak_rss_bytes": self.peak_rss_bytes,
            "base_rss_bytes": self.base_rss_bytes,
            "call_overhead_ns": self.call_overhead_ns,
            "conditions": dict(self.conditions),
            "valid": self.valid,
            "invalid_reasons": list(self.invalid_reasons),
            "judged": self.judged,
            "processes_asked": self.asked,
            "processes": [p.to_json(pooled=p in self.pooled) for p in self.processes],
            **self.details,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Measurement:
        """The measurement of a report; statistics are made anew from its raw numbers.

        Raises InputError for a document that is not one.
        """
        from edgeopt.measurement.document import read_measurement

        return read_measurement(document)


def measure(
    *,
    processes: Sequence[ProcessRun],
    asked: int | None = None,
    precision: float | None = None,
    judged: bool = True,
) -> Measurement:
    """The measurement of these processes, in the order in which they ran.

    `asked` is how many were to be valid (None: as many as are given). Fewer than half of those, or
    of as many as were made, make it invalid. `precision` and `judged` are as in Measurement. Raises
    ResultError for no process.
    """
    return Measurement(
        processes=tuple(map(judge_process, processes)),
        asked=len(processes) if asked is None else asked,
        precision=precision,
        judged=judged,
    )


def _middle(values: Sequence[int | None]) -> int | None:
    known = [v for v in values if v is not None]
    return math.floor(statistics.median(known)) if known else None
