"""What docs/SECURITY.md promises, on a real board: names, modes, secrets, hostile answers."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.sshd import Sshd
from tools.user import User

from edgeopt.paths import demo_dir

pytestmark = pytest.mark.device
SECRET = "hunter2-and-a-half"
SHORT = ("--runs", "5", "--processes", "1")


@pytest.fixture
def user(sshd: Sshd, tmp_path: Path) -> Iterator[User]:
    before = os.umask(0o022)  # the usual one: what is private must not depend on it
    try:
        yield User(sshd, tmp_path / "user", "anna", LAB_PASSWORD=SECRET, SSH_ASKPASS=SECRET)
    finally:
        os.umask(before)


def benchmark(user: User, *words: str, model: str = "") -> tuple[int, str]:
    words = ("benchmark", model or str(demo_dir() / "fashion.tflite"), *words, *SHORT)
    done = user.run(*words, "--device", "board")
    return done.returncode, done.stdout + done.stderr


def touched(user: User) -> list[str]:
    """Files that only an executed name can have made."""
    roots = (user.home, user.board.home, Path.cwd(), Path("/"))
    return [str(p) for root in roots for p in root.glob("pwned*")]


EVIL = [
    "$(touch pwned1)`touch pwned2`${IFS}|touch${IFS}pwned3|",
    "'; touch pwned4; '\ntouch pwned5\n",
    '"; touch pwned6; "& touch pwned7 &',
]


@pytest.mark.parametrize("evil", EVIL)
def test_a_models_name_is_never_a_command(user: User, evil: str) -> None:
    model = user.home / f"{evil}.tflite"
    shutil.copy(demo_dir() / "fashion.tflite", model)
    code, said = benchmark(user, model=str(model))
    assert (code, touched(user)) == (0, []), said


@pytest.mark.parametrize("evil", EVIL)
def test_a_work_folders_name_is_never_a_command(user: User, evil: str) -> None:
    place = f"{user.board.home}/{evil}"
    board = user.board
    user.knows("board", url=board.url, key=str(board.key), python=sys.executable, workdir=place)
    code, said = benchmark(user)
    assert (code, touched(user)) == (0, []), said


@pytest.mark.parametrize("evil", EVIL)
def test_no_flag_or_setting_that_reaches_a_device_is_a_command(user: User, evil: str) -> None:
    board = user.board
    code, said = benchmark(user, "--device-python", evil)
    assert code == 5, said
    user.run("devices", "reserve", "board", "--for", "1m", "--purpose", evil)
    user.run("devices", "release", "board")
    user.knows("board", url=board.url, key=str(board.key), lease_dir=f"/tmp/{evil}")
    user.run("devices", "leases", "board")
    shutil.rmtree(f"/tmp/{evil}", ignore_errors=True)
    for words in (("--target", evil), ("--device", evil), ("--calibration", evil)):
        assert user.run("benchmark", "x.tflite", *words).returncode in (2, 3)
    assert touched(user) == []


def test_what_is_kept_is_for_its_owner_alone(user: User) -> None:
    samples = f"{demo_dir() / 'samples.npz'}:x"
    words = ("deploy", str(demo_dir() / "fashion.tflite"), "--device", "board", *SHORT)
    done = user.run(*words, "--calibration", samples, "--report", "r.json")
    assert done.returncode == 0, done.stderr
    roots = (user.board.home / ".cache/edgeopt", user.home / ".cache/edgeopt/artifacts")
    for root in roots:
        modes = {p: p.lstat().st_mode & 0o777 for p in (root, *root.rglob("*"))}
        assert modes == {p: 0o700 if p.is_dir() else 0o600 for p in modes}
    known_hosts = user.home / ".config/edgeopt/known_hosts"
    assert known_hosts.stat().st_mode & 0o777 == 0o600


def test_no_environment_gets_into_reports_or_onto_the_board(user: User) -> None:
    for suffix in ("json", "html", "md"):
        code, said = benchmark(user, "--report", f"r.{suffix}")
        assert code == 0, said
        assert SECRET not in said
    files = [p for root in (user.home, user.board.home) for p in root.rglob("*") if p.is_file()]
    assert len(files) > 5
    assert [p for p in files if SECRET.encode() in p.read_bytes()] == []


def test_a_password_is_refused_and_shown_nowhere(user: User) -> None:
    for words in (
        ("benchmark", "x.tflite", "--device", f"ssh://pi:{SECRET}@10.0.0.1"),
        ("compiler", "install", "--accept-licence", "--index", f"https://u:{SECRET}@127.0.0.1:9"),
    ):
        done = user.run(*words)
        assert done.returncode in (2, 4)
        assert SECRET not in done.stdout + done.stderr


def test_a_changed_host_key_is_refused_before_anything_is_said(user: User) -> None:
    user.board.new_host_key()
    code, said = benchmark(user)
    assert code == 5
    assert "HAS CHANGED" in said
    assert not (user.board.home / ".cache").exists()


HOSTILE = {
    "prints without end": "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done",
    "one line without end": "exec cat /dev/zero",
    "steers the terminal": r"printf '\033[2J\033]0;owned\007\033[31mno\n' >&2; exit 9",
    "nests without end": "head -c 200000 /dev/zero | tr '\\0' '['; echo",
    "is silent": "exec sleep 1000",
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_answer_is_an_error_in_time_and_in_plain_text(user: User, how: str) -> None:
    """The board's Python is a double that answers like an enemy."""
    program = user.board.home / "python-double"
    program.write_text(f"#!/bin/sh\n{HOSTILE[how]}\n")
    program.chmod(0o755)
    code, said = benchmark(user, "--device-python", str(program), "--timeout", "5")
    assert code == 5, said
    assert "\x1b" not in said and "\x07" not in said
    assert "Traceback" not in said and "bug" not in said
    assert not user.board.running("python-double")


@pytest.mark.parametrize(
    "text",
    [
        "schema = 1\n[devices.'../../x']\nurl='local'\n",
        "schema = 1\n[devices.a]\nurl='ssh://-oProxyCommand=touch pwned8@h'\n",
        "schema = 1\n[devices.a]\nurl='ssh://h'\nlabgrid='-x evil'\n",
        "schema = 1\n[devices.a]\nurl='ssh://h'\nlabgrid='a'\nlabgrid_coordinator='-c/etc/passwd'\n",
        "schema = 1\n[devices.a]\nurl='adb://-s;touch pwned9'\n",
        "schema = 1\n[devices.a]\nurl='ssh://h'\npassword='x'\n",
        "schema = 1\n[devices.\"a\\u001b[2J\"]\nurl='local'\n",
        "schema = 1\na" + ".a" * 3000 + " = 1\n",
        "\x00\xff",
    ],
)
def test_a_hostile_inventory_is_refused_with_exit_2(user: User, text: str) -> None:
    user.inventory.write_text(text)
    done = user.run("devices", "list")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and "\x1b" not in done.stderr
    assert touched(user) == []
