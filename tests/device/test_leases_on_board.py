"""Two users and one board behind a real sshd: who waits, who is told, who never disturbs whom."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tools.sshd import Sshd
from tools.user import User

from edgeopt.paths import demo_dir

pytestmark = pytest.mark.device


class Measurer(User):
    """A user whose measurements are of one process, and whose lease ends 8 s after his death."""

    def __init__(self, board: Sshd, home: Path, name: str) -> None:
        super().__init__(board, home, name, alone=True, EDGEOPT_LEASE_TTL="8")

    def measures(self, *words: str) -> tuple[int, dict[str, Any]]:
        return self.call(*_benchmark(*words))

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """A measurement that has the board when this returns."""
        process = subprocess.Popen(
            self.argv(*_benchmark(*words), "--json"),
            env=self.env(),
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 60
        work = self.board.home / ".cache/edgeopt"
        while not list(work.glob("lease-*-beat")) and time.monotonic() < end:
            time.sleep(0.02)
        return process


def _benchmark(*words: str) -> list[str]:
    model = str(demo_dir() / "fashion.tflite")
    return ["benchmark", model, "--device", "board", "--processes", "1", *words]


@pytest.fixture
def users(sshd: Sshd, tmp_path: Path) -> tuple[Measurer, Measurer]:
    first, second = (Measurer(sshd, tmp_path / name, name) for name in ("anna", "otto"))
    return first, second


def test_the_second_user_is_told_shown_and_served_in_turn(users: tuple[Measurer, Measurer]) -> None:
    anna, otto = users
    running = anna.start("--runs", "60000", "--warmup", "0")
    code, document = otto.measures("--wait", "0", "--runs", "5")
    assert code == 5
    assert "anna has it for measuring fashion" in document["error"]["message"]
    _, shown = otto.call("devices", "leases")
    assert [(r["state"], r["lease"]["owner"]) for r in shown["devices"]] == [("held", "anna")]
    code, document = otto.measures("--wait", "100", "--runs", "5")
    assert (code, document["device"]["lease"]["owner"]) == (0, "otto")
    assert document["device"]["lease"]["waited_s"] > 0.5
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 0 and json.loads(out)["measurement"]["valid"] is not None
    assert not list((anna.board.home / ".cache/edgeopt").glob("lease-*"))


def test_the_lease_of_a_killed_machine_expires(users: tuple[Measurer, Measurer]) -> None:
    anna, otto = users
    running = anna.start("--runs", "10000000", "--warmup", "0")
    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=20)
    assert otto.measures("--wait", "0", "--runs", "5")[0] == 5
    code, document = otto.measures("--wait", "60", "--runs", "5")
    assert (code, document["error"]) == (0, None)
    assert 1 < document["device"]["lease"]["waited_s"] < 30
    left = (anna.board.home / ".cache/edgeopt").glob("lease-*")
    assert list(left) == []


def test_measurements_of_two_users_never_overlap(users: tuple[Measurer, Measurer]) -> None:
    """By the board's own clock, which both agents read before and after."""
    started = [user.start("--runs", "20000", "--warmup", "0") for user in users]
    documents = [json.loads(process.communicate(timeout=120)[0]) for process in started]
    spans = sorted(_span(document) for document in documents)
    assert spans[0][1] <= spans[1][0]


def _span(document: dict[str, Any]) -> tuple[float, float]:
    conditions = document["measurement"]["conditions"]
    return conditions["before"]["time"], conditions["after"]["time"]


def test_a_board_without_space_for_a_lease_can_still_be_cleaned(
    sshd: Sshd, users: tuple[Measurer, Measurer]
) -> None:
    anna, _ = users
    work = sshd.home / ".cache/edgeopt"
    sshd.mount_tmpfs(work, "size=64k,mode=700")
    ours = work / f"{'a' * 64}.tflite"
    sshd.inside("sh", "-c", f"cat /dev/zero >{ours}; cat /dev/zero >{work}/filled").wait()
    code, refused = anna.call("devices", "reserve", "board", "--for", "1h")
    assert code == 5 and "no space left for a lease" in refused["error"]["message"]
    code, cleaned = anna.call("devices", "clean", "board")
    assert code == 0 and cleaned["freed_bytes"] > 32_000
    assert anna.call("devices", "reserve", "board", "--for", "1h")[0] == 0
