"""A load as figures: requests a second, latency under load, fairness, cores and memory. Pure.

What is counted is what lies in the time during which every thread was busy; a request that is
partly in it counts in part, so that nothing is gained or lost at the ends.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from edgeopt.device.conditions import judge
from edgeopt.device.load.answer import Phase, RawLoad
from edgeopt.device.shared_cores import shared_cores
from edgeopt.load import Load
from edgeopt.measurement import percentile
from edgeopt.measurement.student import t_quantile

__all__ = ["load_figures"]

_SLICES = 20  # batch means: enough of them for an interval
# Requests of each thread in a slice, on average: each slice has to forget the one before. With 5
# the 95% interval holds the true rate 93 to 98 times in 100 where requests are independent, with
# one 80 (simulated, deviations of 10 and 30%).
_LEAST_IN_SLICE = 5
_DRIFT = 0.10  # the lone thread before and after may differ by so much
_P90_MIN, _P99_MIN = 10, 100


def load_figures(raw: RawLoad, load: Load, *, threads: int = 1) -> dict[str, Any]:
    """The `throughput` object of a report. Rates are of samples where a batch was asked for, else
    of inferences; times in nanoseconds, memory in bytes. `threads` are those of one
    interpreter."""
    size = load.batch or 1
    phase = next(p for p in raw.phases if p.name == "load")
    lone = [_closed(p, size) for p in raw.phases if p.name == "alone"]
    mine = _open(phase, load, size) if load.rate else _closed(phase, size)
    alone = statistics.fmean(x["per_second"]["value"] for x in lone) if lone else None
    value = mine["per_second"]["value"]
    reasons = [*judge(raw.conditions), *_reasons(phase, lone, load, threads)]
    return {
        "loop": "open" if load.rate else "closed",
        "concurrency": load.concurrency,
        "batch": load.batch,
        "unit": "samples" if load.batch else "inferences",
        "time_s": load.time_s,
        **mine,
        "fairness": _fairness(phase) if not load.rate else None,
        "cpu": {"busy_cores": phase.cpu_ns / phase.wall_ns, "cores": phase.cores},
        "memory": _memory(raw),
        "alone": {"per_second": alone, "phases": lone} if lone else None,
        "speedup": value / alone if alone and not load.rate else None,
        "valid": not reasons,
        "invalid_reasons": reasons,
        "notes": list(_notes(phase, mine, load)),
    }


def _closed(phase: Phase, size: int) -> dict[str, Any]:
    """The window ends where the first thread has had its last answer."""
    window = min(thread[-1][0] + thread[-1][1] for thread in phase.threads)
    requests = [request for thread in phase.threads for request in thread]
    counts = _slices(requests, window)
    enough = min(map(len, phase.threads)) >= _LEAST_IN_SLICE * _SLICES
    return {
        "requests": len(requests),
        "per_second": _rate([count * size for count in counts], window, told=enough),
        "latency_ns": _latency([took for start, took in requests]),
    }


def _open(phase: Phase, load: Load, size: int) -> dict[str, Any]:
    """Latency counts from when a request was due. Answered is what was so while requests came."""
    end = int(load.time_s * 1e9)
    requests = [request for thread in phase.threads for request in thread]
    done = sorted(start + took for start, took in requests)
    waiting = sum(at > end for at in done)
    value = size * (len(done) - waiting) / load.time_s
    return {
        "requests": len(requests),
        "per_second": {"value": value, "ci95": None},
        "latency_ns": _latency([took for _, took in requests]),
        "asked_per_second": load.rate * size,
        "offered_per_second": size * len(requests) / load.time_s,
        "unanswered_at_end": waiting,
        "kept_up": waiting <= max(2 * load.concurrency, 0.01 * len(requests)),
    }


def _slices(requests: Sequence[tuple[int, int]], window: int) -> list[float]:
    """Requests in each of equal parts of the window, each spread evenly over its own time."""
    width = window / _SLICES
    counts = [0.0] * _SLICES
    for start, took in requests:
        first = int(start / width)
        last = min(_SLICES - 1, int((start + took) / width))
        for at in range(first, last + 1):
            low, high = max(start, at * width), min(start + took, (at + 1) * width)
            counts[at] += max(0.0, high - low) / took
    return counts


def _rate(counts: Sequence[float], window: int, *, told: bool) -> dict[str, Any]:
    """A rate a second with a 95% interval from the parts of the window (batch means; Law and
    Kelton, Simulation Modeling and Analysis, section 9.5.3). None unless it can be `told`."""
    seconds = window / 1e9
    value = sum(counts) / seconds
    if not told:
        return {"value": value, "ci95": None}
    half = t_quantile(0.975, len(counts) - 1) * statistics.stdev(counts) / math.sqrt(len(counts))
    half *= len(counts) / seconds
    return {"value": value, "ci95": [max(0.0, value - half), value + half]}


def _latency(times: Sequence[int]) -> dict[str, Any]:
    """Percentiles, each with a 95% interval of order statistics, as if requests were independent
    (those that overlap are not quite); None where there are too few for one."""
    ordered = sorted(times)
    found: dict[str, Any] = {}
    for name, share, least in (("median", 0.5, 1), ("p90", 0.9, _P90_MIN), ("p99", 0.99, _P99_MIN)):
        enough = len(ordered) >= least
        found[name] = percentile(ordered, share) if enough else None
        found[f"{name}_ci95"] = _interval(ordered, share) if enough else None
    found["mean"] = statistics.fmean(ordered) if ordered else None
    found["max"] = ordered[-1] if ordered else None
    return found


def _interval(ordered: Sequence[int], share: float) -> list[int] | None:
    """x(l) to x(u) around rank n * share, by the normal approximation of the binomial (Conover,
    Practical Nonparametric Statistics, 3rd ed., section 3.2). None beyond the samples."""
    size = len(ordered)
    half = 1.96 * math.sqrt(size * share * (1 - share))
    low, high = math.floor(size * share - half), math.ceil(size * share + half) + 1
    return [ordered[low - 1], ordered[high - 1]] if low >= 1 and high <= size else None


def _fairness(phase: Phase) -> dict[str, Any]:
    """How evenly the threads were served: their requests, and Jain's index (1 is even, 1/n one
    thread alone; Jain, Chiu and Hawe, DEC-TR-301, 1984)."""
    counts = [len(thread) for thread in phase.threads]
    jain = sum(counts) ** 2 / (len(counts) * sum(c * c for c in counts))
    return {"requests": counts, "jain": jain, "least_of_most": min(counts) / max(counts)}


def _memory(raw: RawLoad) -> dict[str, Any]:
    used = raw.memory_bytes
    further = (used[-1] - used[1]) / (len(used) - 2) if used and len(used) > 2 else None
    return {
        "peak_rss_bytes": raw.peak_rss_bytes,
        "before_bytes": used[0] if used else None,
        "first_interpreter_bytes": used[1] - used[0] if used else None,
        "each_further_bytes": further,
    }


def _reasons(
    phase: Phase, lone: Sequence[dict[str, Any]], load: Load, threads: int
) -> Iterator[str]:
    """Why the figures are not of the device alone."""
    if len(lone) == 2:
        one, two = (part["per_second"]["value"] for part in lone)
        if abs(one - two) > _DRIFT * max(one, two):
            yield (
                f"one thread alone made {one:.4g} a second before and {two:.4g} after the load"
                f" (limit {100 * _DRIFT:.0f}%): the device changed meanwhile"
            )
    usage = dict(phase.usage)
    if load.concurrency * threads > (phase.cores or 1):
        usage.pop("waited_s", None)  # they wait for each other
    yield from shared_cores(usage)


def _notes(phase: Phase, mine: dict[str, Any], load: Load) -> Iterator[str]:
    if load.rate and not mine["kept_up"]:
        yield (
            f"The device did not keep up with {load.rate:g} requests a second:"
            f" {mine['unanswered_at_end']} were unanswered at the end, so latencies grow with the"
            " time that the load lasts."
        )
    if phase.cores is not None and load.concurrency > phase.cores:
        yield f"{load.concurrency} threads share {phase.cores} cores."
