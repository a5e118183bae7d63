"""How much is measured: what may be asked for, and what follows from what has been measured."""

from __future__ import annotations

import random
from typing import Any

import click
import pytest
from click.testing import CliRunner

from edgeopt.cli.measuring_options import effort_request, measuring
from edgeopt.device.enough import Done, Step, next_step
from edgeopt.effort import Effort
from edgeopt.errors import InputError
from edgeopt.measurement import ProcessRun


def asked(*words: str, env: dict[str, str] | None = None) -> Effort:
    """The effort of these flags, as a verb gets them."""
    found: list[Effort] = []

    @click.command()
    @measuring
    def verb(**flags: Any) -> None:
        found.append(effort_request(flags))

    clear = dict.fromkeys(("EDGEOPT_PROCESSES", "EDGEOPT_MAX_TIME"))
    result = CliRunner().invoke(verb, list(words), env={**clear, **(env or {})})
    if result.exception:
        raise result.exception
    return found[0]


def ended(
    median_ns: float,
    *,
    spread: float = 0.01,
    runs: int = 1000,
    valid: bool = True,
    start_s: float = 0.5,
) -> Done:
    """A process whose runs scatter by `spread` (standard deviation over median)."""
    source = random.Random(runs)
    times = tuple(max(1, round(median_ns * source.gauss(1, spread))) for _ in range(runs))
    process = ProcessRun(samples_ns=times, warmup_ns=(), first_ns=1, init_ns=1)
    return Done(process=process, seconds=start_s + sum(times) / 1e9, valid=valid)


def steps(effort: Effort, each: Done, *, met_after: int = 10**9) -> list[Step]:
    """All processes of a measurement whose every process ends like `each`."""
    done: list[Done] = []
    found = []
    while step := next_step(effort, done, met=len(done) >= met_after, deadline_s=600):
        found.append(step)
        done.append(each)
    return found


def test_the_default_is_five_processes_for_one_percent_within_thirty_seconds() -> None:
    assert asked() == Effort()
    assert asked("--runs", "adaptive", "--warmup", "settled").to_json() == {
        "runs": None, "warmup": None, "precision": 0.01, "max_time_s": 30.0, "min_time_s": 0.0,
        "min_runs": 1, "processes": 5, "seed": 0,
    }  # fmt: skip


def test_every_flag_has_a_variable() -> None:
    env = {
        "RUNS": "7", "WARMUP": "0", "PRECISION": "2%", "PROCESSES": "3", "MAX_TIME": "4",
        "ORDER_SEED": "9",
    }  # fmt: skip
    found = asked(env={f"EDGEOPT_{key}": value for key, value in env.items()})
    assert found == Effort(
        runs=7, warmup=0, precision=0.02, processes=3, max_time_s=4.0, seed=9
    )  # fmt: skip
    found = asked(env={"EDGEOPT_MIN_TIME": "2", "EDGEOPT_MIN_RUNS": "11"})
    assert (found.min_time_s, found.min_runs) == (2.0, 11)


def test_mlperf_is_a_minimum_that_more_can_be_added_to() -> None:
    found = asked("--mlperf", "--min-runs", "2000")
    assert (found.min_runs, found.min_time_s) == (2000, 60.0)


@pytest.mark.parametrize("words", [("--precision", "0.5%"), ("--precision", "0.005")])
def test_a_precision_is_a_percentage_or_a_fraction(words: tuple[str, str]) -> None:
    assert asked(*words).precision == pytest.approx(0.005)


