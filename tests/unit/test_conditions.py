"""Which readings spoil a run, and which do not. Readings are written by hand: see the names."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import pytest

from edgeopt.device.agent.readings import readings
from edgeopt.device.agent.watch import Watch
from edgeopt.device.conditions import compact, judge, remarks

QUIET = {
    "wall_s": 3.0, "own_cpu_s": 2.99, "waited_s": 0.0006, "others_cpu_s": 0.33, "seen_cores": 2,
    "steal_s": 0.01, "major_faults": 2, "swapped_in_pages": 0, "pressure_memory_s": 0.0,
}  # fmt: skip
COOL: dict[str, Any] = {
    "governor": ["ondemand"] * 4,
    "frequency_khz": [1_800_000] * 4,
    "limit_frequency_khz": [1_800_000] * 4,
    "temperature_c": {"thermal_zone0 cpu-thermal": 45.0},
    "passive_trip_c": {"thermal_zone0 cpu-thermal": 80.0},
    "cooling": {"cooling_device0 thermal-cpufreq-0": 0, "cooling_device1 pwm-fan": 0},
    "throttled_bits": 0,
    "power_supply": {
        "AC": {"type": "Mains", "online": "1"},
        "BAT0": {"type": "Battery", "status": "Charging", "capacity": "80"},
    },
    "time": 1000.0,
    "monotonic": 10.0,
}


def run(*between: dict[str, Any], after: dict[str, Any] | None = None, **usage: Any) -> Any:
    """Conditions of a run: what differs from the cool board in each reading."""
    return {
        "before": COOL,
        "during": {"readings": [COOL | row for row in between], "usage": QUIET | usage},
        "after": COOL | (after or {}),
    }


def test_a_quiet_cool_board_gives_no_reason_and_no_remark() -> None:
    assert judge(run({}, {}, {})) == () and remarks(run({})) == ()


@pytest.mark.parametrize(
    "absent",
    [
        {},
        {"before": {}, "after": {}},
        {"before": None, "during": None, "after": None},
        {"before": {"governor": [None, None]}, "during": {"readings": [{}, None], "usage": {}}},
        {"before": COOL, "during": {"readings": [{"time": "x", "cooling": [1]}]}, "after": {}},
    ],
)
def test_what_a_board_does_not_tell_gives_no_reason(absent: dict[str, Any]) -> None:
    assert judge(absent) == ()


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        ({"throttled_bits": 0x4}, "throttled"),
        ({"throttled_bits": 0x10000}, "under-voltage"),
        ({"undervoltage": 1}, "under-voltage"),
        ({"cooling": {"cooling_device0 thermal-cpufreq-0": 2}}, "slowed the processor to cool it"),
        ({"temperature_c": {"thermal_zone0 cpu-thermal": 81.0}}, "reached 80 degC"),
        ({"governor": ["powersave"] * 4}, "governor changed from ondemand to powersave"),
        ({"limit_frequency_khz": [900_000] * 4}, "limit changed from 1800000 to 900000"),
        ({"apex_temperature_millic": 90_000, "apex_trip_millic": 85_000}, "Edge TPU is at 90"),
        ({"time": 1003.0, "monotonic": 11.0}, "clock jumped by +2 s"),
        ({"time": 100.0, "monotonic": 11.0}, "clock jumped by -901 s"),
        ({"power_supply": {"AC": {"type": "Mains", "online": "0"}, "B": {"type": "Battery"}}},
         "unplugged during the run"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("when", ["between", "after"])
def test_one_reading_is_enough(reading: dict[str, Any], reason: str, when: str) -> None:
    found = judge(run({}, reading) if when == "between" else run({}, after=reading))
    assert len(found) == 1 and reason in found[0]


def test_a_fan_that_spins_up_slows_nothing() -> None:
    fan = {"cooling": {"cooling_device0 thermal-cpufreq-0": 0, "cooling_device1 pwm-fan": 4}}
    assert judge(run(fan, after=fan)) == ()


def test_what_was_throttled_before_the_run_alone_is_no_reason() -> None:
    old = {"throttled_bits": 0x50000}
    assert judge({"before": COOL | old, "during": {}, "after": COOL | old}) == ()


def test_a_clock_that_moves_under_a_busy_core_is_a_reason() -> None:
    slow = {"frequency_khz": [1_200_000] * 4}
    assert "clock moved between 1200000 and 1800000" in judge(run({}, {}, slow))[0]
    assert judge(run({"frequency_khz": [1_800_000, 600_000, 600_000, 600_000]}, {}, {})) == ()
    assert judge(run({"frequency_khz": [1_700_000] * 4}, {}, {})) == ()


def test_a_clock_that_is_held_and_falls_is_a_reason_at_once() -> None:
    held = {"governor": ["performance"] * 4}
    slow = held | {"frequency_khz": [1_500_000] * 4}
    found = judge({"before": COOL | held, "after": COOL | slow})
    assert "under a governor that holds it" in found[0]


def test_a_low_battery_is_a_reason_unless_it_charges() -> None:
    low = {"B": {"type": "Battery", "status": "Discharging", "capacity": "9"}}
    spent = COOL | {"power_supply": low}
    assert "battery is low (9%)" in judge({"before": spent, "after": spent})[0]
    charging = COOL | {"power_supply": {"B": low["B"] | {"status": "Charging"}}}
    assert judge({"before": charging, "after": charging}) == ()


@pytest.mark.parametrize(
    ("usage", "reason"),
    [
        ({"waited_s": 1.0}, "waited 25% of their time"),
        ({"others_cpu_s": 3.0}, "used 1 of its 2"),
        ({"steal_s": 0.3}, "took 9% of its time"),
        ({"quota_s": 0.3}, "quota held it back for 10%"),
        ({"major_faults": 900, "swapped_in_pages": 5000}, "swapped out: 900"),
        ({"pressure_memory_s": 0.5}, "memory was short"),
    ],
)
def test_what_others_do_to_a_run_is_a_reason(usage: dict[str, float], reason: str) -> None:
    found = judge(run({}, **usage))
    assert len(found) == 1 and reason in found[0]


@pytest.mark.parametrize(
    "usage",
    [
        {"own_cpu_s": 5.68, "waited_s": 0.237, "others_cpu_s": 0.21},  # the worst seen, 2 threads
        {"wall_s": 0.05, "own_cpu_s": 0.05, "others_cpu_s": 0.05},  # five ticks say nothing
        {"others_cpu_s": 3.0, "seen_cores": 64},
        {"major_faults": 900},
        {"waited_s": "a lot", "others_cpu_s": -4, "steal_s": True},
    ],
)
def test_the_noise_of_a_quiet_machine_is_none(usage: dict[str, Any]) -> None:
    assert judge(run({}, **usage)) == ()


def test_a_board_without_readings_is_called_unknown() -> None:
    silent = {"governor": [None, None], "frequency_khz": [None], "temperature_c": {}, "cooling": {}}
    assert "Conditions unknown" in remarks({"before": silent, "after": silent})[0]
    saving = COOL | {"governor": ["powersave"] * 4}
    assert "--prepare" in remarks({"before": saving, "after": saving})[0]


def test_a_run_that_ended_before_anybody_could_look_is_not_called_alone() -> None:
    short = {"before": COOL, "during": {"readings": [], "usage": {}}, "after": COOL}
    assert judge(short) == () and "unknown" in remarks(short)[0]
    ticks = run({}, wall_s=0.05)
    assert judge(ticks) == () and "run was too short" in remarks(ticks)[0]


def test_a_report_keeps_the_range_of_what_was_read_in_between() -> None:
    warm = {"temperature_c": {"thermal_zone0 cpu-thermal": 52.5}}
    during = compact(run({}, warm))["during"]
    assert during["temperature_c"] == {"thermal_zone0 cpu-thermal": [45.0, 52.5]}
    assert during["count"] == 2 and during["usage"] == QUIET and "readings" not in during


def watched(seconds: float) -> dict[str, Any]:
    """A loop that is busy for so long, watched as the agent watches its runs."""
    before, watch = readings(), Watch()
    watch.begin()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        watch.between()
    return {"before": before, "during": watch.end(), "after": readings()}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="nothing can be pinned here")
def test_a_busy_neighbour_on_the_same_core_is_noticed_by_its_use_of_the_core() -> None:
    """Both for real; by the kernel's counters, so that it does not matter what else runs here."""
    mine = os.sched_getaffinity(0)
    core = max(mine)
    os.sched_setaffinity(0, {core})
    words = [sys.executable, "-c", "while True: pass"]
    neighbour = subprocess.Popen(words)
    try:
        found = judge(watched(1.5))
    finally:
        os.sched_setaffinity(0, mine)
        neighbour.kill()
        neighbour.wait()
    shared = [reason for reason in found if "shared its cores" in reason]
    assert len(shared) == 1 and "waited" in shared[0] and "other processes used" in shared[0]


def test_a_watch_looks_at_most_twice_a_second_and_keeps_a_bounded_number() -> None:
    during = watched(1.2)["during"]
    assert 2 <= len(during["readings"]) <= 4
    watch = Watch()
    watch.begin()
    for _ in range(1000):
        watch.look()
    assert len(watch.kept) < 128 and watch.interval > 0.5
