"""ProcessRun: what one process on the device answered, times in nanoseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeopt.errors import ResultError

__all__ = ["ProcessRun"]

_LONGEST_NS = 2**63  # 292 years: what a device's counter of nanoseconds can hold
_SUMMARY_KEYS = ("count", "mean", "min", "max", "stdev", "first", "last", "median", "p5", "p95")


@dataclass(frozen=True, kw_only=True)
class ProcessRun:
    """One invocation of the agent, or of another runner, as it came.

    `summary_ns` stands in for `samples_ns` where a runtime prints no single runs.
    `invalid_reasons` say what was found wrong with its conditions, `notes` are warnings.
    `started_s` is seconds since the first process of its series began. Raises ResultError when
    there is neither a sample nor a summary, or when a time is not one (zero, not finite).
    """

    warmup_ns: tuple[int, ...] | None = None
    samples_ns: tuple[int, ...] | None = None
    summary_ns: Mapping[str, float] | None = None
    first_ns: int | None = None
    init_ns: int | None = None
    peak_rss_bytes: int | None = None
    base_rss_bytes: int | None = None  # of that peak, what the runtime takes without a model
    conditions: Mapping[str, Any] = field(default_factory=dict)
    invalid_reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    started_s: float | None = None

    def __post_init__(self) -> None:
        if not self.samples_ns and not self.summary_ns:
            raise ResultError(
                "The run gave no timed inference, so there is no latency.",
                "Ask for at least one run (--runs).",
            )
        for name in ("warmup_ns", "samples_ns"):  # lists are taken too
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))
        object.__setattr__(self, "samples_ns", self.samples_ns or None)
        object.__setattr__(self, "invalid_reasons", tuple(self.invalid_reasons))
        object.__setattr__(self, "notes", tuple(self.notes))
        _check_times("sample", self.samples_ns or ())
        _check_times("warm-up run", self.warmup_ns or ())
        _check_times("init", [t for t in (self.init_ns,) if t is not None], least=0)
        _check_times("first run", [t for t in (self.first_ns,) if t is not None])
        if self.summary_ns is not None:
            summary = _checked_summary(self.summary_ns) if self.summary_ns else None
            object.__setattr__(self, "summary_ns", summary)

    @property
    def runs(self) -> int | None:
        """How many timed runs it made; None when the runtime did not say."""
        if self.samples_ns:
            return len(self.samples_ns)
        count = (self.summary_ns or {}).get("count")
        return None if count is None else int(count)


def _checked_summary(summary: Mapping[str, float]) -> dict[str, float]:
    if unknown := sorted(set(summary) - set(_SUMMARY_KEYS)):
        raise ResultError(f"A run summary holds unknown keys: {', '.join(unknown)}.")
    if "mean" not in summary:
        raise ResultError("A run summary has no mean, so it holds no latency.")
    times = [v for k, v in summary.items() if k not in ("count", "stdev")]
    _check_times("summary", times)
    _check_times("summary", [summary[k] for k in ("stdev",) if k in summary], least=0)
    if "count" in summary and not 1 <= summary["count"] < 2**63:
        raise ResultError(f"A run summary stands on {summary['count']} runs.")
    return dict(summary)


def _check_times(what: str, times: Sequence[float], least: float = 1e-9) -> None:
    for time_ns in times:
        if not (least <= time_ns < _LONGEST_NS):  # not a number is not either
            raise ResultError(
                f"A {what} time of {time_ns} ns is no duration.", "Check the device's clock."
            )
