"""Which cores a run is pinned to, what prepare_command may be, and when a board is cool again."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgeopt.device import resolve
from edgeopt.device.preparing.cool_down import is_cool
from edgeopt.device.preparing.cores import Core, choose, core_list, mask, pinned
from edgeopt.device.preparing.scripts import SURVEY
from edgeopt.errors import InputError


def cores(*capacities: int, khz: int | None = None) -> list[Core]:
    return [Core(number=n, capacity=c, max_khz=khz) for n, c in enumerate(capacities)]


def test_big_cores_are_chosen_by_their_capacity() -> None:
    phone = cores(250, 250, 250, 250, 760, 760, 760, 1024)
    assert choose(phone, 1) == ((7,), "of the highest capacity")
    assert choose(phone, 2)[0] == (6, 7)
    assert choose(phone, 6)[0] == (2, 3, 4, 5, 6, 7)[-6:]


def test_without_capacities_the_highest_clock_decides() -> None:
    board = [Core(number=n, max_khz=khz) for n, khz in enumerate((1_400_000, 1_800_000))]
    assert choose(board, 1) == ((1,), "of the highest clock")


def test_among_equals_core_0_is_last_and_halves_of_one_core_are_apart() -> None:
    assert choose(cores(1024, 1024, 1024, 1024), 1) == ((3,), "all cores are alike")
    halves = [Core(number=n, siblings=(n, n ^ 1)) for n in range(4)]
    assert choose(halves, 2)[0] == (1, 3)


def test_isolated_cores_go_first() -> None:
    assert choose(cores(1024, 1024, 1024), 1, isolated=(1,)) == ((1,), "isolated by the kernel")


def test_more_threads_than_cores_take_all_of_them() -> None:
    assert choose(cores(1024, 1024), 8)[0] == (0, 1) and choose([], 2) == ((), "")


def test_cores_are_written_as_the_kernel_does() -> None:
    assert core_list("0-2,5") == (0, 1, 2, 5)
    assert mask((0, 1, 2, 5)) == "27" and pinned(["a"], (3,)) == ["taskset", "8", "a"]
    assert pinned(["a"], ()) == ["a"]


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1;reboot", "99999", "٣", "1-"])
def test_what_is_no_list_of_cores_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="list of cores"):
        core_list(text)


def device(tmp_path: Path, line: str) -> Any:
    (tmp_path / "devices.toml").write_text(
        f'schema = 1\n[devices.pi]\nurl = "ssh://pi@10.0.0.5"\n{line}\n'
    )
    return resolve("pi", folders=[tmp_path])


def test_sudo_is_used_only_where_devices_toml_says_so(tmp_path: Path) -> None:
    assert device(tmp_path, "").prepare_command == ()
    assert device(tmp_path, 'prepare_command = "sudo -n"').prepare_command == ("sudo", "-n")


@pytest.mark.parametrize("value", ['"-n"', '"it\'s"', '""', "3"])
def test_what_is_no_command_is_refused_with_its_line(tmp_path: Path, value: str) -> None:
    with pytest.raises(InputError, match=r"devices\.toml:4"):
        device(tmp_path, f"prepare_command = {value}")


@pytest.mark.parametrize(
    ("now", "cool"),
    [
        ({"temperature_c": {"cpu": 45.9}}, True),
        ({"temperature_c": {"cpu": 60.0}}, False),
        ({"temperature_c": {"cpu": 45.0}, "throttled_bits": 0x4}, False),
        ({"temperature_c": {"cpu": 45.0}, "throttled_bits": 0x40000}, True),
        ({"temperature_c": {}}, None),
        ({"throttled_bits": 0x2}, False),
        ({"apex_temperature_millic": 70_000}, False),
    ],
)
def test_a_board_is_cool_when_it_is_as_it_was(now: dict[str, Any], cool: bool | None) -> None:
    start = {"temperature_c": {"cpu": 45.0}, "apex_temperature_millic": 50_000}
    assert is_cool(start, now) is cool


@pytest.mark.parametrize("shell", ["dash", "bash --posix", "mksh", "busybox sh"])
def test_every_shell_finds_the_halves_of_this_machines_cores(shell: str) -> None:
    """Against the kernel's own files, which answer a shell's `read` with nothing."""
    words = shell.split()
    if not shutil.which(words[0]):
        pytest.skip(f"no {words[0]} here")
    said = subprocess.run([*words, "-c", SURVEY], capture_output=True, text=True, check=True).stdout
    known = {
        f"siblings {core} {path.read_text().strip()}"
        for core in range(os.cpu_count() or 1)
        if (
            path := Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        ).exists()
    }
    assert known <= set(said.splitlines())
