"""What a reader must know before using a number, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeopt.measurement.judged import JudgedProcess
    from edgeopt.measurement.measurement import Measurement

__all__ = ["invalid_reasons", "notes_of"]

# pyperf's rule for "the benchmark result may be unstable" (pyperf check, stdev above 10% of mean).
_UNSTABLE = 0.10
_PROCESSES_DIFFER = 0.02  # relative deviation between processes that a reader should know of
_MANY_OUTLIERS = 0.05
_SHOWN = 3
_SHORT_NS = 100_000  # below, a call of half a microsecond is a share that one can see


def invalid_reasons(processes: Sequence[JudgedProcess], asked: int) -> tuple[str, ...]:
    """Why fewer than half of the processes asked for are valid; none when enough are."""
    needed = max(1, math.ceil(asked / 2))
    valid = sum(p.valid for p in processes)
    if valid >= needed:
        return ()
    if len(processes) == 1:
        return processes[0].reasons or (f"1 process of {asked} finished",)
    first = f"{valid} of {len(processes)} processes were undisturbed, {needed} are needed"
    return (first, *_by_process(processes))


def _by_process(processes: Sequence[JudgedProcess]) -> list[str]:
    """One line a process that is not valid; beyond three their number."""
    rows = [
        f"process {number}: {', '.join(p.reasons)}" for number, p in enumerate(processes, 1)
        if p.reasons
    ]  # fmt: skip
    more = len(rows) - _SHOWN
    return rows[:_SHOWN] + ([f"and {more} more processes"] if more > 0 else [])


def notes_of(measured: Measurement) -> tuple[str, ...]:
    """Warnings that leave the numbers valid."""
    return (
        *_basis_notes(measured),
        *_call_notes(measured),
        *_process_notes(measured),
        *_sample_notes(measured),
        *_precision_notes(measured),
    )


def _basis_notes(measured: Measurement) -> list[str]:
    stats, notes = measured.stats, []
    if measured.samples_ns is None:
        lost = "percentiles and interval" if stats.median_ns else "median, percentiles and interval"
        notes.append(f"The runtime prints no single runs: {lost} unknown.")
    if stats.stdev_ns is not None and stats.mean_ns and stats.stdev_ns > _UNSTABLE * stats.mean_ns:
        share = 100 * stats.stdev_ns / stats.mean_ns
        notes.append(f"Unstable: the standard deviation is {share:.0f}% of the mean (above 10%).")
    return notes


def _call_notes(measured: Measurement) -> list[str]:
    """Of a short inference, what calling it takes: the runtime's call, from Python or from C."""
    median, call = measured.stats.median_ns, measured.call_overhead_ns
    if median is None or call is None or median >= _SHORT_NS:
        return []
    return [
        f"The call alone takes {call / 1e3:.1f} us of this ({100 * call / median:.1f}%):"
        " an empty model, timed in the same processes."
    ]


def _process_notes(measured: Measurement) -> list[str]:
    notes = []
    total, disturbed = len(measured.processes), [p for p in measured.processes if p.reasons]
    if disturbed and not measured.judged:
        told = "; ".join(_by_process(measured.processes))
        notes.append(f"Reported and not judged: {told}.")
    elif measured.left_out:
        told = "; ".join(_by_process(measured.processes))
        notes.append(f"{len(measured.left_out)} of {total} processes left out: {told}.")
    if measured.samples_ns and len(measured.pooled) == 1:
        notes.append("One process: how much processes differ is not in the interval.")
    between = (measured.details["variance"] or {}).get("between_sd")
    if between is not None and between > _PROCESSES_DIFFER:
        notes.append(f"Processes differ by {100 * between:.1f}% (standard deviation).")
    return notes


def _sample_notes(measured: Measurement) -> list[str]:
    notes, steady = [], measured.details["steady"]
    if steady["moved_runs"]:
        notes.append(f"{steady['moved_runs']} timed runs before the steady state count as warm-up.")
    if bimodal := measured.details["modes"]:
        fast, slow = (mode["median_ns"] for mode in bimodal[0]["modes"])
        share = 100 * bimodal[0]["modes"][1]["share"]
        of = f"In {len(bimodal)} of {len(measured.pooled)} processes the times"
        if len(measured.pooled) == 1:
            of = "The times"
        notes.append(
            f"{of} have two typical values, such as {share:.0f}% of the runs at"
            f" {slow / fast:.2f} times the others: one median says too little."
        )
    outliers = measured.details["outliers"]
    if outliers and outliers["share"] > _MANY_OUTLIERS:
        notes.append(
            f"{100 * outliers['share']:.0f}% of the runs are outliers ({outliers['rule']});"
            " they are in all figures."
        )
    return notes


def _precision_notes(measured: Measurement) -> list[str]:
    precision = measured.details["precision"]
    if precision["met"] is not False:
        return []
    asked = f"{100 * precision['asked']:g}%"
    if precision["reached"] is None:
        return [f"The asked precision of {asked} cannot be told: too few runs for an interval."]
    middle = "mean" if measured.samples_ns is None else "median"
    return [
        f"The 95% interval is {100 * precision['reached']:.3g}% of the {middle} wide,"
        f" not the {asked} asked for."
    ]
