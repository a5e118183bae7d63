"""What a board without Python says about clocks, heat and battery, and when that spoils a run."""

from __future__ import annotations

import pytest

from edgeopt.device.conditions import changed_conditions as reasons
from edgeopt.device.local import LocalTransport
from edgeopt.device.shell_conditions import parse_conditions, read_conditions

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
