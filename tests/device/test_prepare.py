"""A board is prepared and put back, whatever ends the run; disturbed runs are not believed.

A real sshd, whose board has a /sys of its own: folders with the files that a kernel would show.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tools.sshd import Sshd

from edgeopt.paths import demo_dir

pytestmark = pytest.mark.device
CORES = 4
LONG = ("--runs", "10000000", "--warmup", "0", "--processes", "1", "--timeout", "60")

SECONDS = ("--runs", "60000", "--warmup", "0", "--max-time", "1")  # of runs, in one process


class Board:
    """The sshd's board and its /sys."""

    def __init__(self, sshd: Sshd, tmp_path: Path) -> None:
        self.sshd, self.folder = sshd, tmp_path
        self.started: list[subprocess.Popen[str]] = []
        self.sys = tmp_path / "sys"
        for core in range(CORES):
            base = f"devices/system/cpu/cpu{core}"
            self.write(f"{base}/cpu_capacity", 1024 if core else 400)
            self.write(f"{base}/cpufreq/scaling_governor", "ondemand")
            self.write(f"{base}/cpufreq/scaling_available_governors", "ondemand performance")
            for name in ("scaling_cur_freq", "scaling_max_freq", "cpuinfo_max_freq"):
                self.write(f"{base}/cpufreq/{name}", 1_800_000)
        self.write("class/thermal/thermal_zone0/type", "cpu-thermal")
        self.heat(45_000)
        assert sshd.inside("mount", "--rbind", str(self.sys), "/sys").wait() == 0
        (tmp_path / "devices.toml").write_text(
            f'schema = 1\n[devices.board]\nurl = "{sshd.url}"\nkey = "{sshd.key}"\n'
            f'python = "{sys.executable}"\n'
        )

    def write(self, name: str, value: object) -> None:
        path = self.sys / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")

    def heat(self, millic: int) -> None:
        self.write("class/thermal/thermal_zone0/temp", millic)

    @property
    def governors(self) -> list[str]:
        folder = self.sys / "devices" / "system" / "cpu"
        return [
            (folder / f"cpu{n}" / "cpufreq" / "scaling_governor").read_text().strip()
            for n in range(CORES)
        ]

    @property
    def records(self) -> list[Path]:
        return list((self.sshd.home / ".cache" / "edgeopt").glob("prepared-*"))

    def start(self, *flags: str) -> subprocess.Popen[str]:
        words = ("benchmark", str(demo_dir() / "fashion.tflite"), "--device", "board", "--json")
        return self.edgeopt(*words, *flags)

    def edgeopt(self, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeopt", *words],
            cwd=self.folder,
            env=os.environ | {"EDGEOPT_LEASE_TTL": "6"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate(timeout=30)


@pytest.fixture
def board(sshd: Sshd, tmp_path: Path) -> Iterator[Board]:
    sshd.trust()
    board = Board(sshd, tmp_path)
    yield board
    board.end()


def until(true: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < end:
        time.sleep(0.05)
    return found  # asked once more, an act like a kill would find nothing left to do


def measuring(board: Board) -> bool:
    """Has the agent computed for long enough to be among its runs? On a busy machine that takes
    longer by the clock, but not by its own."""
    ticks = os.sysconf("SC_CLK_TCK")
    for pid in board.sshd.sessions():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            spent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        except OSError:
            continue
        if words[0] == sys.executable.encode() and sum(map(int, spent)) / ticks > 1.0:
            return True
    return False


def answer(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, json.loads(out), err


def prepared(board: Board) -> bool:
    return board.governors == ["performance"] * CORES


AS_BEFORE = ["ondemand"] * CORES


def test_a_prepared_run_is_pinned_to_a_big_core_and_the_governor_is_put_back(board: Board) -> None:
    process = board.start("--prepare", "--runs", "200")
    assert until(lambda: prepared(board)) and len(board.records) == 1
    assert board.records[0].stat().st_mode & 0o777 == 0o600
    code, document, err = answer(process)
    assert code == 0, err
    ready = document["preparation"]
    usable = sorted(os.sched_getaffinity(0))
    assert ready["cores"] == [max(core for core in usable if core < CORES)]
    assert ready["governor_before"] == {str(n): "ondemand" for n in range(CORES)}
    assert ready["restored"] is True and ready["notes"] == []
    assert board.governors == AS_BEFORE and board.records == []
    assert document["device"]["facts"]["usable_cores"] == 1


@pytest.mark.slow
def test_an_unprepared_run_touches_nothing(board: Board) -> None:
    code, document, err = answer(board.start("--runs", "20"))
    assert code == 0, err
    assert document["preparation"] is None and board.governors == AS_BEFORE


@pytest.mark.parametrize(
    "how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_run_that_is_stopped_puts_the_governor_back(board: Board, how: int) -> None:
    process = board.start("--prepare", *LONG)
    assert until(lambda: prepared(board))
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode in (130, 143)
    assert board.governors == AS_BEFORE and board.records == []


def test_a_host_that_is_killed_leaves_a_watcher_that_puts_it_back(board: Board) -> None:
    process = board.start("--prepare", *LONG)
    assert until(lambda: prepared(board))
    process.kill()
    process.communicate(timeout=30)
    assert until(lambda: board.governors == AS_BEFORE and not board.records)


def kill(pid: int) -> bool:
    """Kill it if it is the agent itself, not a shell around it."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    agent = words[0] == sys.executable.encode()
    if agent:
        os.kill(pid, signal.SIGKILL)
    return agent


def test_an_agent_that_is_killed_ends_the_run_with_the_governor_put_back(board: Board) -> None:
    process = board.start("--prepare", *LONG)
    assert until(lambda: board.sshd.running(".pyz"))
    assert until(lambda: any(kill(pid) for pid in board.sshd.sessions()))
    code, document, err = answer(process)
    assert code == 5 and "out of memory" in err
    assert document["preparation"]["restored"] is True
    assert board.governors == AS_BEFORE and board.records == []


def kill_all(board: Board, process: subprocess.Popen[str]) -> None:
    """The host, and what it left on the device: the watcher too."""
    assert until(lambda: prepared(board) and bool(board.records))
    assert until(lambda: "watcher" in board.records[0].read_text())
    watcher = int(board.records[0].read_text().split("watcher ")[1].split()[0])
    process.kill()
    process.communicate(timeout=30)
    os.killpg(watcher, signal.SIGKILL)


@pytest.mark.parametrize(
    "words",
    [("devices", "clean", "board"), pytest.param(("benchmark",), marks=pytest.mark.slow)],
)
def test_what_still_remains_is_put_back_by_the_next_session(
    board: Board, words: tuple[str, ...]
) -> None:
    kill_all(board, board.start("--prepare", *LONG))
    assert prepared(board)
    if words[0] == "benchmark":
        code, document, err = answer(board.start("--runs", "20"))
    else:
        process = board.edgeopt(*words, "--json")
        code, document, err = answer(process)
    assert code == 0, err
    assert board.governors == AS_BEFORE and board.records == [], document


@pytest.mark.slow
def test_what_somebody_else_set_meanwhile_is_left(board: Board) -> None:
    process = board.start("--prepare", *LONG)
    assert until(lambda: prepared(board))
    board.write("devices/system/cpu/cpu2/cpufreq/scaling_governor", "userspace")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert board.governors == ["ondemand", "ondemand", "userspace", "ondemand"]


@pytest.mark.slow
def test_what_is_not_permitted_is_said_and_nothing_is_left(board: Board) -> None:
    assert board.sshd.inside("mount", "-o", "remount,bind,ro", "/sys").wait() == 0
    code, document, err = answer(board.start("--prepare", "--runs", "20"))
    assert code == 0, err
    ready = document["preparation"]
    assert ready["governor_refused"] == {str(n): "ondemand" for n in range(CORES)}
    assert "not permitted (prepare_command" in " ".join(document["notes"])
    assert board.governors == AS_BEFORE and board.records == []


@pytest.mark.slow
def test_the_command_of_devices_toml_writes_and_puts_back(board: Board) -> None:
    """In place of sudo: a double that notes each call, and runs it."""
    double, log = board.folder / "sudo-double", board.folder / "calls"
    double.write_text(f'#!/bin/sh\necho "$*" >>{log}\nshift; exec "$@"\n')
    double.chmod(0o755)
    with (board.folder / "devices.toml").open("a") as file:
        file.write(f'prepare_command = "{double} -n"\n')
    code, document, err = answer(board.start("--prepare", "--runs", "20"))
    assert code == 0, err
    assert document["preparation"]["restored"] is True and board.governors == AS_BEFORE
    calls = log.read_text().splitlines()
    assert len(calls) == 2 * CORES and all(call.startswith("-n tee /sys/") for call in calls)


def test_a_core_that_is_not_there_is_refused(board: Board) -> None:
    code, document, _ = answer(board.start("--cores", "77"))
    assert code == 2 and "no core 77" in document["error"]["message"]


@pytest.mark.parametrize(
    ("file", "value", "reason"),
    [
        ("class/thermal/cooling_device0/cur_state", 2, "slowed the processor to cool it"),
        pytest.param(
            "devices/system/cpu/cpu1/cpufreq/scaling_max_freq",
            900_000,
            "frequency limit changed",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "devices/platform/soc/soc:firmware/get_throttled",
            "50005",
            "under-voltage",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_board_that_throttles_during_the_run_is_not_believed(
    board: Board, file: str, value: object, reason: str
) -> None:
    board.write("class/thermal/cooling_device0/type", "thermal-cpufreq-0")
    board.write("class/thermal/cooling_device0/cur_state", 0)
    board.write("devices/platform/soc/soc:firmware/get_throttled", "0")
    process = board.start("--conditions", "judge", *SECONDS)
    assert until(lambda: measuring(board))
    board.write(file, value)
    code, document, err = answer(process)
    assert code == 6 and reason in document["error"]["message"], err
    assert document["measurement"]["valid"] is False
    assert document["measurement"]["samples_ns"]


@pytest.mark.slow
def test_a_retry_waits_until_the_board_is_as_cool_as_it_was(board: Board) -> None:
    board.write("class/thermal/cooling_device0/type", "thermal-cpufreq-0")
    board.write("class/thermal/cooling_device0/cur_state", 0)
    stop = threading.Event()

    def kernel() -> None:
        """Heats up under the first process, then cools slowly."""
        until(lambda: measuring(board))
        board.heat(85_000)
        board.write("class/thermal/cooling_device0/cur_state", 3)
        quiet = time.monotonic()
        while time.monotonic() < quiet + 2.5 and not stop.wait(0.05):
            if board.sshd.running(".pyz"):
                quiet = time.monotonic()
        board.write("class/thermal/cooling_device0/cur_state", 0)
        board.heat(45_500)

    thread = threading.Thread(target=kernel)
    thread.start()
    flags = ("--retries", "1", "--cool-down", "20", *SECONDS)
    code, document, err = answer(board.start("--conditions", "judge", *flags))
    stop.set()
    thread.join()
    tries = document["tries"]
    shared = "shared its cores"
    assert len(tries) == 2 and "to cool it" in " ".join(tries[0]["invalid_reasons"]), err
    assert tries[0]["cool_down"]["cooled"] is True
    assert 0 < tries[0]["cool_down"]["waited_s"] < 20
    last = " ".join(tries[1]["invalid_reasons"])
    assert "to cool it" not in last and (code == 0 or shared in last)
