"""Measurement: the processes of one variant on one device, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeopt.errors import InputError, ResultError
from edgeopt.measurement.process import ProcessRun
from edgeopt.measurement.stats import Stats, median_interval, of_samples, of_summary

__all__ = ["Measurement", "measure"]

# pyperf's rule for "the benchmark result may be unstable" (pyperf check, stdev above 10% of mean).
_UNSTABLE = 0.10


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one device did. Build it with `measure`; all but `processes` follows from the rest.

    `summary_ns` stands in for `samples_ns` where a runtime prints no single runs. `notes` are
    warnings that leave the numbers valid, `invalid_reasons` are not.
    """

    processes: tuple[ProcessRun, ...]
    warmup_ns: tuple[int, ...] | None
    samples_ns: tuple[int, ...] | None
    first_ns: int | None
    init_ns: int | None
    peak_rss_bytes: int | None
    summary_ns: Mapping[str, float] | None
    conditions: Mapping[str, Any]
    invalid_reasons: tuple[str, ...]
    stats: Stats = field(compare=False)
    notes: tuple[str, ...] = field(compare=False)

    @property
    def valid(self) -> bool:
        return not self.invalid_reasons

    @property
    def runs(self) -> int | None:
        """How many timed runs the numbers stand on; None when the runtime did not say."""
        if self.samples_ns:
            return len(self.samples_ns)
        count = (self.summary_ns or {}).get("count")
        return None if count is None else int(count)

    def to_json(self) -> dict[str, Any]:
        return {
            "warmup_ns": None if self.warmup_ns is None else list(self.warmup_ns),
            "samples_ns": None if self.samples_ns is None else list(self.samples_ns),
            "summary_ns": None if self.summary_ns is None else dict(self.summary_ns),
            "stats": self.stats.to_json(),
            "runs": self.runs,
            "first_ns": self.first_ns,
            "init_ns": self.init_ns,
            "peak_rss_bytes": self.peak_rss_bytes,
            "conditions": dict(self.conditions),
            "valid": self.valid,
            "invalid_reasons": list(self.invalid_reasons),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Measurement:
        """The measurement of a report; statistics are made anew from its raw numbers.

        Raises InputError for a document that is not one.
        """
        try:
            return measure(
                processes=[
                    ProcessRun(
                        warmup_ns=_whole(document.get("warmup_ns")),
                        samples_ns=_whole(document.get("samples_ns")),
                        first_ns=document.get("first_ns"),
                        init_ns=document.get("init_ns"),
                        peak_rss_bytes=document.get("peak_rss_bytes"),
                        summary_ns=document.get("summary_ns"),
                        conditions=dict(document.get("conditions") or {}),
                        invalid_reasons=tuple(map(str, document.get("invalid_reasons") or ())),
                    )
                ]
            )
        except (TypeError, ValueError, AttributeError, ResultError) as error:
            raise InputError(
                f"The report's measurement cannot be read: {error}",
                "Give a report that edgeopt deploy or edgeopt benchmark wrote.",
            ) from error


def measure(
    *,
    processes: Sequence[ProcessRun] = (),
    asked: int | None = None,
    precision: float | None = None,
    judged: bool = True,
    **single: Any,
) -> Measurement:
    """The measurement of these processes, in the order in which they ran.

    `asked` is how many were to be valid (None: all given), `precision` the asked full width of the
    median's 95% interval as a fraction of it. `judged` false keeps every reason but believes the
    figures all the same. The fields of one ProcessRun may be given instead of `processes`.
    Raises ResultError when there is no process.
    """
    runs = tuple(processes) or (ProcessRun(**single),)
    samples = [t for run in runs for t in run.samples_ns or ()]
    summary = runs[0].summary_ns
    stats = of_samples(samples, median_interval(sorted(samples))) if samples else None
    stats = stats or of_summary(summary or {})
    return Measurement(
        processes=runs,
        warmup_ns=runs[0].warmup_ns,
        samples_ns=tuple(samples) or None,
        first_ns=runs[0].first_ns,
        init_ns=runs[0].init_ns,
        peak_rss_bytes=runs[0].peak_rss_bytes,
        summary_ns=summary,
        conditions=dict(runs[0].conditions),
        invalid_reasons=tuple(reason for run in runs for reason in run.invalid_reasons),
        stats=stats,
        notes=_notes(stats, samples),
    )


def _notes(stats: Stats, samples: Sequence[int]) -> tuple[str, ...]:
    notes = []
    if not samples:
        lost = "percentiles and interval" if stats.median_ns else "median, percentiles and interval"
        notes.append(f"The runtime prints no single runs: {lost} unknown.")
    if stats.stdev_ns is not None and stats.mean_ns and stats.stdev_ns > _UNSTABLE * stats.mean_ns:
        share = 100 * stats.stdev_ns / stats.mean_ns
        notes.append(f"Unstable: the standard deviation is {share:.0f}% of the mean (above 10%).")
    return tuple(notes)


def _whole(values: Any) -> tuple[int, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list) or any(type(value) is not int for value in values):
        raise TypeError("its times are not lists of whole nanoseconds.")
    return tuple(values)
