"""Warming up ends when the times have settled, on traces like those that boards give."""

from __future__ import annotations

import ast
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeopt.device.agent import settle
from edgeopt.device.agent.settle import Settle

MS = 1_000_000


def noisy(level: Callable[[int], float], spread: float, seed: int = 0) -> Iterator[int]:
    """Run times around `level(run)`, with a spread that is a fraction of it."""
    source, run = random.Random(seed), 0
    while True:
        yield max(1, round(source.gauss(1, spread) * level(run)))
        run += 1


def warmed(times: Iterator[int], **limits: float) -> tuple[int, bool]:
    """After how many runs the warm-up ended, and whether it had settled."""
    rule = Settle(**limits)  # type: ignore[arg-type]
    for count, time_ns in enumerate(times, 1):
        if rule.add(time_ns):
            return count, rule.settled
    raise AssertionError("endless traces end by the ceiling at the latest")


def test_a_flat_trace_settles_within_a_fifth_of_a_second() -> None:
    runs, settled = warmed(noisy(lambda run: 2 * MS, 0.005))
    assert settled
    assert 0.15 <= runs * 0.002 <= 0.2


def test_noise_alone_does_not_keep_it_warming() -> None:
    ends = [warmed(noisy(lambda run: 2 * MS, 0.10, seed)) for seed in range(50)]
    assert sum(settled for _, settled in ends) >= 48
    assert sorted(runs for runs, _ in ends)[25] <= 150


def test_a_clock_that_ramps_up_is_waited_for() -> None:
    def ramp(run: int) -> float:  # from 600 MHz to 1800 MHz in 40 runs
        return 10 * MS / min(1.0, 1 / 3 + run / 60)

    runs, settled = warmed(noisy(ramp, 0.003))
    assert settled
    assert 40 <= runs <= 80


def test_a_step_as_of_code_compiled_later_is_waited_for() -> None:
    runs, settled = warmed(noisy(lambda run: (30 if run < 12 else 10) * MS, 0.005))
    assert settled
    assert runs >= 24


def test_slow_first_touches_cost_no_more_than_their_block() -> None:
    runs, settled = warmed(noisy(lambda run: (9 if run < 2 else 3) * MS, 0.005))
    assert settled
    assert runs <= 80


def test_a_trace_that_swings_ends_at_the_ceiling_and_says_that_it_has_not_settled() -> None:
    swings = noisy(lambda run: (10 if run // 5 % 2 else 13) * MS, 0.002)
    runs, settled = warmed(swings, ceiling_s=2.0)
    assert not settled
    assert 2.0 <= runs * 0.0115 <= 2.1


def test_a_model_of_a_second_needs_three_runs() -> None:
    assert warmed(noisy(lambda run: 1000 * MS, 0.002)) == (3, True)


def test_floor_and_ceiling_in_runs_are_kept() -> None:
    assert warmed(noisy(lambda run: 2 * MS, 0.005), floor_runs=500)[0] == 500
    assert warmed(noisy(lambda run: 2 * MS, 0.005), ceiling_runs=4) == (4, False)
    assert warmed(noisy(lambda run: 2 * MS, 0.005), floor_s=1.0)[0] == pytest.approx(500, rel=0.02)


def test_a_run_of_ten_microseconds_costs_less_than_a_tenth_of_itself() -> None:
    rule, times = Settle(floor_runs=10**9, ceiling_runs=10**9, ceiling_s=1e9), [10_000] * 200_000
    began = time.process_time()
    for time_ns in times:
        rule.add(time_ns)
    assert (time.process_time() - began) / len(times) < 1e-6 * 3  # seconds a run, on slow machines


def test_it_is_of_the_device_only() -> None:
    """Python 3.7 grammar and no import: it is pushed."""
    source = Path(settle.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 7))
    imports = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
    assert [getattr(n, "module", None) for n in imports] == ["__future__"]