@pytest.mark.parametrize(
    "words",
    [
        ("--runs", "0"),
        ("--runs", "many"),
        ("--warmup", "-1"),
        ("--precision", "much"),
        ("--processes", "0"),
        ("--max-time", "0"),
    ],
)
def test_what_is_no_number_is_refused_with_the_flags_name(words: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as caught:
        asked(*words)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "values",
    [
        {"precision": 0.0}, {"precision": 1.0}, {"max_time_s": float("nan")}, {"processes": 0},
        {"max_time_s": float("inf")}, {"min_time_s": -1.0}, {"runs": 10**9},
        {"runs": 5, "min_runs": 6}, {"runs": 5, "min_time_s": 1.0},
    ],
)  # fmt: skip
def test_an_effort_that_cannot_be_meant_does_not_exist(values: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Effort(**values)


@pytest.mark.parametrize(("runs", "parts"), [(10, [2] * 5), (7, [2, 2, 1, 1, 1]), (3, [1] * 3)])
def test_exact_runs_are_spread_over_the_processes(runs: int, parts: list[int]) -> None:
    found = steps(Effort(runs=runs), ended(1e6))
    assert [step.runs for step in found] == parts and all(step.time_s == 0 for step in found)


def test_exact_runs_are_made_also_when_max_time_is_over() -> None:
    assert sum(s.runs for s in steps(Effort(runs=10, max_time_s=1), ended(1e9, runs=2))) == 10


def test_a_disturbed_process_is_repeated_while_there_is_time_and_not_for_ever() -> None:
    disturbed = ended(1e6, runs=10, valid=False)
    assert len(steps(Effort(runs=10), disturbed)) == 11  # 2 for each of five that do not count
    assert len(steps(Effort(runs=10, max_time_s=1), disturbed)) == 5
    assert len(steps(Effort(), disturbed)) == 11
    assert len(steps(Effort(max_time_s=1), disturbed)) == 1


def test_what_a_disturbed_process_lacks_the_next_one_has() -> None:
    done = [ended(1e6, runs=2), ended(1e6, runs=2, valid=False)]
    step = next_step(Effort(runs=7), done, met=False, deadline_s=600)
    assert step is not None and step.runs == 2


def test_a_quiet_model_has_five_processes_and_no_more() -> None:
    assert len(steps(Effort(), ended(1e6), met_after=5)) == 5


def test_more_processes_are_started_until_the_precision_or_the_time_is_reached() -> None:
    assert len(steps(Effort(), ended(1e6), met_after=9)) == 9
    each = ended(1e6, runs=1000, start_s=1.0)
    spent = len(steps(Effort(), each)) * each.seconds
    assert 30 - 2 * each.seconds < spent <= 30


def test_a_noisy_model_gets_longer_processes_than_a_quiet_one() -> None:
    quiet, noisy = (
        next_step(Effort(), [ended(1e5, spread=s, runs=3000)], met=False, deadline_s=600)
        for s in (0.002, 0.2)
    )
    assert quiet is not None and noisy is not None
    assert 0.1 <= quiet.time_s < noisy.time_s < 30 / 4


def wanted_s(done: list[Done]) -> float:
    step = next_step(Effort(), done, met=False, deadline_s=600)
    assert step is not None
    return step.time_s


def test_processes_that_differ_more_than_their_runs_are_short_and_many() -> None:
    """Longer ones tell the place of each better, and that of the next no better."""
    alike = [ended(1e6 * (1 + 1e-6 * i), spread=0.1, runs=900 + i) for i in range(6)]
    apart = [ended(1e6 * (1 + 0.03 * (i % 2)), spread=0.1, runs=900 + i) for i in range(6)]
    assert 0.1 < wanted_s(apart) < wanted_s(alike) / 2


def test_while_few_processes_tell_they_are_as_long_as_their_start() -> None:
    few = [ended(1e6 * (1 + 0.03 * (i % 2)), spread=0.1, runs=900 + i) for i in range(4)]
    assert wanted_s(few) == pytest.approx(0.5, abs=0.01)
    slow = [ended(1e8, spread=0.1, runs=12)]
    assert wanted_s(slow) == pytest.approx(40 * 0.1, rel=0.3)  # it must be seen to have settled


def test_no_process_takes_more_than_four_times_its_start() -> None:
    """A longer one is likelier to be disturbed, and then lost whole."""
    alike = [ended(1e6, spread=0.1, runs=900)] * 6
    step = next_step(Effort(precision=1e-5), alike, met=False, deadline_s=600)
    assert step is not None and step.time_s == pytest.approx(4 * 0.5, abs=0.01)


def test_disturbed_processes_may_be_twice_as_many_as_the_others() -> None:
    good, bad = ended(1e6, runs=10, start_s=0.01), ended(1e6, runs=10, valid=False, start_s=0.01)
    many = [good] * 10 + [bad] * 20
    assert next_step(Effort(), many, met=False, deadline_s=600) is not None
    assert next_step(Effort(), [*many, bad], met=False, deadline_s=600) is None


def test_a_process_whose_runs_drift_together_is_as_long_as_its_start() -> None:
    def drifting(number: int) -> Done:
        times = tuple(1_000_000 + 100 * i + number for i in range(1000))  # 10% in a second
        process = ProcessRun(samples_ns=times, warmup_ns=(), first_ns=1, init_ns=1)
        return Done(process=process, seconds=1.55, valid=True)

    done = [drifting(i) for i in range(7)]
    assert wanted_s(done) == pytest.approx(0.5, abs=0.01)


def test_no_process_takes_more_than_half_of_the_time_that_is_left() -> None:
    """One that is disturbed must leave time for another."""
    done = [ended(1e6 * (1 + 1e-6 * i), spread=0.1, runs=900 + i, start_s=3) for i in range(6)]
    step = next_step(Effort(precision=1e-5), done, met=False, deadline_s=600)
    assert step is not None
    assert step.time_s <= (30 - sum(each.seconds for each in done)) / 2 < 4 * 3


def test_a_model_too_slow_for_the_time_is_measured_once() -> None:
    assert len(steps(Effort(), ended(12e9, runs=3))) == 1


def test_one_process_that_was_asked_for_stays_one() -> None:
    assert len(steps(Effort(processes=1), ended(1e6))) == 1


def test_minimums_are_met_whatever_max_time_says() -> None:
    runs = steps(Effort(min_runs=1024, max_time_s=1), ended(1e7, runs=205))
    assert len(runs) == 5 and all(step.runs == 205 for step in runs)
    each = ended(1e7, runs=1200)  # 12 s
    assert len(steps(Effort(min_time_s=60, max_time_s=1), each)) in (5, 6)
    first = next_step(Effort(min_time_s=60), [], met=False, deadline_s=600)
    assert first is not None and first.time_s == 12


def test_a_process_leaves_room_before_its_deadline() -> None:
    step = next_step(Effort(processes=1), [], met=False, deadline_s=4)
    assert step is not None and step.time_s <= 1


def test_a_runtime_that_prints_only_means_is_measured_like_the_others() -> None:
    process = ProcessRun(summary_ns={"mean": 1e6, "count": 300})
    found = steps(Effort(), Done(process=process, seconds=0.8, valid=True), met_after=5)
    assert len(found) == 5 and all(step.time_s > 0 for step in found)
