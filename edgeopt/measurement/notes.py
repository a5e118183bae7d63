"""What a reader must know before using a number, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeopt.measurement.disturbed import kinds_in_full, kinds_in_short

if TYPE_CHECKING:
    from edgeopt.measurement.judged import JudgedProcess
    from edgeopt.measurement.measurement import Measurement

__all__ = ["disturbance", "invalid_reasons", "notes_of"]

# pyperf's rule for "the benchmark result may be unstable" (pyperf check, stdev above 10% of mean).
_UNSTABLE = 0.10
_PROCESSES_DIFFER = 0.02  # relative deviation between processes that a reader should know of
_MANY_OUTLIERS = 0.05
_SHORT_NS = 100_000  # below, a call of half a microsecond is a share that one can see


def invalid_reasons(processes: Sequence[JudgedProcess], asked: int) -> tuple[str, ...]:
    """Why fewer than half of the processes are valid that were asked for, or that there was time
    for; none when enough are."""
    needed = max(1, math.ceil(min(asked, len(processes)) / 2))
    valid = sum(p.valid for p in processes)
    if valid >= needed:
        return ()
    if len(processes) == 1:
        return processes[0].reasons
    verb = "is" if needed == 1 else "are"
    first = f"{valid} of {len(processes)} processes were undisturbed, {needed} {verb} needed"
    return (first, *kinds_in_full(processes))


def disturbance(measured: Measurement) -> str:
    """What is wrong with figures that are used all the same (--conditions report), in one go:
    the reasons, and what these have led to. Empty where nothing is, or where it is judged."""
    disturbed = sum(not p.valid for p in measured.processes)
    if measured.judged or not disturbed:
        return ""
    total = len(measured.processes)
    if total == 1:
        reasons = [reason.rstrip(".") for reason in measured.processes[0].reasons]
        text = f"Not judged, though disturbed: {'; '.join(reasons)}"
    else:
        were = "was" if disturbed == 1 else "were"
        text = f"Not judged, though {disturbed} of {total} processes {were} disturbed: "
        text += kinds_in_short(measured.processes)
    return "; ".join([text, ", ".join(_rough(measured))]).rstrip("; ") + "."


def notes_of(measured: Measurement) -> tuple[str, ...]:
    """Warnings that leave the numbers valid. Of an invalid measurement `invalid_reasons` tell what
    made its times what they are."""
    told = disturbance(measured)
    alone = (
        []
        if told or not measured.valid
        else [f"{text[0].upper()}{text[1:]}." for text in _rough(measured)]
    )
    return (
        *([told] if told else []),
        *_basis_notes(measured),
        *_process_notes(measured),
        *alone,
        *_sample_notes(measured),
        *_call_notes(measured),
    )


def _rough(measured: Measurement) -> list[str]:
    """How far the runs are from as equal as one would have them, a clause each."""
    stats, found = measured.stats, _precision(measured)
    if stats.stdev_ns is not None and stats.mean_ns and stats.stdev_ns > _UNSTABLE * stats.mean_ns:
        share = f"the standard deviation is {100 * stats.stdev_ns / stats.mean_ns:.0f}% of the mean"
        met = measured.details["precision"]["met"]
        found.append(
            f"{share}: single runs are far slower than most"
            if met
            else f"{share} (unstable above 10%)"
        )
    between = (measured.details["variance"] or {}).get("between_sd")
    if between is not None and between > _PROCESSES_DIFFER:
        found.append(f"processes differ by {100 * between:.1f}% (standard deviation)")
    outliers = measured.details["outliers"]
    if outliers and outliers["share"] > _MANY_OUTLIERS:
        found.append(f"{100 * outliers['share']:.0f}% of the runs are outliers (none is dropped)")
    return found


def _precision(measured: Measurement) -> list[str]:
    precision = measured.details["precision"]
    if precision["met"] is not False:
        return []
    asked = f"{100 * precision['asked']:g}%"
    if precision["reached"] is None:
        return [f"too few runs for an interval: whether the asked {asked} is reached is unknown"]
    middle = "mean" if measured.samples_ns is None else "median"
    return [
        f"the 95% interval is {100 * precision['reached']:.3g}% of the {middle} wide,"
        f" not the {asked} asked for"
    ]


def _basis_notes(measured: Measurement) -> list[str]:
    stats, notes = measured.stats, []
    if measured.samples_ns is None:
        lost = "percentiles and interval" if stats.median_ns else "median, percentiles and interval"
        notes.append(f"The runtime prints no single runs: {lost} unknown.")
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
    notes, made = [], len(measured.processes)
    if measured.left_out and measured.valid:
        told = "; ".join(kinds_in_full(measured.processes))
        notes.append(f"{len(measured.left_out)} of {made} processes left out: {told}.")
    if measured.samples_ns and len(measured.pooled) == 1:
        of = f" of the {measured.asked} asked for" if measured.asked > 1 else ""
        notes.append(f"One process{of}: how much processes differ is not in the interval.")
    elif made < measured.asked:
        notes.append(
            f"{made} of the {measured.asked} processes asked for were made: there was no time for"
            " more (--max-time), or the run was ended."
        )
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
    return notes
