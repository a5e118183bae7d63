"""An accuracy budget held against what a real board answers, over a real SSH link."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tools.sshd import Sshd

from edgeopt.paths import demo_dir

pytestmark = pytest.mark.device
SAMPLES = demo_dir() / "samples.npz"


@pytest.fixture
def home(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home with the board's key, and calibration data far too dim for int8."""
    folder = tmp_path / "user"
    (folder / ".ssh").mkdir(mode=0o700, parents=True)
    shutil.copy(sshd.key, folder / ".ssh/id_ed25519")
    np.savez(folder / "dim.npz", x=np.random.default_rng(0).random((12, 28, 28, 1)) * 3)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    sshd.trust()
    return folder


def searched(sshd: Sshd, home: Path, *words: str) -> tuple[int, dict[str, Any]]:
    command = [
        sys.executable, "-m", "edgeopt", "deploy", str(demo_dir() / "fashion.tflite"),
        "--calibration", "dim.npz:x", "--eval-data", f"{SAMPLES}:x,y", "--preprocess",
        "scale=1/255", "--max-accuracy-drop", "0.01", "--on-device", "--device", sshd.url,
        "--device-python", sys.executable, "--runs", "10", "--no-keep", "--json", "-o", "out",
        *words,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=300)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_each_candidate_is_judged_and_timed_by_the_board_until_one_passes(
    sshd: Sshd, home: Path
) -> None:
    code, report = searched(sshd, home)
    assert code == 0, report["error"]
    missed, passed = report["candidates"]
    assert (missed["name"], missed["status"]) == ("int8", "missed") and missed["drop"] > 0.01
    assert (passed["name"], passed["status"]) == ("dynamic_int8", "passed")
    for row in (missed, passed):
        assert row["latency_ns"] > 0 and row["samples"] == 60
    found = report["accuracy"]
    assert found["where"] == "device" and found["device"]["kind"] == "ssh"
    assert found["device"]["model_sha256"] == passed["sha256"] == report["artifacts"][-1]["sha256"]
    assert found["optimized"] == passed["accuracy"] and found["drop"] <= 0.01
    # Of ten runs that are alike the median has no interval: then it is the mean that is shown.
    shown = f"{passed['latency_basis']}_ns"
    assert report["measurement"]["stats"][shown] == passed["latency_ns"]
    assert [p.name for p in (home / "out").iterdir()] == ["fashion_dynamic_int8.tflite"]
    assert list(sshd.home.iterdir()) == []  # of the ones that missed, too


def test_a_board_that_is_lost_ends_the_search_without_a_result(sshd: Sshd, home: Path) -> None:
    sshd.stop()
    code, report = searched(sshd, home, "--timeout", "5")
    assert code == 5 and report["error"]["kind"] == "device"
    assert not (home / "out").exists()
