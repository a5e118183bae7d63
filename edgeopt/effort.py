"""Effort: how much measuring is enough, as asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from edgeopt.errors import InputError

__all__ = ["MLPERF_RUNS", "MLPERF_TIME_S", "Effort"]

# MLPerf Inference rules, single-stream scenario: at least 1024 queries and 60 seconds.
MLPERF_RUNS, MLPERF_TIME_S = 1024, 60.0
_MOST_RUNS = 10_000_000  # their times are 80 MB on the device, and ten times that here


@dataclass(frozen=True, kw_only=True)
class Effort:
    """The effort for one variant (a model on a device); times in seconds.

    `runs` None: as many as `precision` needs, else exactly so many over all processes. `warmup`
    None: until the times have settled, else so many untimed runs in each process. `precision` is
    the full width of the 95% interval of the median as a fraction of the median; the search for it
    ends after `max_time_s`. `min_time_s` (of timed runs) and `min_runs` are met in any case.
    `processes` are started on the device one after the other, since start-up decides the memory
    layout. `seed` decides the order of the variants of a series.
    """

    runs: int | None = None
    warmup: int | None = None
    precision: float = 0.01
    max_time_s: float = 30.0
    min_time_s: float = 0.0
    min_runs: int = 1
    processes: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("runs", 1), ("warmup", 0), ("min_runs", 1), ("processes", 1)):
            value = getattr(self, name)
            if value is not None and not least <= value <= _MOST_RUNS:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} must be {least} to {_MOST_RUNS}, not {value}.")
        if not 0 < self.precision < 1:
            raise InputError(
                f"--precision is a fraction above 0 and below 1, not {self.precision:g}.",
                "One percent is 1% or 0.01.",
            )
        if not 0 < self.max_time_s < math.inf or not 0 <= self.min_time_s < math.inf:
            raise InputError("--max-time must be above 0 seconds, --min-time 0 or more.")
        if self.runs is not None and (self.min_runs > self.runs or self.min_time_s):
            raise InputError(
                f"--runs {self.runs} is an exact number: --min-runs, --min-time and --mlperf ask"
                " for more.",
                "Leave out --runs, or leave them out.",
            )

    @property
    def started(self) -> int:
        """How many processes are started when none is disturbed: none without a run to do."""
        return self.processes if self.runs is None else min(self.processes, self.runs)

    def to_json(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}
