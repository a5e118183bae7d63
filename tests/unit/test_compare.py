"""Comparisons that know their noise, also that between processes."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate, combinations
from math import comb, exp, log

import pytest
from measuring import SUMMARY, noisy, process, several

from edgeopt.measurement import Measurement, ProcessRun, compare, measure
from edgeopt.measurement.comparison import judge
from edgeopt.measurement.ranks import _counts, _rank
from edgeopt.measurement.student import t_quantile


def summarised(mean_ns: float, processes: int = 1, **others: float) -> Measurement:
    step = 1 + 0.001 * mean_ns / 1e8
    return measure(
        processes=[
            ProcessRun(summary_ns=SUMMARY | {"mean": mean_ns * step**number} | others)
            for number in range(processes)
        ]
    )


def test_a_clear_slowdown_is_slower_and_its_mirror_faster() -> None:
    old, new = several(1e6, 1), several(1.1e6, 2)
    assert compare(old, new).verdict == "slower"
    assert compare(new, old).verdict == "faster"


def test_a_slowdown_of_three_percent_is_found_on_a_quiet_device() -> None:
    found = [compare(several(1e6, 2 * n), several(1.03e6, 2 * n + 1)).verdict for n in range(40)]
    assert found.count("slower") >= 36


def test_equal_builds_differ_by_verdict_at_most_once_in_a_hundred() -> None:
    """Also where processes differ by as much as the threshold."""
    verdicts = [
        compare(several(1e6, 2 * n, between=b), several(1e6, 2 * n + 1, between=b)).verdict
        for b in (0.002, 0.02)
        for n in range(100)
    ]
    assert verdicts.count("slower") + verdicts.count("faster") <= 2


def test_many_runs_of_one_moment_do_not_make_up_for_processes_that_differ() -> None:
    """The interval of the runs alone would call these clearly different."""
    spread = [0.97, 1.03, 1.0, 0.96, 1.04]
    old = measure(processes=[process(1e6 * f, n, 2000) for n, f in enumerate(spread)])
    new = measure(processes=[process(1.03e6 * f, 9 + n, 2000) for n, f in enumerate(spread)])
    assert compare(old, new).verdict == "inconclusive"


def test_the_ratio_lies_in_its_intervals_and_the_surer_one_is_wider() -> None:
    found = compare(several(1e6, 1), several(1.2e6, 2))
    assert found.interval is not None and found.interval95 is not None and found.ratio is not None
    assert found.interval[0] < found.interval95[0] < found.ratio
    assert found.ratio < found.interval95[1] < found.interval[1]
    assert found.ratio == pytest.approx(1.2, abs=0.02)


def test_below_five_processes_the_interval_is_welchs() -> None:
    old, new = [1.0e6, 1.1e6, 1.3e6], [2.0e6, 2.1e6, 2.05e6, 1.9e6]
    sides = [
        measure(
            processes=[process(c, n, samples_ns=[round(c)] * 20) for n, c in enumerate(centres)]
        )
        for centres in (old, new)
    ]
    means = [sum(map(log, c)) / len(c) for c in (old, new)]
    parts = [
        sum((log(x) - m) ** 2 for x in c) / (len(c) - 1) / len(c)
        for c, m in zip((old, new), means, strict=True)
    ]
    df = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 3)
    half = t_quantile(0.995, df) * sum(parts) ** 0.5
    found = compare(*sides)
    assert found.method == "welch"
    assert found.interval == pytest.approx(
        (exp(means[1] - means[0] - half), exp(means[1] - means[0] + half))
    )


def test_two_processes_that_agree_by_chance_do_not_make_five_others_surer() -> None:
    """Their small variance counts with its one degree of freedom, beside the four of the others."""
    centres = ([1_000_000, 1_000_100], [1_000_000, 1_020_000, 1_040_000, 980_000, 1_010_000])
    sides, widths = [], []
    for values in centres:
        runs = [process(samples_ns=[value] * 20) for value in values]
        logs = [log(value) for value in values]
        sides.append(measure(processes=runs))
        widths.append(sum((x - sum(logs) / len(logs)) ** 2 for x in logs))
    half = t_quantile(0.995, 5) * (sum(widths) / 5 * (1 / 2 + 1 / 5)) ** 0.5
    found = compare(*sides)
    assert found.method == "welch" and found.interval is not None
    assert found.interval[1] / found.interval[0] == pytest.approx(exp(2 * half))


def test_of_five_processes_a_side_the_interval_is_that_of_the_rank_sum() -> None:
    """At 99% the smallest to the largest ratio: P(U = 0) is 1 / 252 = 0.4% on either side."""
    old, new = several(1e6, 1), several(1.1e6, 2)
    medians = [[p.median_ns or 0 for p in side.pooled] for side in (old, new)]
    found = compare(old, new)
    ends = (min(medians[1]) / max(medians[0]), max(medians[1]) / min(medians[0]))
    assert found.method == "ranks"
    assert found.interval == pytest.approx(ends)


def test_disturbed_processes_do_not_hide_a_slowdown() -> None:
    """One in ten ran beside something else, 20% slower, and was not found out."""
    sides = [
        measure(processes=[process(c * (1.2 if n == 3 else 1), s + n) for n in range(10)])
        for c, s in ((1e6, 0), (1.03e6, 50))
    ]
    found = compare(*sides)
    assert found.verdict == "slower"
    assert found.ratio == pytest.approx(1.03, abs=0.005)


def test_rank_sum_counts_are_those_of_all_orders() -> None:
    orders = list(combinations(range(9), 4))
    seen = Counter(sum(i < j for i in o for j in set(range(9)) - set(o)) for o in orders)
    assert _counts(4, 5) == [seen[u] for u in range(21)]


# Critical values of the two-sided test at 1%, as tabulated (Conover, table A7, less the rank sum's
# least value): the statistic may be this large and still be left out.
@pytest.mark.parametrize(("m", "n", "critical"), [(5, 5, 0), (6, 8, 4), (10, 10, 16), (15, 20, 73)])
def test_rank_sum_quantiles_are_the_tabulated_ones(m: int, n: int, critical: int) -> None:
    assert _rank(m, n, 0.005) == critical + 1


def test_the_approximation_of_large_samples_meets_the_exact_counts() -> None:
    limit = 0.005 * comb(80, 40)
    exact = next(k for k, below in enumerate(accumulate(_counts(40, 40))) if below > limit)
    assert abs(_rank(40, 41, 0.005) - exact) < 25  # of 1640 pairs, with one value more


def test_two_quiet_measurements_of_the_same_thing_are_the_same() -> None:
    assert compare(several(1e6, 1), several(1e6, 2)).verdict == "same"


def test_a_difference_inside_wide_noise_is_inconclusive_with_the_reason() -> None:
    found = compare(several(1e6, 1, between=0.05), several(1.05e6, 2, between=0.05))
    assert found.verdict == "inconclusive"
    assert "noise" in found.reasons[0]


def test_an_invalid_measurement_is_never_judged() -> None:
    bad = measure(processes=[process(2e6, n, invalid_reasons=("throttled",)) for n in range(5)])
    found = compare(several(1e6, 1), bad)
    assert found.verdict == "inconclusive"
    assert "throttled" in str(found)


def test_one_process_a_side_knows_the_noise_of_its_runs_only_and_says_so() -> None:
    found = compare(measure(processes=[process(1e6, 1)]), measure(processes=[process(1.1e6, 2)]))
    assert (found.verdict, found.within_only, found.processes) == ("slower", True, (1, 1))


def test_one_process_is_taken_to_vary_as_the_other_sides_do() -> None:
    alone = measure(processes=[process(1.01e6, 7)])
    wide, narrow = (compare(several(1e6, 1, between=b), alone) for b in (0.03, 0.001))
    assert wide.interval is not None and narrow.interval is not None
    assert wide.interval[1] / wide.interval[0] > 1.2 > narrow.interval[1] / narrow.interval[0]
    assert not wide.within_only


def test_too_few_runs_are_inconclusive() -> None:
    found = compare(*(measure(processes=[ProcessRun(samples_ns=(t,) * 3)]) for t in (100, 200)))
    assert (found.verdict, found.interval) == ("inconclusive", None)


def test_summaries_are_compared_by_mean_and_say_so() -> None:
    found = compare(summarised(1e8), summarised(3e8))
    assert (found.basis, found.verdict) == ("mean", "slower")


def test_summaries_of_several_processes_are_compared_by_how_they_differ() -> None:
    found = compare(summarised(1e8, 5, stdev=1e6), summarised(1.1e8, 5, stdev=1e6))
    assert (found.basis, found.verdict, found.within_only) == ("mean", "slower", False)


def test_a_summary_of_one_run_has_no_interval() -> None:
    found = compare(summarised(1e8, count=1), summarised(3e8, count=1))
    assert (found.verdict, found.interval) == ("inconclusive", None)


def test_samples_and_a_summary_are_compared_by_mean() -> None:
    one = measure(processes=[ProcessRun(samples_ns=tuple(noisy(3e8, 50, 1)))])
    assert compare(summarised(1e8), one).basis == "mean"


@pytest.mark.parametrize(
    ("ratio", "interval", "verdict"),
    [
        (1.01, (1.005, 1.015), "same"),
        (1.01, (1.00, 1.05), "inconclusive"),
        (1.10, (0.99, 1.20), "inconclusive"),
        (1.03, (1.001, 1.06), "slower"),
        (0.90, (0.88, 0.93), "faster"),
    ],
)
def test_a_verdict_needs_both_size_and_certainty(
    ratio: float, interval: tuple[float, float], verdict: str
) -> None:
    assert judge(ratio, interval, 0.02) == verdict
