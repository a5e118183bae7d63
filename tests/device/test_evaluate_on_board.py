"""Accuracy that a real board computes, over a real SSH link: the host's number, nothing left."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tools.sshd import Sshd, why_no_sshd

from edgeopt.paths import demo_dir

pytestmark = pytest.mark.device
MODEL = demo_dir() / "fashion.tflite"


def at_home(folder: Path, board: Sshd, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home with the board's key in it."""
    (folder / ".ssh").mkdir(mode=0o700, parents=True)
    shutil.copy(board.key, folder / ".ssh/id_ed25519")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    board.trust()
    return folder


def argv(board: Sshd, data: Path, *words: object) -> list[str]:
    fixed = [sys.executable, "-m", "edgeopt", "evaluate", MODEL, "--eval-data", data, "--json",
             "--preprocess", "scale=1/255", "--on-device", "--device", board.url,
             "--device-python", sys.executable]  # fmt: skip
    return [*map(str, fixed), *map(str, words)]


def evaluated(home: Path, command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=120)
    return {**json.loads(done.stdout), "code": done.returncode}


def test_the_boards_number_is_this_machines_and_nothing_stays_there(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = at_home(tmp_path / "user", sshd, monkeypatch)
    data = demo_dir() / "samples.npz"
    there = evaluated(home, argv(sshd, data, "--no-keep"))
    assert there["code"] == 0, there["error"]
    assert list(sshd.home.iterdir()) == []
    command = [word for word in argv(sshd, data) if word != "--on-device"]
    here = evaluated(home, command)
    assert (here["accuracy"]["where"], there["accuracy"]["where"]) == ("host", "device")
    assert there["accuracy"]["optimized"] == here["accuracy"]["optimized"]
    assert there["accuracy"]["samples"] == 60
    assert there["accuracy"]["device"]["kind"] == "ssh"


def test_of_what_is_kept_the_samples_are_none(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = at_home(tmp_path / "user", sshd, monkeypatch)
    assert evaluated(home, argv(sshd, demo_dir() / "samples.npz"))["code"] == 0
    left = [p.suffix for p in (sshd.home / ".cache/edgeopt").iterdir()]
    assert sorted(s for s in left if s) == [".pyz", ".tflite"]


def test_a_cable_cut_between_pieces_is_an_error_and_never_a_partial_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := why_no_sshd():
        pytest.skip(reason)
    stored = np.load(demo_dir() / "samples.npz")
    np.savez(tmp_path / "much.npz", x=np.concatenate([stored["x"]] * 1000),
             y=np.concatenate([stored["y"]] * 1000))  # fmt: skip
    with Sshd(tmp_path / "far", link=True) as board:
        home = at_home(tmp_path / "user", board, monkeypatch)
        process = subprocess.Popen(
            argv(board, tmp_path / "much.npz"), cwd=home, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not board.running(".py") and time.monotonic() < deadline:
            time.sleep(0.02)
        board.cut()
        answer, _ = process.communicate(timeout=60)
    document = json.loads(answer)
    assert process.returncode == 5 and document["error"]["kind"] == "device"
    assert "accuracy" not in document
