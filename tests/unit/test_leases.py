"""Leases, kept by a real shell on this machine: one owner at a time, and none for ever."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgeopt.cli.app import run as command_line
from edgeopt.device import Device, DeviceSpec, clean, connect, held
from edgeopt.device.leasing import holding
from edgeopt.device.leasing.lease import Board, Held
from edgeopt.device.local import LocalTransport
from edgeopt.device.transport import Completed
from edgeopt.errors import DeviceError, InputError
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent


@pytest.fixture
def spec(tmp_path: Path) -> DeviceSpec:
    return DeviceSpec(name="local", kind="local", workdir=str(tmp_path / "w"))


@pytest.fixture
def board(tmp_path: Path) -> Board:
    (tmp_path / "leases").mkdir()
    return Board(transport=LocalTransport(), folder=str(tmp_path / "leases"))


def take(board: Board, **changes: object) -> object:
    return board.take(purpose="test", wait_s=0, progress=Silent(), **changes)  # type: ignore[arg-type]


def written(board: Board, name: str, *, beat: int, boot: str = "", ttl: int = 60) -> None:
    """A lease as another machine writes it."""
    boot = boot or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    said = f"boot {boot}\nttl {ttl}\nowner otto@desk\npurpose a study\nsince yesterday\n"
    Path(board.folder, name).write_text(said)
    Path(board.folder, f"{name}-beat").write_text(f"{beat}\n")


def uptime() -> int:
    return int(float(Path("/proc/uptime").read_text().split()[0]))


def test_of_many_who_want_a_device_one_has_it_at_a_time(spec: DeviceSpec) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        with held(spec, purpose=f"job {number}", wait_s=60):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.05)
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_the_second_is_told_who_has_it_and_for_what(spec: DeviceSpec) -> None:
    first = held(spec, purpose="measuring a.tflite", wait_s=0)
    second = held(spec, purpose="measuring b.tflite", wait_s=0)
    with first, pytest.raises(DeviceError) as caught, second:
        raise AssertionError("two have it")
    assert "measuring a.tflite" in caught.value.message
    assert caught.value.details["lease"]["purpose"] == "measuring a.tflite"
    assert caught.value.exit_code == 5


def test_who_waits_gets_it_when_the_first_is_done(board: Board) -> None:
    first = board.take(purpose="first", wait_s=0, progress=Silent())
    told: list[str] = []

    class Shown(Silent):
        def stage(self, text: str, total: int | None = None, unit: str = "") -> None:
            told.append(text)
            board.drop(first.name)

    second = board.take(purpose="second", wait_s=30, progress=Shown())
    assert [lease.name for lease in board.leases()] == [second.name]
    assert "first" in told[0]


def test_a_lease_whose_owner_is_silent_too_long_is_over_and_removed(board: Board) -> None:
    written(board, "lease-aaaaaaaaaaaa-1-0", beat=uptime() - 61)
    assert take(board)
    assert not Path(board.folder, "lease-aaaaaaaaaaaa-1-0").exists()


def test_a_lease_of_another_machine_that_still_beats_is_kept(board: Board) -> None:
    written(board, "lease-aaaaaaaaaaaa-1-0", beat=uptime() - 30)
    with pytest.raises(DeviceError, match="otto@desk has it for a study"):
        take(board)


def test_a_reboot_ends_every_lease(board: Board) -> None:
    written(board, "lease-aaaaaaaaaaaa-1-0", beat=uptime(), boot="another")
    assert take(board)


def test_a_calendar_that_jumps_ends_no_lease(board: Board, tmp_path: Path) -> None:
    """The double of `date` says that a day has passed; nobody asks it where there is /proc."""
    double = tmp_path / "bin" / "date"
    double.parent.mkdir()
    double.write_text("#!/bin/sh\necho $(($(/bin/date +%s) + 86400))\n")
    double.chmod(0o755)

    class Jumped(LocalTransport):
        def run(self, argv: Sequence[str], **rest: object) -> Completed:
            path = f"PATH={double.parent}:/usr/bin:/bin"
            return super().run(["env", path, *argv], **rest)  # type: ignore[arg-type]

    take(board)
    with pytest.raises(DeviceError, match="in use"):
        take(Board(transport=Jumped(), folder=board.folder))


def test_what_a_killed_process_of_this_machine_held_is_free_at_once(spec: DeviceSpec) -> None:
    script = (
        "import os, sys; from edgeopt.device import DeviceSpec, held\n"
        "spec = DeviceSpec(name='local', kind='local', workdir=sys.argv[1])\n"
        "with held(spec, purpose='doomed', wait_s=0):\n    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(spec.workdir)], check=False)
    assert done.returncode == -9
    assert list(Path(str(spec.workdir)).glob("lease-*"))
    with held(spec, purpose="next", wait_s=0) as device:
        assert device.lease
    assert not list(Path(str(spec.workdir)).glob("*"))


def test_an_owner_whose_lease_was_ended_is_told(
    spec: DeviceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEOPT_LEASE_TTL", "4")
    with held(spec, purpose="mine", wait_s=0) as device:
        assert device.lease_reasons() == ()
        for file in Path(device.workspace.root).glob("lease-*"):
            file.unlink()
        deadline = time.monotonic() + 10
        while not device.lease_reasons() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "somebody ended it" in device.lease_reasons()[0]


def test_a_living_owner_keeps_its_lease_beyond_the_time_to_live(board: Board) -> None:
    lease = board.take(purpose="long", wait_s=0, progress=Silent(), ttl_s=3)
    with Held(board, lease) as keeper:
        time.sleep(4.2)
        with pytest.raises(DeviceError, match="in use"):
            take(board)
    assert keeper.lost == ""
    assert board.leases() == []


def test_names_that_a_device_makes_up_are_never_removed(tmp_path: Path) -> None:
    """The double answers like a hostile device: names that lead out of the folder."""
    asked: list[Sequence[str]] = []

    class Hostile(LocalTransport):
        def run(self, argv: Sequence[str], **rest: object) -> Completed:
            asked.append(argv)
            text = "lease lease-x/../../etc/passwd 99 same\n| ttl 1\nlease ../x 9 same\nend\n"
            return Completed(argv=tuple(argv), exit_code=0, stdout=text.encode(), stderr=b"")

    assert Board(transport=Hostile(), folder=str(tmp_path)).leases() == []
    assert len(asked) == 1


def test_a_purpose_is_text_and_never_a_command(board: Board, tmp_path: Path) -> None:
    purpose = f"$(touch {tmp_path}/pwned)`id`\n\x1b[2J'; owner root"
    lease = board.take(purpose=purpose, wait_s=0, progress=Silent())
    assert not (tmp_path / "pwned").exists()
    assert lease.purpose == f"$(touch {tmp_path}/pwned)`id` [2J'; owner root"
    assert lease.owner != "root"


def reserved(device: Device, for_s: int = 600) -> None:
    holding.reserve(device, purpose="study", for_s=for_s, wait_s=0, progress=Silent())


def test_a_reservation_outlives_the_process_and_lets_its_owner_in(
    spec: DeviceSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEOPT_STATE", str(tmp_path / "mine"))
    with connect(spec) as device:
        reserved(device)
    with held(spec, purpose="a run of mine", wait_s=0) as device:
        assert device.lease and device.lease["purpose"] == "a run of mine"
    monkeypatch.setenv("EDGEOPT_STATE", str(tmp_path / "theirs"))
    with pytest.raises(DeviceError, match="for study"), held(spec, purpose="another's", wait_s=0):
        raise AssertionError
    with connect(spec) as device, pytest.raises(DeviceError, match="not reserved by you"):
        holding.release(device, force=False)
    monkeypatch.setenv("EDGEOPT_STATE", str(tmp_path / "mine"))
    with connect(spec) as device:
        assert [lease.purpose for lease in holding.release(device, force=False)] == ["study"]
    assert (tmp_path / "mine").is_dir() and not list((tmp_path / "mine").iterdir())


def test_a_board_that_is_cleaned_stays_reserved(
    spec: DeviceSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEOPT_STATE", str(tmp_path / "mine"))
    with connect(spec) as device:
        reserved(device)
    with held(spec, purpose="devices clean", wait_s=0) as device:
        clean(device)
    with connect(spec) as device:
        assert [lease.purpose for lease in holding.release(device, force=False)] == ["study"]


def test_nothing_is_left_of_a_board_that_is_cleaned(spec: DeviceSpec) -> None:
    with held(spec, purpose="devices clean", wait_s=0) as device:
        folder = Path(device.workspace.root)
        clean(device)
    assert not folder.exists()


def test_what_cannot_be_noted_here_is_not_reserved(
    spec: DeviceSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEOPT_STATE", str(tmp_path / "file" / "state"))
    with connect(spec) as device:
        with pytest.raises(InputError, match="Reservations cannot be noted"):
            reserved(device)
        assert holding.board_of(device).leases() == []


def test_several_logins_may_share_one_folder_of_leases(spec: DeviceSpec, tmp_path: Path) -> None:
    shared = DeviceSpec(**{**vars(spec), "lease_dir": str(tmp_path / "shared")})
    other = DeviceSpec(**{**vars(shared), "workdir": str(tmp_path / "other")})
    first, second = (held(s, purpose=s.workdir or "", wait_s=0) for s in (shared, other))
    with first, pytest.raises(DeviceError, match=f"for {shared.workdir}"), second:
        raise AssertionError
    assert oct((tmp_path / "shared").stat().st_mode)[-4:] == "1777"


@pytest.mark.parametrize("text", ["3", "soon", "-1"])
def test_an_impossible_time_to_live_is_refused(
    board: Board, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("EDGEOPT_LEASE_TTL", text)
    with pytest.raises(InputError, match="EDGEOPT_LEASE_TTL"):
        take(board)


Run = Callable[..., tuple[int, dict[str, object]]]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """The command line, in this process: leases are told apart by their names."""
    for name in ("CACHE", "CONFIG", "STATE"):
        monkeypatch.setenv(f"EDGEOPT_{name}", str(tmp_path / name))

    def run(*words: str) -> tuple[int, dict[str, object]]:
        code = command_line([*words, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_the_command_line_shows_reserves_and_releases(call: Run) -> None:
    assert call("devices", "reserve", "local", "--for", "90m", "--purpose", "drift")[0] == 0
    code, document = call("devices", "leases", "local")
    row = document["devices"][0]  # type: ignore[index]
    assert (code, row["state"], row["lease"]["purpose"]) == (0, "held", "drift")
    assert call("devices", "leases", "local,local")[1]["devices"][0]["state"] == "held"  # type: ignore[index]
    assert call("devices", "leases", "--tag", "rpi")[0] == 2
    assert 5300 < row["lease"]["expires_in_s"] <= 5400
    assert call("devices", "release", "local")[0] == 0
    assert call("devices", "release", "local")[0] == 5
    assert call("devices", "reserve", "local", "--for", "soon")[0] == 2


def test_a_benchmark_of_a_device_in_use_ends_with_5_when_it_may_not_wait(
    call: Run, tmp_path: Path
) -> None:
    spec = DeviceSpec(name="x", kind="local", workdir=str(tmp_path / "CACHE" / "device"))
    with held(spec, purpose="a long study", wait_s=0):
        model = str(demo_dir() / "fashion.tflite")
        code, document = call("benchmark", model, "--wait", "0", "--runs", "3")
    assert code == 5
    assert "a long study" in document["error"]["message"]  # type: ignore[index]
