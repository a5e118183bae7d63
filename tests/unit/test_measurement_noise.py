"""Intervals that know autocorrelation, and second modes that are there."""

from __future__ import annotations

import random

import pytest
from measuring import noisy

from edgeopt.measurement import ProcessRun, measure, median_interval
from edgeopt.measurement.interval import correlation_time, of_one_process, of_processes
from edgeopt.measurement.modes import dip, modes


def two_modes(share: float, factor: float, runs: int = 200, seed: int = 0) -> list[int]:
    source = random.Random(seed)
    return [
        round(t * (factor if source.random() < share else 1)) for t in noisy(1e6, runs, seed, 0.01)
    ]


def test_independent_runs_have_about_the_exact_interval_of_order_statistics() -> None:
    times = noisy(1e6, 400, 3)
    exact, found = median_interval(sorted(times)), of_one_process(times)
    assert exact is not None and found is not None
    assert (found[1] - found[0]) / (exact[1] - exact[0]) == pytest.approx(1.0, abs=0.35)


def test_correlation_time_is_that_of_an_autoregression() -> None:
    """Of the signs of a normal one with parameter r: the sum of 2/pi asin(r^k) over all lags."""
    assert correlation_time(noisy(1e6, 20_000, 1, alike=0.0)) == pytest.approx(1.0, abs=0.15)
    assert correlation_time(noisy(1e6, 20_000, 1, alike=0.9)) == pytest.approx(13.5, rel=0.25)


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.9])
def test_the_interval_of_one_process_is_wrong_at_most_seven_times_in_a_hundred(
    alike: float,
) -> None:
    wrong = 0
    for seed in range(300):
        ends = of_one_process(noisy(1e6, 300, seed, 0.01, alike))
        wrong += ends is not None and not ends[0] <= 1e6 <= ends[1]
    assert wrong <= 21


def test_runs_that_are_all_alike_tell_of_no_interval() -> None:
    assert of_one_process(list(range(1000, 1060))) is None


def test_the_interval_of_five_processes_is_wrong_about_five_times_in_a_hundred() -> None:
    source, wrong = random.Random(5), 0
    for _ in range(1000):
        ends = of_processes([1e6 * (1 + source.gauss(0, 0.01)) for _ in range(5)])
        assert ends is not None
        wrong += not ends[0] <= 1e6 <= ends[1]
    assert 30 <= wrong <= 70


def test_one_process_tells_nothing_of_others() -> None:
    assert of_processes([1e6]) is None


# The first is the least that 8 values can have, 1 / (2 n); the others are as Python's diptest 0.12
# gives them, which hundreds of random samples of four shapes were held against too.
@pytest.mark.parametrize(
    ("sample", "value"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], 1 / 16),
        ([0.0, 0.1, 0.2, 10.0, 10.1, 10.2], 0.245),
        ([1, 2, 2.5, 7, 7.5, 9, 20, 21, 22, 30], 0.12692307692307694),
    ],
)
def test_the_dip_is_hartigans(sample: list[float], value: float) -> None:
    assert dip(sample) == pytest.approx(value, abs=1e-12)


def test_two_typical_values_are_noticed_with_their_shares() -> None:
    found = modes(two_modes(0.4, 1.2))
    assert [m.median_ns for m in found] == pytest.approx([1e6, 1.2e6], rel=0.01)
    assert found[1].share == pytest.approx(0.4, abs=0.08)


def test_one_typical_value_is_not_taken_for_two() -> None:
    source = random.Random(2)
    shapes = {
        "normal": lambda: source.gauss(1, 0.05),
        "uniform": lambda: source.uniform(1, 1.3),
        "tail": lambda: 1 + source.expovariate(5),
        "heavy tail": lambda: 1 + 0.02 * source.paretovariate(1.5),
    }
    for name, draw in shapes.items():
        found = sum(bool(modes([round(1e6 * draw()) for _ in range(200)])) for _ in range(50))
        assert found == 0, name


def test_autocorrelated_runs_are_not_taken_for_two_modes() -> None:
    assert not any(modes(noisy(1e6, 500, seed, 0.05, alike=0.9)) for seed in range(30))


def test_the_ticks_of_a_coarse_clock_are_no_modes() -> None:
    source = random.Random(4)
    ticks = [1000 * round(20 * (1 + 0.03 * source.gauss(0, 1))) for _ in range(400)]
    assert modes(ticks) == ()


def test_modes_closer_than_two_percent_do_not_matter() -> None:
    source = random.Random(1)
    times = [round(1e6 * (1.01 if n % 2 else 1) * (1 + 1e-4 * source.random())) for n in range(200)]
    random.Random(2).shuffle(times)
    assert modes(times) == ()


def test_a_measurement_says_that_its_times_have_two_typical_values() -> None:
    found = measure(processes=[ProcessRun(samples_ns=tuple(two_modes(0.4, 1.2)))])
    assert found.details["modes"][0]["process"] == 0
    assert any("two typical values" in note for note in found.notes)
