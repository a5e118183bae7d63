"""A short run of scripts/fuzz: the same cases every time. The long one is run by hand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "scripts" / "fuzz"


def run(tmp_path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FUZZ), "--keep", str(tmp_path / "findings"), *flags],
        capture_output=True,
        text=True,
        env={**os.environ, "EDGEOPT_SHARED": str(tmp_path)},  # what is built here is enough
        timeout=600,
        check=False,
    )


def test_damaged_models_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    done = run(tmp_path, "--count", "200", "--seed", "7")
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {k: int(n) for n, k in re.findall(r"(\d+) (result|refused)", done.stdout)}
    assert counts["result"] + counts["refused"] == 200
    assert counts["result"] > 20 and counts["refused"] > 20
    assert not list((tmp_path / "findings").iterdir())


@pytest.mark.slow
def test_twenty_thousand_damaged_models_bring_no_crash_hang_or_gigabyte(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FUZZ), "--count", "20000", "--jobs", "2",
         "--keep", str(tmp_path / "findings")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
