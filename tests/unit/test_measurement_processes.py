"""A measurement of several processes: each judged, disturbed ones left out and said, none lost."""

from __future__ import annotations

import json
import math
import re
import statistics
from typing import Any

import pytest
from measuring import SUMMARY, noisy, process, several

from edgeopt.errors import InputError, ResultError
from edgeopt.measurement import Measurement, ProcessRun, measure
from edgeopt.measurement.student import t_quantile

THROTTLED = ("throttled",)


def stepping(seed: int = 0) -> ProcessRun:
    """Its clock falls by a fifth at run 80 of 100."""
    times = [*noisy(1e6, 80, seed, 0.002), *noisy(1.2e6, 20, seed + 1, 0.002)]
    return ProcessRun(samples_ns=tuple(times))


def test_the_interval_is_students_of_the_log_medians_of_the_processes() -> None:
    found = several(1e6, 3)
    logs = [math.log(p.median_ns or 0) for p in found.pooled]
    half = t_quantile(0.975, 4) * statistics.stdev(logs) / math.sqrt(5)
    ends = [math.exp(statistics.fmean(logs) + sign * half) for sign in (-1, 1)]
    assert found.stats.ci95_ns == pytest.approx(ends, rel=1e-9)


def test_the_interval_holds_the_median_of_all_runs_where_processes_weigh_unlike() -> None:
    runs = [process(1e6, 1, 2000), *(process(2e6, n, 20) for n in range(2, 6))]
    stats = measure(processes=runs).stats
    assert stats.ci95_ns is not None and stats.median_ns is not None
    assert stats.ci95_ns[0] <= stats.median_ns < 1.01e6


def test_students_quantiles_are_the_tabulated_ones() -> None:
    table = {(0.975, 1): 12.706, (0.975, 4): 2.776, (0.995, 8): 3.355, (0.95, 30): 1.697}
    assert {k: round(t_quantile(*k), 3) for k in table} == table
    assert t_quantile(0.975, 1e5) == pytest.approx(1.95999, abs=1e-4)


def test_variance_is_told_apart_within_and_between() -> None:
    variance = several(1e6, 1, processes=40, between=0.02).details["variance"]
    assert variance["within_sd"] == pytest.approx(0.005, rel=0.1)
    assert variance["between_sd"] == pytest.approx(0.02, rel=0.3)


def test_processes_that_differ_by_no_more_than_their_runs_do_not_differ() -> None:
    assert several(1e6, 2, between=0.0).details["variance"]["between_sd"] < 0.001


def test_a_disturbed_process_is_left_out_said_and_kept_in_the_document() -> None:
    runs = [process(1e6, n) for n in range(4)] + [process(2e6, 9, invalid_reasons=THROTTLED)]
    found = measure(processes=runs, asked=5)
    assert found.valid
    assert max(found.samples_ns or ()) < 1.1e6
    assert "1 of 5 processes left out: process 5: throttled." in found.notes
    row = found.to_json()["processes"][4]
    assert (row["pooled"], row["valid"]) == (False, False)
    assert row["samples_ns"] == list(runs[4].samples_ns or ())


def test_fewer_than_half_of_the_processes_asked_for_make_it_invalid_with_reasons() -> None:
    runs = [process(1e6, n) for n in range(2)]
    runs += [process(2e6, n, invalid_reasons=THROTTLED) for n in range(3)]
    found = measure(processes=runs, asked=5)
    assert not found.valid
    assert found.invalid_reasons[0] == "2 of 5 processes were undisturbed, 3 are needed"
    assert found.invalid_reasons[1:] == ("processes 3, 4 and 5: throttled",)
    assert len(found.samples_ns or ()) == 120


def test_when_none_is_valid_what_was_measured_is_in_the_figures() -> None:
    found = measure(processes=[process(2e6, n, invalid_reasons=THROTTLED) for n in range(5)])
    assert not found.valid
    assert len(found.samples_ns or ()) == 300
    assert found.stats.median_ns == pytest.approx(2e6, rel=0.01)


def test_unjudged_every_reason_is_told_and_the_figures_are_used() -> None:
    runs = [process(1e6, 0), process(2e6, 1, invalid_reasons=THROTTLED)]
    found = measure(processes=runs, judged=False)
    assert found.valid and len(found.samples_ns or ()) == 120
    assert found.notes[0] == found.disturbance
    assert found.disturbance.startswith("Not judged, though 1 of 2 processes was disturbed: ")
    assert "throttled (1 of 2)" in found.disturbance
    assert found.to_json()["processes"][1]["invalid_reasons"] == ["throttled"]


