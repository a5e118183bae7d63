"""A run ends soon after nobody waits for it any more, and lasts while somebody does."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeopt.device import local
from edgeopt.device.agent.attend import watch
from edgeopt.device.benchmark.runner import _ALONE
from edgeopt.device.killed import ran_out_of_memory
from edgeopt.device.local import LocalTransport
from edgeopt.device.transport import Completed

_PROGRAM = """
import os, sys, time
from edgeopt.device.agent.attend import attend
attend({silence})
print("begun", flush=True)
{work}
"""


def started(silence: float, work: str = "time.sleep(60)") -> subprocess.Popen[bytes]:
    text = _PROGRAM.format(silence=silence, work=work)
    pipe = subprocess.PIPE
    # A session of its own, as on a device: all of it is ended.
    process = subprocess.Popen(
        [sys.executable, "-c", text], stdin=pipe, stdout=pipe, start_new_session=True
    )
    assert process.stdout and process.stdout.readline() == b"begun\n"
    return process


def ended(process: subprocess.Popen[bytes]) -> int:
    code = process.wait(10)
    for pipe in (process.stdin, process.stdout):
        assert pipe
        pipe.close()
    return code


def test_a_run_ends_when_whoever_started_it_is_gone() -> None:
    process = started(silence=60)
    assert process.stdin
    process.stdin.close()
    assert ended(process) == -signal.SIGUSR1


def test_a_run_ends_when_the_link_falls_silent() -> None:
    assert ended(started(silence=0.3)) == -signal.SIGUSR1


def test_a_run_that_ends_by_itself_leaves_no_watcher(tmp_path: Path) -> None:
    told = tmp_path / "told"
    until = f"while not os.path.exists({str(told)!r}): time.sleep(0.01)"
    process = started(silence=60, work=until)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    watcher = int(children.read_text()) if children.exists() else 0
    told.touch()
    assert ended(process) == 0
    deadline = time.monotonic() + 10
    while watcher and Path(f"/proc/{watcher}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_whoever_waits_sends_a_beat_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "BEAT_S", 0.05)
    text = "import sys; print(sum(1 for _ in zip(range(3), sys.stdin)))"
    done = LocalTransport().attend([sys.executable, "-c", text], timeout_s=20)
    assert (done.exit_code, done.stdout) == (0, b"3\n")


def test_a_beat_keeps_a_run_alive_for_as_long_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A double of select tells when something came: no clock decides."""
    beats, alive = os.pipe()
    came, limits = iter([[beats], [beats], []]), []

    def double(files: list[int], _w: list[int], _x: list[int], limit: float) -> tuple[list[int]]:
        limits.append(limit)
        if now := next(came):
            os.write(alive, b"\n")
        return (now,)

    monkeypatch.setattr(select, "select", double)
    assert not watch(beats, -1, 7.0) and limits == [7.0, 7.0, 7.0]
    os.close(beats)
    os.close(alive)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_shell_ends_the_program_when_stdin_closes(shell: str, tmp_path: Path) -> None:
    lock, looks = str(tmp_path / "lock"), str(tmp_path / "looks")
    argv = [shell, "-c", _ALONE, shell, lock, "5", "60", ":", looks, "sleep", "60"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    assert done.returncode == 128 + signal.SIGUSR1


def test_a_shell_whose_read_has_a_limit_ends_a_program_nobody_waits_for(tmp_path: Path) -> None:
    lock, looks = str(tmp_path / "lock"), str(tmp_path / "looks")
    argv = ["bash", "-c", _ALONE, "bash", lock, "5", "1", ":", looks, "sleep", "60"]
    silent, ours = os.pipe()
    try:
        done = subprocess.run(argv, stdin=silent, capture_output=True, timeout=10)
    finally:
        os.close(silent)
        os.close(ours)
    assert done.returncode == 128 + signal.SIGUSR1


class Told:
    """A double of a transport whose board says `text`."""

    kind = name = "double"

    def __init__(self, text: str) -> None:
        self.text = text

    def run(self, argv: object, **_: object) -> Completed:
        return Completed(argv=(), exit_code=0, stdout=self.text.encode(), stderr=b"")


def test_the_kernels_word_counts_when_it_is_of_now() -> None:
    line = "Memory cgroup out of memory: Killed process 12 (python3) total-vm:1kB, anon-rss:2kB"
    said = ran_out_of_memory(Told(f"1010.5 33.1\n[ 1009.012345] {line}\n"))  # type: ignore[arg-type]
    assert "Killed process 12 (python3)" in said
    assert ran_out_of_memory(Told(f"9999.5 33.1\n[ 1009.012345] {line}\n")) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "x\n[1.0] Killed process", "5.0 1\ngarbage", "\0\n" * 9])
def test_a_board_that_says_nothing_of_use_has_said_nothing(text: str) -> None:
    assert ran_out_of_memory(Told(text)) == ""  # type: ignore[arg-type]
