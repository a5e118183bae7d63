"""adb waits a quarter of an hour on a dead link: a silent device is asked whether it is there.

The adb program here is a double, a script: no device and no server is behind it.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from edgeopt.device.adb import server
from edgeopt.device.adb.server import AdbProgram, find_program
from edgeopt.device.local import LocalTransport
from edgeopt.errors import DeviceError

_DOUBLE = """#!/bin/sh
# A double of adb: it answers `shell echo alive` while the file `there` lies beside it.
echo "$*" >>{folder}/asked
case "$*" in
disconnect*) ;;
*"echo alive") [ -e {folder}/there ] && echo alive || exec sleep 60;;
*) {command};;
esac
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_QUIET_S", 0.4)
    monkeypatch.setattr(server, "_ALIVE_S", 1.0)


def double(folder: Path, command: str, *, there: bool, serial: str = "double") -> AdbProgram:
    program = folder / "adb"
    program.write_text(_DOUBLE.format(folder=folder, command=command))
    program.chmod(0o755)
    if there:
        (folder / "there").touch()
    return AdbProgram(str(program), serial)


def asked(folder: Path) -> int:
    return (folder / "asked").read_text().count("echo alive")


def test_a_command_without_a_device_behind_it_ends_long_before_its_deadline(tmp_path: Path) -> None:
    adb = double(tmp_path, "exec sleep 60", there=False)
    start = time.monotonic()
    with pytest.raises(DeviceError, match="was lost: it does not answer any more") as raised:
        adb.to_device("shell", "long", timeout_s=60)
    assert time.monotonic() - start < 20 and raised.value.hint
    assert "timeout_s" not in raised.value.details


def test_a_silent_command_of_a_device_that_answers_is_waited_for(tmp_path: Path) -> None:
    adb = double(tmp_path, "sleep 1.5; echo done", there=True)
    assert adb.to_device("shell", "long", timeout_s=60).stdout == b"done\n"
    assert asked(tmp_path) >= 1 and not adb.lost


def test_a_command_that_prints_is_not_asked_about(tmp_path: Path) -> None:
    text = "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done"
    adb = double(tmp_path, text, there=False)
    assert adb.to_device("shell", "talks", timeout_s=60).exit_code == 0
    assert asked(tmp_path) == 0


def test_a_lost_device_is_not_asked_again(tmp_path: Path) -> None:
    adb = double(tmp_path, "exec sleep 60", there=False)
    with pytest.raises(DeviceError):
        adb.to_device("shell", "long", timeout_s=60)
    before = (tmp_path / "asked").read_text()
    with pytest.raises(DeviceError, match="was lost"):
        adb.to_device("shell", "clean up", timeout_s=60)
    assert (tmp_path / "asked").read_text() == before


@pytest.mark.parametrize(("serial", "times"), [("10.9.8.7:5555", 1), ("USB0123", 0)])
def test_a_network_link_that_is_lost_is_given_up(serial: str, times: int, tmp_path: Path) -> None:
    adb = double(tmp_path, "exec sleep 60", there=False, serial=serial)
    adb.doubted = True
    with pytest.raises(DeviceError, match="was lost"):
        adb.to_device("shell", "next", timeout_s=60)
    assert (tmp_path / "asked").read_text().count(f"disconnect {serial}") == times


def test_other_commands_under_way_hear_that_the_device_is_lost(tmp_path: Path) -> None:
    adb = double(tmp_path, "exec sleep 60", there=False)
    ended: list[str] = []

    def beat() -> None:
        try:
            adb.to_device("shell", "beat", timeout_s=60)
        except DeviceError as error:
            ended.append(error.message)

    other = threading.Thread(target=beat)
    other.start()
    adb.lost = True
    other.join(20)
    assert len(ended) == 1 and "was lost" in ended[0]


@pytest.mark.parametrize("there", [True, False])
def test_a_doubted_device_is_asked_before_the_next_command(there: bool, tmp_path: Path) -> None:
    adb = double(tmp_path, "echo done", there=there)
    adb.doubted = True
    if there:
        assert adb.to_device("shell", "next", timeout_s=60).stdout == b"done\n"
    else:
        with pytest.raises(DeviceError, match="was lost"):
            adb.to_device("shell", "next", timeout_s=60)
    assert (asked(tmp_path), adb.doubted, adb.lost) == (1, False, not there)


def test_a_deadline_is_kept_while_nothing_is_lost(tmp_path: Path) -> None:
    adb = double(tmp_path, "exec sleep 60", there=True)
    with pytest.raises(DeviceError, match="did not end within 2 s"):
        adb.to_device("shell", "long", timeout_s=2)
    assert not adb.lost


def test_a_watch_may_end_a_command_that_is_under_way(tmp_path: Path) -> None:
    said: list[float] = []

    def watch(quiet_s: float) -> bool:
        said.append(quiet_s)
        if len(said) > 3:
            raise DeviceError("Enough.", "")
        return False

    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    start = time.monotonic()
    with pytest.raises(DeviceError, match="Enough"):
        LocalTransport().run_watched(argv, watch, timeout_s=60)
    assert time.monotonic() - start < 20
    assert said == sorted(said)


class _CtrlC:
    """A double of an import that is interrupted."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "adbutils":
            raise KeyboardInterrupt


def test_ctrl_c_while_adb_is_being_looked_for_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "adbutils", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_CtrlC(), *sys.meta_path])
    with pytest.raises(KeyboardInterrupt):
        find_program()