def test_reasons_that_differ_in_figures_only_are_told_once() -> None:
    shared = "it shared its cores: its threads waited {}% of their time for one"
    runs = [process(1e6, n, invalid_reasons=(shared.format(70 + n),)) for n in range(4)]
    runs.append(process(1e6, 4, invalid_reasons=("the clock fell from 9 to 3 kHz",)))
    judged, reported = (measure(processes=runs, judged=judged) for judged in (True, False))
    assert judged.invalid_reasons == (
        "0 of 5 processes were undisturbed, 3 are needed",
        f"process 1 (much the same in 2, 3 and 4): {shared.format(70)}",
        "process 5: the clock fell from 9 to 3 kHz",
    )
    assert not [note for note in judged.notes if "shared" in note]
    assert reported.disturbance == (
        "Not judged, though 5 of 5 processes were disturbed: shared its cores (4 of 5),"
        " the clock fell from 9 to 3 kHz (1 of 5)."
    )


def test_figures_that_differ_between_processes_say_whose_they_are() -> None:
    taken = "the host of this virtual machine took {}% of its time"
    runs = [process(1e6, n, invalid_reasons=(taken.format(3 + n),)) for n in range(2)]
    told = measure(processes=runs, judged=False).disturbance
    assert f"{taken.format(3)} (2 of 2, the figures of process 1)" in told


def test_what_disturbed_processes_led_to_is_one_note_with_the_reasons() -> None:
    runs = [process(f * 1e6, n, invalid_reasons=THROTTLED) for n, f in enumerate((1, 1.3, 1, 1.2))]
    found = measure(processes=runs, precision=0.01, judged=False)
    assert [note for note in found.notes if "wide" in note] == [found.disturbance]
    assert re.search(r"; the 95% interval is \d+(\.\d)?% of the median wide", found.disturbance)
    assert "processes differ by 13" in found.disturbance


def test_processes_that_there_was_no_time_for_are_missed() -> None:
    some, one = (measure(processes=[process(1e6, n) for n in range(k)], asked=5) for k in (3, 1))
    assert some.valid and one.valid
    assert some.notes[-1].startswith("3 of the 5 processes asked for were made")
    assert one.notes[-1].startswith("One process of the 5 asked for")
    assert some.to_json()["processes_asked"] == 5


def test_a_process_whose_clock_falls_never_settled() -> None:
    found = measure(processes=[stepping()])
    assert found.invalid_reasons == ("never settled: it went +20% at run 80 of 100",)


def test_runs_before_the_steady_state_are_warm_up_and_none_is_lost() -> None:
    slow, steady = noisy(3e6, 20, 1, 0.002), noisy(1e6, 180, 2, 0.002)
    found = measure(
        processes=[ProcessRun(warmup_ns=tuple(slow[:5]), samples_ns=(*slow[5:], *steady))]
    )
    assert (found.warmup_ns, found.samples_ns) == (tuple(slow), tuple(steady))
    assert "15 timed runs before the steady state count as warm-up." in found.notes
    assert found.details["steady"]["moved_runs"] == 15


def test_a_warm_up_longer_than_needed_stays_warm_up() -> None:
    times = noisy(1e6, 100, 1, 0.002)
    found = measure(
        processes=[ProcessRun(warmup_ns=tuple(times[:60]), samples_ns=tuple(times[60:]))]
    )
    assert found.runs == 40


@pytest.mark.parametrize("judged", [True, False])
def test_json_round_trips_with_disturbed_unsettled_and_moved_runs(judged: bool) -> None:
    slow, steady = noisy(3e6, 20, 1, 0.002), noisy(1e6, 180, 2, 0.002)
    runs = [
        process(1e6, 1, first_ns=5, init_ns=7, peak_rss_bytes=9, started_s=0.5, notes=("x",)),
        ProcessRun(warmup_ns=tuple(slow[:5]), samples_ns=(*slow[5:], *steady)),
        stepping(),
        process(2e6, 9, invalid_reasons=THROTTLED, warmup_ns=(3, 4)),
        process(1e6, 4, conditions={"before": {"governor": ["performance"]}, "after": {}}),
    ]
    before = measure(processes=runs, asked=3, precision=0.01, judged=judged)
    after = Measurement.from_json(json.loads(json.dumps(before.to_json())))
    assert after == before
    assert after.to_json() == before.to_json()


