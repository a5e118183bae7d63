"""What several processes say together: figures, outliers, modes, variance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgeopt.measurement.interval import Variance, of_one_process, of_processes
from edgeopt.measurement.judged import JudgedProcess
from edgeopt.measurement.modes import modes
from edgeopt.measurement.stats import Stats, of_samples, of_summary, percentile

__all__ = ["modes_json", "outliers_json", "pooled_stats", "pooled_summary", "variance_json"]

_OUTLIERS_LISTED = 50
_LEAST_SPREAD = 0.005  # of the median: below that a clock's resolution makes every step an outlier


def pooled_stats(processes: Sequence[JudgedProcess], summary: Mapping[str, float] | None) -> Stats:
    """The figures of the pooled runs, with intervals in which each process counts once."""
    rows = [p.samples_ns for p in processes if p.samples_ns]
    mean_interval = of_processes([p.mean_ns for p in processes])
    if not rows:
        return replace(of_summary(summary or {}), mean_ci95_ns=mean_interval)
    samples = [time_ns for row in rows for time_ns in row]
    if len(rows) == 1:
        interval = of_one_process(rows[0])
    else:
        interval = of_processes([statistics.median(row) for row in rows])
    stats = of_samples(samples, None)
    if interval is not None and stats.median_ns is not None:
        # Where processes differ, the middle of all runs is not the middle of the processes.
        interval = min(interval[0], stats.median_ns), max(interval[1], stats.median_ns)
    return replace(stats, ci95_ns=interval, mean_ci95_ns=mean_interval)


def pooled_summary(summaries: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
    """One summary of several, as if their runs were one list; what not all of them have is left.

    Where a count is unknown, means weigh alike and no deviation is claimed.
    """
    if len(summaries) < 2:
        return dict(summaries[0]) if summaries else None
    counts = [s["count"] for s in summaries if "count" in s]
    counted = len(counts) == len(summaries)
    weights = counts if counted else [1.0] * len(summaries)
    total = sum(weights)
    mean = sum(w * s["mean"] for w, s in zip(weights, summaries, strict=True)) / total
    found = {"mean": mean}
    if counted:
        found["count"] = total
        if all("stdev" in s for s in summaries):
            squares = sum(
                w * (s["stdev"] ** 2 + (s["mean"] - mean) ** 2)
                for w, s in zip(weights, summaries, strict=True)
            )
            found["stdev"] = math.sqrt(squares / total)
    for key, pick in (("min", min), ("max", max)):
        values = [s[key] for s in summaries if key in s]
        if len(values) == len(summaries):
            found[key] = pick(values)
    return found


def outliers_json(processes: Mapping[int, JudgedProcess]) -> dict[str, Any] | None:
    """Tukey's far out values of each process: counted and listed, never dropped.

    Exploratory Data Analysis (1977), section 2D: beyond 3 times the distance of the quartiles. None
    without single runs. The processes are given by their index in the document's `processes`.
    """
    found, runs = [], 0
    for number, process in processes.items():
        samples = process.samples_ns or ()
        runs += len(samples)
        if len(samples) < 4:
            continue
        ordered = sorted(samples)
        low, middle, high = (percentile(ordered, f) for f in (0.25, 0.5, 0.75))
        reach = 3 * max(high - low, _LEAST_SPREAD * middle)
        found += [
            {"process": number, "run": run, "time_ns": time_ns}
            for run, time_ns in enumerate(samples)
            if not low - reach <= time_ns <= high + reach
        ]
    if not runs:
        return None
    slowest = sorted(found, key=lambda row: -row["time_ns"])[:_OUTLIERS_LISTED]
    return {
        "rule": "beyond 3 quartile distances (at least 1.5% of the median) from the quartiles"
        " of its process",
        "count": len(found),
        "share": len(found) / runs,
        "slowest": slowest,
    }


def modes_json(processes: Mapping[int, JudgedProcess]) -> list[dict[str, Any]]:
    """The processes whose runs have more than one typical value."""
    found = []
    for number, process in processes.items():
        if several := modes(process.samples_ns or ()):
            found.append({"process": number, "modes": [mode.to_json() for mode in several]})
    return found


def variance_json(found: Variance | None, processes: int) -> dict[str, Any] | None:
    """As relative standard deviations too, which people can read."""
    if found is None:
        return None
    parts = {"within": found.within, "error": found.error, "between": found.between}
    roots = {f"{k}_sd": None if v is None else math.sqrt(v) for k, v in parts.items()}
    return {"of": "log time", "processes": processes, **parts, **roots}
