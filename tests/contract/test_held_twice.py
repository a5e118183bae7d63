"""Activations held twice as a user meets them: asked for, costed, measured beside plain int8."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeopt.paths import demo_dir

MODEL = str(demo_dir() / "fashion.tflite")
DATA = ["--calibration", f"{demo_dir() / 'samples.npz'}:x_calib", "--preprocess", "scale=1/255"]
QUICK = ["--scheme", "int8", "--ranges", "minmax", "--equalization", "off",
         "--bias-correction", "off"]  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**os.environ, "EDGEOPT_CACHE": str(tmp_path_factory.mktemp("cache"))}


def report(*arguments: str, cwd: Path, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "edgeopt", *arguments, "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=400
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_deploy_measures_plain_int8_beside_it(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    run = ["--runs", "10", "--warmup", "2", "--conditions", "report", "-o", "out"]
    command = ["deploy", MODEL, *DATA, *QUICK, "--splitting", "8", *run]
    for cached in (False, True):
        found = report(*command, cwd=tmp_path, environment=environment)
        assert found["conversion"]["cached"] is cached
        said, beside = found["conversion"]["quality"]["splitting"], found["beside"]
        assert said["kept"] and said["tensors"] and 1 < said["factor"] <= 8
        assert said["plain_int8"]["sha256"] == beside["sha256"] != found["device"]["model_sha256"]
        assert beside["size_bytes"] < found["artifacts"][-1]["size_bytes"]
        for measured in (beside["measurement"], found["measurement"]):
            assert sum(p["runs"] + p["moved_runs"] for p in measured["processes"]) == 10
        assert beside["comparison"]["ratio"] > 0
        assert found["parity"]["passed"]
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["fashion_int8.tflite"]


def test_switched_off_accuracy_above_all_has_the_work_of_int8(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    command = ["convert", MODEL, "--target", "edgetpu", *DATA, *QUICK[2:], "--goal", "accuracy"]
    off = report(*command, "--splitting", "off", cwd=tmp_path, environment=environment)
    assert off["plan"]["quality"] == {}
    assert (off["conversion"]["quality"] or {}).get("splitting") is None
    on = report(*command, cwd=tmp_path, environment=environment)
    assert on["plan"]["quality"] == {"splitting": "4"}
    assert on["conversion"]["quality"]["splitting"]["limit"] == 4
    assert on["constraints"]["violations"] == []