def test_summaries_are_pooled_as_if_their_runs_were_one_list() -> None:
    halves = [noisy(1e6, 40, 1), noisy(1.1e6, 60, 2)]
    rows = [
        {"count": len(h), "mean": statistics.fmean(h), "stdev": statistics.pstdev(h),
         "min": min(h), "max": max(h)}
        for h in halves
    ]  # fmt: skip
    found = measure(processes=[ProcessRun(summary_ns=row) for row in rows])
    both = halves[0] + halves[1]
    assert found.summary_ns == {
        "count": 100, "mean": pytest.approx(statistics.fmean(both)),
        "stdev": pytest.approx(statistics.pstdev(both)), "min": min(both), "max": max(both),
    }  # fmt: skip
    assert found.stats.median_ns is None
    assert found.stats.mean_ci95_ns is not None
    assert Measurement.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_summary_without_a_count_claims_no_deviation() -> None:
    found = measure(
        processes=[ProcessRun(summary_ns={"mean": m, "stdev": 3.0}) for m in (1e6, 2e6)]
    )
    assert found.summary_ns == {"mean": 1.5e6}
    assert found.runs is None


def test_outliers_are_counted_and_listed_and_stay_in_the_figures() -> None:
    times = noisy(1e6, 100, 1, 0.002)
    times[40] = 9_000_000
    found = measure(processes=[process(1e6, 5), ProcessRun(samples_ns=tuple(times))])
    assert found.details["outliers"]["count"] == 1
    assert found.details["outliers"]["slowest"] == [{"process": 1, "run": 40, "time_ns": 9_000_000}]
    assert 9_000_000 in (found.samples_ns or ())


def test_a_coarse_clock_makes_no_outliers() -> None:
    times = tuple(1000 * (200 + (n % 9 == 0)) for n in range(100))
    assert measure(processes=[ProcessRun(samples_ns=times)]).details["outliers"]["count"] == 0


def test_the_asked_precision_is_met_or_it_is_said_that_it_is_not() -> None:
    quiet, wide = several(1e6, 1, precision=0.01), several(1e6, 1, between=0.05, precision=0.01)
    assert quiet.details["precision"]["met"] is True
    assert wide.details["precision"]["met"] is False
    assert any("not the 1% asked for" in note for note in wide.notes)
    assert wide.valid


def test_start_up_figures_are_the_middle_and_memory_the_most() -> None:
    found = measure(
        processes=[
            process(1e6, n, init_ns=i, first_ns=f, peak_rss_bytes=p)
            for n, (i, f, p) in enumerate([(10, 100, 5), (30, 300, 9), (20, 900, 7)])
        ]
    )
    assert (found.init_ns, found.first_ns, found.peak_rss_bytes) == (20, 300, 9)


def test_conditions_are_those_before_the_first_and_after_the_last_process() -> None:
    rows = [{"before": {"n": n}, "after": {"n": n + 1}} for n in (0, 10)]
    found = measure(processes=[process(1e6, n, conditions=row) for n, row in enumerate(rows)])
    assert found.conditions == {"before": {"n": 0}, "after": {"n": 11}}


def test_no_process_is_no_measurement() -> None:
    with pytest.raises(ResultError, match="No process finished"):
        measure(processes=[])


@pytest.mark.parametrize(
    "change",
    [{"samples_ns": [1, 2]}, {"processes": [3]}, {"processes_asked": "5"}, {"precision": [1]},
     {"samples_ns": None}],
)  # fmt: skip
def test_a_document_whose_processes_do_not_fit_its_times_is_refused(change: dict[str, Any]) -> None:
    document = several(1e6, 1).to_json() | change
    with pytest.raises(InputError, match="cannot be read"):
        Measurement.from_json(document)


def test_moved_runs_that_were_never_made_are_refused() -> None:
    document = several(1e6, 1).to_json()
    document["processes"][0]["moved_runs"] = 1000
    with pytest.raises(InputError, match="cannot be read"):
        Measurement.from_json(document)


def test_a_report_of_an_older_version_is_one_process() -> None:
    document = {"samples_ns": noisy(1e6, 50, 1), "warmup_ns": [9], "summary_ns": None}
    assert len(Measurement.from_json(document).processes) == 1
    assert Measurement.from_json({"samples_ns": None, "summary_ns": SUMMARY}).runs == 10
