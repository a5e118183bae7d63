"""The command line against a real board that fails: killed, cut off, full, mute, hot or hostile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tools.sshd import Sshd, why_no_sshd

from edgeopt.paths import demo_dir

pytestmark = pytest.mark.device
HELLO = '{"event":"hello","schema":"edgeopt.agent/1"}'


@dataclass(frozen=True)
class Lab:
    """One board, and edgeopt as a user calls it: in a folder and a home of his own."""

    board: Sshd
    folder: Path

    def argv(self, *words: object, python: str = sys.executable) -> list[str]:
        model = str(demo_dir() / "fashion.tflite")
        fixed = ["benchmark", model, "--device-python", python, "--json"]
        where = [] if "--device" in words else ["--device", self.board.url]
        return [sys.executable, "-m", "edgeopt", *fixed, *where, *map(str, words)]

    def run(self, *words: object, python: str = sys.executable) -> tuple[int, dict[str, Any]]:
        argv = self.argv("--runs", 10, *words, python=python)
        done = subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, timeout=60)
        return done.returncode, json.loads(done.stdout)

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        """A run that is under way on the board when this returns."""
        argv = self.argv(*words)
        silent = subprocess.DEVNULL
        process = subprocess.Popen(argv, cwd=self.folder, stdout=subprocess.PIPE, stderr=silent)
        deadline = time.monotonic() + 30
        while not self.board.running(".py") and time.monotonic() < deadline:
            time.sleep(0.02)
        return process

    def program(self, text: str) -> str:
        """A program on the board that is named as its Python."""
        file = self.board.folder / "no-python"
        file.write_text(text)
        file.chmod(0o755)
        return str(file)

    def left(self) -> list[str]:
        """What only a running session may have there."""
        work = self.board.home / ".cache/edgeopt"
        return [p.name for p in work.glob("*") if p.name.startswith(("tmp-", "run-"))]


def equip(board: Sshd, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (folder / ".ssh").mkdir(mode=0o700)
    shutil.copy(board.key, folder / ".ssh/id_ed25519")
    board.trust()
    return Lab(board, folder)


@pytest.fixture
def lab(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return equip(sshd, tmp_path / "user", monkeypatch)


@pytest.fixture
def cable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A board behind a cable that can be cut."""
    if reason := why_no_sshd():
        pytest.skip(reason)
    with Sshd(tmp_path / "far", link=True) as board:
        yield equip(board, tmp_path / "user", monkeypatch)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_killed_here_ends_there_and_the_next_one_works(
    lab: Lab, number: signal.Signals
) -> None:
    process = lab.start("--runs", 10_000_000)
    process.send_signal(number)
    process.communicate(timeout=15)
    deadline = time.monotonic() + 4  # without a listener the agent notices at its next line
    while lab.board.running(".py") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not lab.board.running(".py")
    assert process.returncode == {2: 130, 9: -9, 15: 143}[number]
    code, _ = lab.run()
    assert (code, lab.left()) == (0, [])


def test_two_runs_at_once_that_keep_nothing_do_not_disturb_each_other(lab: Lab) -> None:
    lab.run()
    first = lab.start("--runs", 20_000, "--no-keep")
    code, document = lab.run("--no-keep")
    assert (code, document["error"]) == (0, None)
    first.communicate(timeout=60)
    assert first.returncode == 0
    assert list(lab.board.home.iterdir()) == []


def test_a_cable_cut_while_it_runs_is_exit_5_within_seconds(cable: Lab) -> None:
    process = cable.start("--runs", 10_000_000)
    start = time.monotonic()
    cable.board.cut()
    answer, _ = process.communicate(timeout=30)
    assert (process.returncode, json.loads(answer)["error"]["kind"]) == (5, "device")
    assert "was lost" in json.loads(answer)["error"]["message"]
    assert time.monotonic() - start < 15


def test_a_board_that_is_off_is_exit_5_at_the_deadline(cable: Lab) -> None:
    cable.board.cut()
    start = time.monotonic()
    code, document = cable.run()
    assert (code, document["error"]["kind"]) == (5, "device")
    assert time.monotonic() - start < 20


def test_a_cable_cut_while_it_connects_is_exit_5(cable: Lab) -> None:
    timer = threading.Timer(0.5, cable.board.cut)  # about when the handshake begins
    timer.start()
    code, document = cable.run("--runs", 10_000_000)
    timer.join()
    assert (code, document["error"]["kind"]) == (5, "device")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("size=4k,mode=700", "no space left"),
        ("ro,mode=700", "Read-only file system"),
        ("nr_inodes=1,mode=700", "No space left"),
    ],
)
def test_a_board_without_room_is_exit_5_and_says_so(lab: Lab, options: str, said: str) -> None:
    lab.board.mount_tmpfs(lab.board.home / ".cache", options)
    code, document = lab.run()
    assert code == 5 and said in document["error"]["message"]


