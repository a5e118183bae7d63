"""`tune` on a board over a real sshd: measured there, resumed there, and not for another device."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tools.sshd import Sshd

from edgeopt.paths import demo_dir

pytestmark = pytest.mark.device
WORDS = ["tune", str(demo_dir() / "fashion.tflite"), "--candidate", "float16",
         "--candidate", "dynamic_int8", "--runs", "10", "-o", "out", "--json"]  # fmt: skip


def tune(cwd: Path, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "edgeopt", *WORDS, *more]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_board_is_measured_and_its_results_are_not_those_of_another_device(
    sshd: Sshd, tmp_path: Path
) -> None:
    sshd.trust()
    (tmp_path / "devices.toml").write_text(
        f'schema = 1\n[devices.board]\nurl = "{sshd.url}"\nkey = "{sshd.key}"\n'
        f'python = "{sys.executable}"\n'
    )
    there = tune(tmp_path, "--device", "board")
    assert there["device"]["kind"] == "ssh" and there["device"]["facts"]["arch"]
    for row in there["candidates"]:
        [process] = row["measurement"]["processes"]
        assert row["device"]["kind"] == "ssh" and process["runs"] + process["moved_runs"] == 10
        assert row["device"]["model_sha256"] == row["sha256"] and row["parity"]["passed"]
    assert all(r["resumed"] for r in tune(tmp_path, "--device", "board")["candidates"])
    assert not any(r["resumed"] for r in tune(tmp_path)["candidates"])
