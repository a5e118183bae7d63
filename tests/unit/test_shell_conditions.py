"""What a board without Python says about clocks, heat and battery, and when that spoils a run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgeopt.device.conditions import changed_conditions as reasons
from edgeopt.device.local import LocalTransport
from edgeopt.device.shell_conditions import (
    BETWEEN,
    parse_between,
    parse_conditions,
    read_conditions,
)

PHONE = """governor 0=schedutil
governor 10=walt
governor 2=performance
limit_frequency_khz 0=1800000
zone 3=cpu-0
millic 3=41500
thermal_status=1
battery level=87
battery temperature=305
battery USB powered=true
sha256=abc"""


def test_a_phones_answers_become_values_with_units() -> None:
    found, sha256 = parse_conditions(PHONE)
    assert found["governor"] == ["schedutil", "performance", "walt"]
    assert found["limit_frequency_khz"] == [1800000]
    assert found["temperature_c"] == {"thermal_zone3 cpu-0": 41.5}
    assert found["thermal_status"] == 1
    assert found["battery"] == {"level_percent": 87, "temperature_c": 30.5, "powered": True}
    assert sha256 == "abc"


def test_what_is_absent_is_none() -> None:
    found, sha256 = parse_conditions("sha256=\n")
    assert (found["thermal_status"], found["battery"], sha256) == (None, None, "")


@pytest.mark.parametrize(
    "text", ["\x00\xff=", "thermal_status=" + "9" * 5000, "millic 1=1e9", "==="]
)
def test_garbage_is_dropped(text: str) -> None:
    found, _ = parse_conditions(text)
    assert found["thermal_status"] is None
    assert found["temperature_c"] == {}


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ({"thermal_status": 0}, {"thermal_status": 1}, "changed from 0 (none) to 1 (light)"),
        ({"thermal_status": 3}, {"thermal_status": 3}, "throttles"),
        ({"governor": ["a"]}, {"governor": ["b"]}, "governor changed"),
        ({"limit_frequency_khz": [2]}, {"limit_frequency_khz": [1]}, "limit changed"),
    ],
)
def test_a_board_that_slowed_down_spoils_the_run(
    before: dict[str, object], after: dict[str, object], reason: str
) -> None:
    assert reason in reasons(before, after)[0]


@pytest.mark.parametrize("status", [0, 1, None])
def test_a_steady_cool_board_does_not(status: int | None) -> None:
    assert reasons({"thermal_status": status}, {"thermal_status": status}) == ()


def test_this_machine_answers_the_script(tmp_path: object) -> None:
    from pathlib import Path

    assert isinstance(tmp_path, Path)
    (tmp_path / "m").write_bytes(b"abc")
    _, sha256 = read_conditions(LocalTransport(), str(tmp_path / "m"))
    assert sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_program_is_looked_at_while_it_runs_by_what_the_kernel_counts() -> None:
    program = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    look = subprocess.Popen(
        ["sh", "-c", BETWEEN, "edgeopt", str(program.pid)], stdout=subprocess.PIPE, text=True
    )
    heard: list[str] = []
    with look:
        assert look.stdout
        while heard.count("look\n") < 3:  # so two looks are whole
            heard.append(look.stdout.readline())
        program.kill()
        program.wait()
        heard.append(look.stdout.read())
    found = parse_between("".join(heard))
    usage = found["usage"]
    assert len(found["readings"]) >= 2 and usage["wall_s"] >= 0.5
    assert 0 < usage["own_cpu_s"] <= usage["wall_s"] + 0.1
    ticks = 0.05  # the two counters are not read in one moment
    assert usage["busy_s"] >= usage["own_cpu_s"] - ticks
    assert usage["seen_cores"] == os.cpu_count()


def test_a_program_that_ends_within_a_second_is_looked_at_twice() -> None:
    program = subprocess.Popen(["sh", "-c", "sleep 0.8"])
    argv = ["sh", "-c", f"{BETWEEN}", "edgeopt", str(program.pid)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as look:
        program.wait()
        assert look.stdout
        said = look.stdout.read()
    assert parse_between(said)["usage"]["seen_cores"] == os.cpu_count()


LOOK = """
look
uptime={uptime}
own=7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 {own} 20 0 0
machine 0={busy} 0 0 50 0 0 0 0 0 0
machine 1=90 0 0 50 0 0 0 0 0 0
waited 7=1 {waited} 3
"""


def test_others_use_is_what_is_left_of_the_cores_that_are_asked_for() -> None:
    rows = [(10.5, 100, 200, 0), (12.5, 200, 500, 10**9), (99, 0, 0, 0)]
    text = "".join(LOOK.format(uptime=u, own=o, busy=b, waited=w) for u, o, b, w in rows)
    usage = parse_between(text, cores=(0,))["usage"]
    assert (usage["wall_s"], usage["own_cpu_s"], usage["busy_s"]) == (2.0, 1.0, 3.0)
    assert (usage["others_cpu_s"], usage["waited_s"], usage["seen_cores"]) == (2.0, 1.0, 1)


@pytest.mark.parametrize("text", ["", "look\n", "look\nown=1\nlook\nuptime=1e9\nlook\n", "\0\xff"])
def test_looks_that_make_no_sense_say_nothing(text: str) -> None:
    assert parse_between(text)["usage"] == {}
