"""Where a trace becomes steady, and which never does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from measuring import noisy

from edgeopt.measurement.steady import judge


def trace(
    shape: Callable[[float], float], spread: float = 0.005, runs: int = 200, seed: int = 0
) -> list[int]:
    """Noise around 1 ms times `shape` of the place in the trace, 0 to 1."""
    times = noisy(1e6, runs, seed, spread)
    return [round(t * shape(run / runs)) for run, t in enumerate(times)]


def test_flat_noise_is_steady_from_the_first_run() -> None:
    found = [
        judge(trace(lambda at: 1, spread, seed=seed))
        for spread in (0.002, 0.05)
        for seed in range(20)
    ]
    assert {(f.settled, f.start) for f in found} == {(True, 0)}


def test_correlated_noise_is_no_change_of_level() -> None:
    found = [judge(noisy(1e6, 500, seed, 0.02, alike=0.7)) for seed in range(40)]
    assert sum(f.settled is not True for f in found) <= 1


@pytest.mark.parametrize("spread", [0.002, 0.02])
def test_a_clock_that_ramps_up_is_steady_where_it_has_arrived(spread: float) -> None:
    found = judge(trace(lambda at: 1 / min(1, 1 / 3 + at / 0.3), spread))  # 600 to 1800 MHz
    assert found.settled
    assert 30 <= found.start <= 45


def test_a_step_as_of_code_compiled_later_begins_the_steady_state() -> None:
    found = judge(trace(lambda at: 3 if at < 0.06 else 1))
    assert found.settled and found.start in (10, 12, 15)


def test_two_slow_first_touches_are_no_level() -> None:
    assert judge([9_000_000, 5_000_000, *trace(lambda at: 1)]).start <= 5


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (lambda at: 1.2 if at >= 0.8 else 1, r"went \+20% at run 160 of 200"),
        (lambda at: 1.05 if at >= 0.6 else 1, r"went \+5% at run 120 of 200"),
        (lambda at: 1.1 if int(at * 4) % 2 else 1, r"at run 150 of 200, the last of 3 moves"),
        (lambda at: 1 + 0.08 * at, r"drifts by \+\d\.\d%"),
    ],
)
def test_a_trace_that_moves_never_settles_and_says_where(
    shape: Callable[[float], float], said: str
) -> None:
    found = judge(trace(shape))
    assert found.settled is False
    assert found.reason.startswith("never settled")
    assert re.search(said, found.reason)


def test_a_move_too_small_to_matter_is_none() -> None:
    assert judge(trace(lambda at: 1.02 if at >= 0.7 else 1, 0.002)).settled


def test_a_short_disturbance_in_between_is_no_new_level() -> None:
    assert judge(trace(lambda at: 1.5 if 0.4 <= at < 0.45 else 1)).settled


def test_a_long_warm_up_does_not_outvote_the_timed_runs() -> None:
    """The clock fell between them: what was timed is steady, on its own level."""
    warm, timed = trace(lambda at: 1, runs=900), trace(lambda at: 1.3, runs=100, seed=1)
    found = judge([*warm, *timed], 900)
    assert (found.settled, found.start) == (True, 900)


def test_too_short_a_trace_is_not_judged() -> None:
    found = judge(noisy(1e6, 9, 1))
    assert (found.settled, found.start, found.reason) == (None, 0, "")


def test_equal_times_of_a_coarse_clock_are_steady() -> None:
    assert judge([1000] * 100).settled
    assert judge([1000, 2000] * 50).settled


def test_a_hundred_thousand_runs_are_judged_in_no_time() -> None:
    times = trace(lambda at: 1, runs=100_000)
    began = time.process_time()
    assert judge(times).settled
    assert time.process_time() - began < 2.0
