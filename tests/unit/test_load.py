"""Throughput is counted in the time when all were busy; latency under load from when it was due."""

from __future__ import annotations

from typing import Any

import pytest

from edgeopt.device.load.answer import Phase, RawLoad, checked_load
from edgeopt.device.load.figures import load_figures
from edgeopt.errors import DeviceError, InputError
from edgeopt.load import Load

MS = 1_000_000


def phase(name: str, *threads: list[tuple[int, int]], **changes: Any) -> Phase:
    values = {"wall_ns": 10**10, "cpu_ns": 2 * 10**10, "cores": 2, "offered": None, "usage": {}}
    return Phase(name=name, threads=tuple(map(tuple, threads)), **{**values, **changes})


def steady(count: int, took_ns: int, first_ns: int = 0) -> list[tuple[int, int]]:
    return [(first_ns + n * took_ns, took_ns) for n in range(count)]


def raw(*phases: Phase, **changes: Any) -> RawLoad:
    values: dict[str, Any] = {
        "runtime": "x",
        "runtime_version": "1",
        "memory_bytes": None,
        "peak_rss_bytes": None,
        "conditions": {},
        "facts": {},
    }
    return RawLoad(phases=phases, **{**values, **changes})


def alone(took_ns: int = 10 * MS) -> Phase:
    return phase("alone", steady(500, took_ns))


def test_two_steady_threads_answer_twice_as_much_as_one() -> None:
    both = phase("load", steady(1000, 10 * MS), steady(1000, 10 * MS, 3 * MS))
    found = load_figures(raw(alone(), both, alone()), Load(concurrency=2))
    assert found["per_second"]["value"] == pytest.approx(200, rel=0.001)
    assert found["speedup"] == pytest.approx(2, rel=0.001)
    assert found["fairness"]["jain"] == pytest.approx(1)
    low, high = found["per_second"]["ci95"]
    assert low <= 200 <= high and high - low < 1


def test_what_is_counted_ends_where_the_first_thread_has_nothing_left() -> None:
    """The other one goes on alone, faster: that is not throughput of two."""
    slow, fast = steady(100, 10 * MS), steady(1000, 5 * MS)
    found = load_figures(raw(alone(), phase("load", slow, fast), alone()), Load(concurrency=2))
    assert found["per_second"]["value"] == pytest.approx(300, rel=0.001)


def test_a_request_counts_in_part_where_it_is_partly_in_the_time() -> None:
    one, long = steady(4, 250 * MS), [(0, 2000 * MS)]
    found = load_figures(raw(alone(), phase("load", one, long), alone()), Load(concurrency=2))
    assert found["per_second"]["value"] == pytest.approx(4.5)


def test_too_few_requests_have_a_rate_and_no_interval() -> None:
    """Parts of the time that one request fills are not independent of each other."""
    few = load_figures(raw(phase("load", steady(99, 10 * MS))), Load())["per_second"]
    assert few["value"] == pytest.approx(100) and few["ci95"] is None
    assert load_figures(raw(phase("load", steady(100, 10 * MS))), Load())["per_second"]["ci95"]


def test_a_starved_thread_shows_in_the_fairness() -> None:
    both = phase("load", steady(1000, 10 * MS), steady(10, 1000 * MS))
    found = load_figures(raw(alone(), both, alone()), Load(concurrency=2))
    assert found["fairness"]["least_of_most"] == pytest.approx(0.01)
    assert found["fairness"]["jain"] < 0.6


def test_samples_are_counted_where_a_batch_was_asked_for() -> None:
    found = load_figures(raw(phase("load", steady(100, 10 * MS))), Load(batch=8))
    assert found["unit"] == "samples"
    assert found["per_second"]["value"] == pytest.approx(800)
    assert (found["speedup"], found["alone"]) == (None, None)


def test_percentiles_need_as_many_requests_as_they_are_of() -> None:
    few = load_figures(raw(phase("load", steady(50, 10 * MS))), Load())["latency_ns"]
    assert few["median"] == 10 * MS and few["p99"] is None and few["p99_ci95"] is None
    many = load_figures(raw(phase("load", steady(2000, 10 * MS))), Load())["latency_ns"]
    assert many["p99"] == 10 * MS and many["p99_ci95"] == [10 * MS, 10 * MS]