def test_a_work_folder_without_exec_is_enough(lab: Lab) -> None:
    lab.board.mount_tmpfs(lab.board.home / ".cache", "noexec,size=20m,mode=700")
    assert lab.run()[0] == 0


def test_a_full_cache_on_this_machine_is_the_users_to_empty(lab: Lab) -> None:
    small = lab.folder / "small"
    script = f'mkdir {small} && mount -t tmpfs -o size=64k tmpfs {small} && exec "$@"'
    argv = lab.argv("--runs", 10)
    argv[3:5] = ["deploy", str(demo_dir() / "fashion.tflite")]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *argv],
        cwd=lab.folder,
        env={**os.environ, "EDGEOPT_CACHE": str(small)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert "No space left" in done.stderr and "EDGEOPT_CACHE" in done.stderr


def test_a_measurement_on_a_throttled_board_is_exit_6_with_the_whole_report(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vcgencmd is a double of the Raspberry Pi's: under-voltage from the second call on."""
    monkeypatch.setenv("EDGEOPT_CONDITIONS", "judge")
    tool = lab.board.folder / "vcgencmd"
    tool.write_text(
        f"#!/bin/sh\n[ -e {tool}.called ] && echo throttled=0x50005 || echo throttled=0x0\n"
        f"touch {tool}.called\n"
    )
    tool.chmod(0o755)
    python = f'#!/bin/sh\nPATH={tool.parent}:$PATH exec {sys.executable} "$@"\n'
    code, document = lab.run("--report", "r.json", python=lab.program(python))
    assert (code, document["error"]["kind"]) == (6, "result")
    assert "under-voltage" in document["error"]["message"]
    [process, *_] = document["measurement"]["processes"]
    assert document["parity"]["passed"] and process["runs"] + process["moved_runs"] == 10
    assert document["measurement"]["valid"] is False
    written = json.loads((lab.folder / "r.json").read_text())
    assert written["measurement"] == document["measurement"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exec yes", "prints without end"),
        ("read -r line; head -c 9999 /dev/urandom", "without an answer"),
        (f"read -r line; echo '{HELLO}'; kill -SEGV $$", "SIGSEGV"),
        ("read -r line; printf '\\033]0;x\\007' >&2; exit 9", "exit code 9"),
        (f"read -r line; echo '{HELLO}'; echo '{{\"event\":\"result\"}}'", "cannot be used"),
        ("echo SyntaxError: no >&2; exit 1", "SyntaxError"),
    ],
)
def test_a_python_that_is_none_is_exit_5_and_cannot_steer_the_terminal(
    lab: Lab, text: str, said: str
) -> None:
    code, document = lab.run(python=lab.program(f"#!/bin/sh\n{text}\n"))
    assert code == 5 and said in document["error"]["message"]
    assert "\x1b" not in document["error"]["message"] and lab.left() == []


def test_the_python_of_the_device_may_be_named_from_its_home(lab: Lab) -> None:
    (lab.board.home / "my venv").mkdir()
    program = lab.board.home / "my venv/python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    assert lab.run(python="~/my venv/python")[0] == 0
    code, document = lab.run(python="~/none")
    assert code == 5 and "--device-python" in document["error"]["hint"]


def test_an_alias_of_ssh_config_is_a_device(lab: Lab) -> None:
    key = (lab.folder / ".ssh/id_ed25519").rename(lab.folder / ".ssh/other")
    (lab.folder / ".ssh/config").write_text(
        f"Host pi\n HostName 127.0.0.1\n Port {lab.board.port}\n User root\n IdentityFile {key}\n"
    )
    assert lab.run("--device", "ssh://pi")[0] == 0


def test_a_login_shell_that_prints_changes_no_result(lab: Lab) -> None:
    lab.board.login_shell = lab.program(
        '#!/bin/sh\necho \'{"event":"result"}\'; echo noise >&2\nexec /bin/sh "$@"\n'
    )
    lab.board.restart()
    assert lab.run()[0] == 0


def test_a_changed_host_key_is_exit_5_before_anything_is_sent(lab: Lab) -> None:
    lab.board.new_host_key()
    code, document = lab.run()
    assert code == 5 and "HAS CHANGED" in document["error"]["message"]
    assert list(lab.board.home.iterdir()) == []
