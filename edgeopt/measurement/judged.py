"""JudgedProcess: a process with its steady state, and whether its times may be believed."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from edgeopt.measurement.process import ProcessRun
from edgeopt.measurement.steady import Steady, judge

__all__ = ["JudgedProcess", "judge_process"]


@dataclass(frozen=True, kw_only=True)
class JudgedProcess:
    """`warmup_ns` and `samples_ns` are split where the steady state begins, if that is later.

    `reasons` are those of its conditions and of its times.
    """

    run: ProcessRun
    steady: Steady
    warmup_ns: tuple[int, ...] | None
    samples_ns: tuple[int, ...] | None
    reasons: tuple[str, ...]

    @property
    def valid(self) -> bool:
        return not self.reasons

    @property
    def median_ns(self) -> float | None:
        """None where the runtime printed none."""
        if self.samples_ns:
            return statistics.median(self.samples_ns)
        return (self.run.summary_ns or {}).get("median")

    @property
    def mean_ns(self) -> float:
        if self.samples_ns:
            return statistics.fmean(self.samples_ns)
        assert self.run.summary_ns is not None
        return self.run.summary_ns["mean"]

    @property
    def moved_runs(self) -> int:
        """Timed runs that came before the steady state and count as warm-up."""
        return len(self.run.samples_ns or ()) - len(self.samples_ns or ())

    def to_json(self, *, pooled: bool) -> dict[str, Any]:
        """With its raw times where they are not `pooled` with those of the measurement."""
        run = self.run
        document: dict[str, Any] = {
            "runs": len(self.samples_ns) if self.samples_ns else run.runs,
            "warmup_runs": None if self.warmup_ns is None else len(self.warmup_ns),
            "moved_runs": self.moved_runs,
            "median_ns": self.median_ns,
            "mean_ns": self.mean_ns,
            "first_ns": run.first_ns,
            "init_ns": run.init_ns,
            "peak_rss_bytes": run.peak_rss_bytes,
            "base_rss_bytes": run.base_rss_bytes,
            "settled": self.steady.settled,
            "drift": self.steady.drift,
            "valid": self.valid,
            "pooled": pooled,
            "invalid_reasons": list(self.reasons),
            "conditions": dict(run.conditions),
            "notes": list(run.notes),
            "started_s": run.started_s,
            "summary_ns": None if run.summary_ns is None else dict(run.summary_ns),
        }
        if not pooled:
            document["warmup_ns"] = None if self.warmup_ns is None else list(self.warmup_ns)
            document["samples_ns"] = None if self.samples_ns is None else list(self.samples_ns)
        return document


def judge_process(run: ProcessRun) -> JudgedProcess:
    """Split a process's runs where its steady state begins, and say what is wrong with them."""
    if not run.samples_ns:
        steady = Steady(settled=None)
        return JudgedProcess(
            run=run, steady=steady, warmup_ns=run.warmup_ns, samples_ns=None,
            reasons=run.invalid_reasons,
        )  # fmt: skip
    trace = (*(run.warmup_ns or ()), *run.samples_ns)
    warm = len(run.warmup_ns or ())
    steady = judge(trace, warm)
    start = max(warm, steady.start)
    reasons = run.invalid_reasons + ((steady.reason,) if steady.reason else ())
    return JudgedProcess(
        run=run,
        steady=steady,
        warmup_ns=trace[:start] if start or run.warmup_ns is not None else None,
        samples_ns=trace[start:],
        reasons=tuple(dict.fromkeys(reasons)),
    )
