"""How large the next process is to be, and when there have been enough. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from edgeopt.effort import Effort
from edgeopt.measurement import ProcessRun, median_error

__all__ = ["Done", "Step", "next_step"]

_FIRST_S = 0.3  # of timed runs in the first process, which says how large the others must be
_LEAST_S, _LEAST_RUNS = 0.1, 3  # of each later one; 0.1 s is ten scheduler ticks
_MOST_RUNS = 200_000  # of one process: as many numbers go over the link, and into the report
_ALONE_S = 5.0  # one process alone cannot ask a second how large it must be
_MOST_PROCESSES = 200
_TELLING = 5  # processes that tell how much they differ
_MOST_IDLES = 4  # a process's runs take so many times its start-up: 80% of all time is then theirs
_JUDGED_RUNS = 40  # in a process, so that it can be seen whether it had settled
# A process's own error may be this part of the asked width: of five processes that differ by
# nothing else, Student's 95% interval is then 2 * 2.78 / sqrt(5) * 0.2 = half as wide as asked.
_OWN_ERROR = 0.2


@dataclass(frozen=True, kw_only=True)
class Step:
    """One process: exactly `runs` timed runs where `time_s` is 0, else see RunRequest."""

    runs: int
    time_s: float = 0.0
    max_runs: int = _MOST_RUNS


@dataclass(frozen=True, kw_only=True)
class Done:
    """A process that ended: `seconds` of wall time, `valid` when it counts."""

    process: ProcessRun
    seconds: float
    valid: bool

    @cached_property
    def error(self) -> float | None:
        """Variance of the log of its median, by its own runs; None where that cannot be told."""
        return median_error(self.process.samples_ns) if self.process.samples_ns else None

    @property
    def timed_s(self) -> float:
        """Seconds of its timed runs."""
        if self.process.samples_ns:
            return sum(self.process.samples_ns) / 1e9
        summary = self.process.summary_ns or {}
        return (self.process.runs or 0) * summary.get("mean", 0.0) / 1e9


def next_step(effort: Effort, done: Sequence[Done], *, met: bool, deadline_s: float) -> Step | None:
    """The process to start next; None when there have been enough.

    `met`: the interval of what is there is as narrow as asked. `deadline_s` is that of one process.
    Processes that do not count are repeated while max-time lasts.
    """
    valid = [d for d in done if d.valid]
    dearest = max((d.seconds for d in done), default=0.0)
    in_time = sum(d.seconds for d in done) + dearest <= effort.max_time_s
    disturbed = len(done) - len(valid)
    if disturbed > 2 * max(effort.processes, len(valid)) or len(done) >= _most(effort):
        return None
    if effort.runs is not None:
        more = len(valid) < effort.started and (len(done) < effort.started or in_time)
        return _fixed(effort, effort.runs, len(valid)) if more else None
    if not done:
        return _first(effort, deadline_s)
    # More processes than one make its interval honest, and wider: one that was asked for stays one.
    found = len(valid) >= effort.processes and (met or effort.processes == 1)
    if _lacking(effort, valid) or (in_time and not found):
        return _later(effort, done, deadline_s)
    return None


def _most(effort: Effort) -> int:
    return max(_MOST_PROCESSES, 3 * effort.processes)


def _fixed(effort: Effort, runs: int, number: int) -> Step:
    """Exactly `runs`, spread over the processes; the first ones get what is left over."""
    return Step(runs=runs // effort.started + (number < runs % effort.started))


def _lacking(effort: Effort, valid: Sequence[Done]) -> bool:
    """Do the runs or the time that were asked for in any case still lack?"""
    if effort.min_runs <= 1 and not effort.min_time_s:
        return False
    counts = [d.process.runs or 0 for d in valid]
    timed_s = sum(d.timed_s for d in valid)
    return sum(counts) < effort.min_runs or timed_s < effort.min_time_s


def _share(effort: Effort) -> tuple[int, float]:
    """What a process must bring of the asked minimum: runs and seconds."""
    return math.ceil(effort.min_runs / effort.processes), effort.min_time_s / effort.processes


def _first(effort: Effort, deadline_s: float) -> Step:
    runs, seconds = _share(effort)
    wanted = min(_FIRST_S, effort.max_time_s / 4 / effort.processes)
    if effort.processes == 1:
        wanted = min(_ALONE_S, effort.max_time_s / 2)
    return _step(max(runs, _LEAST_RUNS), max(seconds, wanted), deadline_s, seconds)


def _later(effort: Effort, done: Sequence[Done], deadline_s: float) -> Step:
    """So many runs that the process's own error is small beside the precision asked for, but no
    more than pays, and no longer than its part of the time that is left (half of it at most)."""
    runs, seconds = _share(effort)
    valid = [d for d in done if d.valid] or list(done)
    left = max(0.0, effort.max_time_s - sum(d.seconds for d in done))
    still = max(1, effort.processes - sum(d.valid for d in done))
    idle = statistics.fmean(d.seconds - d.timed_s for d in done)
    wanted = statistics.median(_needed_s(d, effort.precision) for d in valid)
    most = left / max(still, 2 if effort.processes > 1 else 1) - idle
    share = left / max(1, _most(effort) - len(done)) - idle  # else the time could not be used up
    wanted = max(_LEAST_S, min(wanted, max(share, _cheapest_s(valid, idle)), most))
    return _step(max(runs, _LEAST_RUNS), max(seconds, wanted), deadline_s, seconds)


def _cheapest_s(valid: Sequence[Done], idle_s: float) -> float:
    """Seconds of runs in each process that give the narrowest interval for the time spent:
    sqrt(idle * own / between), with the variance of a second of runs and that between processes
    (Kalibera and Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013, section 5.2).

    As long as a process is idle while few processes tell, or none their errors since neighbouring
    runs are too alike: at worst half of the time is then wasted, and a longer process is likelier
    to be disturbed, and then lost whole. Never more than `_MOST_IDLES` times that, for processes
    that do not differ: a fifth of the time buys many more of them. Infinite without single runs.
    """
    known = [d for d in valid if d.process.samples_ns]
    if not known:
        return math.inf
    medians = [statistics.median(d.process.samples_ns or ()) for d in known]
    judged_s = _JUDGED_RUNS * statistics.median(medians) / 1e9
    told = [(d.timed_s, d.error) for d in known if d.error is not None]
    if len(known) < _TELLING or 2 * len(told) < len(known):
        return max(judged_s, idle_s)
    errors = statistics.fmean(error for _, error in told)
    between = statistics.variance(map(math.log, medians)) - errors
    longest = max(judged_s, _MOST_IDLES * idle_s)
    if between <= 0:
        return longest
    own = statistics.median(seconds * error for seconds, error in told)
    return min(longest, max(judged_s, math.sqrt(max(idle_s, 0.0) * own / between)))


def _step(runs: int, time_s: float, deadline_s: float, least_s: float) -> Step:
    """Within the deadline, which is also start-up's and warm-up's, unless so much was asked for."""
    time_s = max(least_s, min(time_s, deadline_s / 4))
    return Step(runs=runs, time_s=round(time_s, 3), max_runs=max(runs, _MOST_RUNS))


def _needed_s(done: Done, precision: float) -> float:
    """Seconds of runs whose median has a standard error of a fifth of the precision, by what this
    process's runs scatter, their autocorrelation included: the error of a median falls with the
    root of their number. Where it cannot be told, four times as many as there were."""
    if not done.process.samples_ns:
        return 1.0
    if done.error is None:
        return 4 * done.timed_s
    return done.timed_s * done.error / (_OWN_ERROR * precision) ** 2