def test_a_device_that_does_not_keep_up_is_told_of() -> None:
    late = [(n * 10 * MS, n * 10 * MS + 20 * MS) for n in range(1000)]  # each later than the last
    busy = phase("load", late, offered=1000)
    found = load_figures(raw(alone(), busy, alone()), Load(rate=100, time_s=10))
    assert not found["kept_up"] and found["unanswered_at_end"] > 400
    assert found["offered_per_second"] == 100 and found["per_second"]["value"] < 60
    assert any("did not keep up" in note for note in found["notes"])


def test_a_device_that_changed_meanwhile_has_no_speedup_to_trust() -> None:
    both = phase("load", steady(100, 10 * MS), steady(100, 10 * MS))
    found = load_figures(raw(alone(), both, alone(20 * MS)), Load(concurrency=2))
    assert not found["valid"] and "the device changed meanwhile" in found["invalid_reasons"][0]


def used(**seconds: float) -> dict[str, float]:
    """What a quiet device counts in ten seconds of two threads, but for `seconds`."""
    return {"wall_s": 10, "own_cpu_s": 20, "others_cpu_s": 0.1, "seen_cores": 2, **seconds}


def test_a_load_that_shared_its_cores_measured_something_else() -> None:
    quiet = phase("load", steady(99, MS), steady(99, MS), usage=used(waited_s=0.2))
    busy = phase("load", steady(99, MS), steady(99, MS), usage=used(others_cpu_s=9))
    assert load_figures(raw(alone(), quiet, alone()), Load(concurrency=2))["valid"]
    found = load_figures(raw(alone(), busy, alone()), Load(concurrency=2))
    assert not found["valid"] and "shared its cores" in found["invalid_reasons"][0]


def test_a_load_on_a_board_that_throttled_is_invalid() -> None:
    said = {"before": {"throttled_bits": 0}, "after": {"throttled_bits": 4}}
    measured = raw(phase("load", steady(200, 10 * MS)), conditions=said)
    found = load_figures(measured, Load())
    assert not found["valid"] and "throttled" in found["invalid_reasons"][0]


def test_threads_that_wait_for_each_other_are_no_reason() -> None:
    both = phase("load", steady(99, MS), steady(99, MS), usage=used(waited_s=9), cores=1)
    found = load_figures(raw(alone(), both, alone()), Load(concurrency=2))
    assert found["valid"] and found["notes"] == ["2 threads share 1 cores."]
    both = phase("load", steady(99, MS), steady(99, MS), usage=used(waited_s=9), cores=2)
    assert not load_figures(raw(alone(), both, alone()), Load(concurrency=2))["valid"]


def test_memory_is_told_for_the_first_and_for_each_further_interpreter() -> None:
    both = phase("load", steady(9, MS), steady(9, MS), steady(9, MS))
    measured = raw(alone(), both, alone(), memory_bytes=(100, 150, 170, 190), peak_rss_bytes=200)
    memory = load_figures(measured, Load(concurrency=3))["memory"]
    assert memory["first_interpreter_bytes"] == 50 and memory["each_further_bytes"] == 20


@pytest.mark.parametrize(
    "asked",
    [
        {"concurrency": 0},
        {"batch": 0},
        {"rate": -1.0},
        {"time_s": 0.0},
        {"time_s": 1e9},
        {"rate": 1e5, "time_s": 10.0},  # more than the agent keeps: its end would be cut off
    ],
)
def test_a_load_that_cannot_be_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Load(**asked)


def answer(**changes: Any) -> dict[str, Any]:
    user = {"start_ns": [0, 10], "latency_ns": [10, 10]}
    one = {"name": "load", "wall_ns": 50, "cpu_ns": 40, "cores": 2, "threads": [user]}
    return {"phases": [{**one, **changes}], "memory": {"base": 5, "after": [6]}, "runtime": "x"}


def test_a_true_answer_is_read() -> None:
    found = checked_load(answer(), device="board", load=Load())
    assert found.phases[0].threads == (((0, 10), (10, 10)),)
    assert found.memory_bytes == (5, 6)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "alone"},
        {"wall_ns": "fast"},
        {"cpu_ns": -1},
        {"threads": []},
        {"threads": [{"start_ns": [], "latency_ns": []}]},
        {"threads": [{"start_ns": [0], "latency_ns": [10, 10]}]},
        {"threads": [{"start_ns": [0], "latency_ns": [0]}]},
        {"threads": [{"start_ns": [0], "latency_ns": [51]}]},
        {"threads": [{"start_ns": [-1], "latency_ns": [5]}]},
        {"threads": [{"start_ns": [True], "latency_ns": [5]}]},
    ],
)
def test_a_load_that_was_invented_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DeviceError, match="cannot be used"):
        checked_load(answer(**changes), device="board", load=Load())
