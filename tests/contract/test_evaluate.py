"""`edgeopt evaluate` and a deploy's accuracy as users run them, on the demo and on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeopt.paths import demo_dir

DATA = demo_dir() / "samples.npz"
STEPS = ("--preprocess", "scale=1/255")


def edgeopt(cwd: Path, *words: object, **environment: str) -> dict[str, Any]:
    """The JSON document, with the exit code added as `code`."""
    command = [sys.executable, "-m", "edgeopt", *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300,
                          env={**os.environ, **environment})  # fmt: skip
    return {**json.loads(done.stdout), "code": done.returncode, "stderr": done.stderr}


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    words = ["convert", demo_dir() / "fashion.tflite", "--calibration", f"{DATA}:x_calib", *STEPS]
    own = {f"EDGEOPT_{n}": str(folder / n) for n in ("CACHE", "CONFIG", "STATE")}
    found = edgeopt(folder, *words, "--ranges", "minmax", "--equalization", "off",
                    "--bias-correction", "off", "-o", folder, **own)  # fmt: skip
    assert found["code"] == 0, found["error"]
    return Path(found["artifacts"][-1]["path"])


def test_the_device_gives_the_same_number_as_the_host(int8: Path, tmp_path: Path) -> None:
    words = ["evaluate", int8, "--baseline", demo_dir() / "fashion.tflite", "--eval-data", DATA]
    host = edgeopt(tmp_path, *words, *STEPS)
    there = edgeopt(tmp_path, *words, *STEPS, "--on-device", "--device", "local", "--no-keep")
    assert host["code"] == there["code"] == 0
    assert there["accuracy"]["where"] == "device" and host["accuracy"]["where"] == "host"
    assert there["accuracy"]["device"]["runtime"] == "ai_edge_litert"
    for field in ("metric", "baseline", "optimized", "drop", "samples", "agreement", "sqnr_db"):
        assert there["accuracy"][field] == host["accuracy"][field], field
    kept = Path(os.environ["EDGEOPT_CACHE"]) / "device"
    assert not list(kept.glob("*.tflite")) and not list(kept.glob("*.inputs"))


def test_samples_do_not_stay_on_the_device_but_the_model_may(int8: Path, tmp_path: Path) -> None:
    words = ["evaluate", int8, "--eval-data", DATA, *STEPS, "--on-device", "--samples", 20]
    assert edgeopt(tmp_path, *words)["accuracy"]["samples"] == 20
    kept = Path(os.environ["EDGEOPT_CACHE"]) / "device"
    assert len(list(kept.glob("*.tflite"))) == 1 and not list(kept.glob("*.inputs"))


def test_a_deploy_measures_on_the_device_and_holds_the_budget(tmp_path: Path) -> None:
    words = ["deploy", demo_dir() / "fashion.tflite", "--calibration", f"{DATA}:x_calib", *STEPS]
    words += ["--eval-data", DATA, "--on-device", "--scheme", "int8", "--runs", 5]
    found = edgeopt(tmp_path, *words, "--max-accuracy-drop", 0.2)
    assert found["code"] in (0, 6), found["error"]  # 6: times of a busy machine
    accuracy = found["accuracy"]
    assert accuracy["where"] == "device" and accuracy["samples"] == 60
    assert accuracy["device"]["model_sha256"] == found["artifacts"][-1]["sha256"]


@pytest.mark.tf
def test_a_keras_model_is_evaluated_as_it_is(tmp_path: Path) -> None:
    words = ["evaluate", demo_dir() / "fashion.keras", "--eval-data", DATA, *STEPS]
    found = edgeopt(tmp_path, *words, "--baseline", demo_dir() / "fashion.tflite")
    assert found["code"] == 0, found["error"]
    assert found["model"]["format"] == "keras"
    assert [a["stage"] for a in found["artifacts"]] == ["source", "float"]
    assert found["accuracy"]["agreement"] == 1.0 and found["accuracy"]["drop"] == 0.0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--metric", "tpo1"], 2, "Did you mean top1"),
        (["--decode", "scores,first"], 2, "takes NAME,key=value"),
        (["--labels", "none.csv"], 2, "cannot be read"),
        (["--metric", "agreement"], 2, "there is none"),
        (["--metric", "wer"], 2, "are class numbers; this metric compares with texts"),
        (["--on-device", "--device", "adb://x", "--target", "android-gpu"], 2, "no outputs"),
    ],
)
def test_what_cannot_be_measured_is_the_users_to_repair(
    tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    found = edgeopt(
        tmp_path, "evaluate", demo_dir() / "fashion.tflite", "--eval-data", DATA, *words
    )
    assert found["code"] == code and said in json.dumps(found["error"])


def test_the_device_needs_data_and_a_run(tmp_path: Path) -> None:
    words = ["deploy", demo_dir() / "fashion.tflite", "--on-device", "--eval-data", DATA]
    found = edgeopt(tmp_path, *words, "--no-run")
    assert found["code"] == 2 and "--no-run" in found["error"]["hint"]
