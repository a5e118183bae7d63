"""The accuracy budget and `tune` as a user runs them: what is tried, reported, kept and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.artifact import hash_path
from edgeopt.paths import demo_dir
from edgeopt.report.pareto import front

MODEL = str(demo_dir() / "fashion.tflite")
SAMPLES = demo_dir() / "samples.npz"
STEPS = ["--preprocess", "scale=1/255"]
EVAL = ["--eval-data", f"{SAMPLES}:x,y", *STEPS]
GOOD = ["--calibration", f"{SAMPLES}:x_calib", *EVAL]
DIM = ["--calibration", "dim.npz:x", *EVAL]
TUNE = [
    "tune", MODEL, *GOOD, "--candidate", "int8:plain", "--candidate", "float16",
    "--runs", "10", "-o", "out", "--json",
]  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One cache for this file, so that nothing is made twice."""
    return {**os.environ, "EDGEOPT_CACHE": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds calibration data of 0 to 3 of 255: its ranges are far too narrow for int8."""
    np.savez(tmp_path / "dim.npz", x=np.random.default_rng(0).random((12, 28, 28, 1)) * 3)
    return tmp_path


def edgeopt(
    *arguments: str, cwd: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeopt", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=400
    )


def document(done: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    assert done.returncode == code, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_the_first_that_passes_is_the_result_and_all_tried_are_reported(
    folder: Path, environment: dict[str, str]
) -> None:
    done = edgeopt(
        "deploy", MODEL, *DIM, "--max-accuracy-drop", "0.01", "--runs", "10", "-o", "out",
        "--json", cwd=folder, environment=environment,
    )  # fmt: skip
    report = document(done)
    missed, passed = report["candidates"]
    assert (missed["name"], missed["status"]) == ("int8", "missed") and missed["drop"] > 0.01
    assert (passed["name"], passed["status"]) == ("dynamic_int8", "passed")
    for row in (missed, passed):
        assert row["gzip_bytes"] > 0 and row["latency_ns"] > 0 and row["latency_valid"]
        assert row["baseline"] == report["accuracy"]["baseline"]
    last = report["artifacts"][-1]
    assert report["plan"]["scheme"] == "dynamic_int8" and passed["path"] == last["path"]
    assert passed["sha256"] == last["sha256"] == hash_path(folder / last["path"])
    assert [p.name for p in (folder / "out").iterdir()] == ["fashion_dynamic_int8.tflite"]
    assert report["measurement"]["valid"] and report["accuracy"]["drop"] <= 0.01


def test_when_none_passes_the_best_is_kept_and_the_exit_code_is_3(
    folder: Path, environment: dict[str, str]
) -> None:
    done = edgeopt(
        "deploy", MODEL, "--target", "edgetpu", *DIM, "--max-accuracy-drop", "0.01", "-o", "out",
        "--json", cwd=folder, environment=environment,
    )  # fmt: skip
    report = document(done, 3)
    rows, kept = report["candidates"], report["artifacts"][-1]
    assert [r["name"] for r in rows] == ["int8", "int8:splitting=4"]
    (row,) = [r for r in rows if r["path"]]
    assert {r["status"] for r in rows} == {"missed"}
    assert row["status"] == "missed" and row["path"] == kept["path"]
    assert hash_path(folder / kept["path"]) == kept["sha256"]
    assert kept["path"] in report["error"]["hint"] and "budget" in report["error"]["message"]
    assert row["latency_ns"] is None and "not measured" in row["notes"][-1]  # no compiler here


def test_with_an_explicit_scheme_only_that_one_is_tried(
    folder: Path, environment: dict[str, str]
) -> None:
    done = edgeopt(
        "convert", MODEL, *DIM, "--scheme", "int8", "--max-accuracy-drop", "0.01", "--json",
        cwd=folder, environment=environment,
    )  # fmt: skip
    report = document(done, 3)
    assert report["candidates"] is None and report["plan"]["scheme"] == "int8"


def test_a_budget_without_data_to_hold_it_against_is_exit_2_before_any_work(
    folder: Path, environment: dict[str, str]
) -> None:
    done = edgeopt(
        "deploy", MODEL, "--max-accuracy-drop", "0.01", cwd=folder, environment=environment
    )
    assert done.returncode == 2 and "--eval-data" in done.stderr
    assert not (folder / "edgeopt-out").exists()


def test_data_that_cannot_be_read_ends_the_search_and_is_not_passed_over(
    folder: Path, environment: dict[str, str]
) -> None:
    done = edgeopt(
        "convert", MODEL, "--calibration", "missing.npz", *EVAL, "--max-accuracy-drop", "0.5",
        "--json", cwd=folder, environment=environment,
    )  # fmt: skip
    assert document(done, 2)["error"]["kind"] == "input"
    assert not (folder / "edgeopt-out").exists()


@pytest.mark.tf
def test_training_is_tried_when_post_training_quantization_misses(
    folder: Path, environment: dict[str, str]
) -> None:
    done = edgeopt(
        "convert", str(demo_dir() / "fashion.keras"), "--target", "edgetpu", *DIM,
        "--train-data", f"{SAMPLES}:x,y", "--epochs", "1", "--max-accuracy-drop", "0.01",
        "--json", cwd=folder, environment=environment,
    )  # fmt: skip
    report = document(done, 3)  # the ranges stay far too narrow, whatever is trained
    names = [row["name"] for row in report["candidates"]]
    assert names == ["int8", "int8:splitting=4", "qat+int8"]
    assert all(row["status"] == "missed" for row in report["candidates"])
    kept = min(report["candidates"], key=lambda row: (row["drop"], row["gzip_bytes"]))
    assert [r["name"] for r in report["candidates"] if r["path"]] == [kept["name"]]
    assert report["plan"]["techniques"] == kept["techniques"]


def test_tune_measures_draws_and_goes_on_from_what_is_there(
    folder: Path, environment: dict[str, str]
) -> None:
    def tune(*more: str) -> dict[str, Any]:
        return document(edgeopt(*TUNE, *more, cwd=folder, environment=environment))

    first = tune("--plot", "front.svg")
    assert first["schema"] == "edgeopt.tune/1" and first["complete"]
    rows = first["candidates"]
    assert [r["name"] for r in rows] == ["int8:plain", "float16"]
    assert first["front"] == front(rows) == [r["name"] for r in rows if r["front"]]
    for row in rows:
        assert hash_path(folder / row["path"]) == row["sha256"]
        [process] = row["measurement"]["processes"]
        assert process["runs"] + process["moved_runs"] == 10 and not row["resumed"]
    assert "int8:plain" in (folder / "front.svg").read_text()

    second = tune("--candidate", "float32", "--max-accuracy-drop", "0")
    assert [r["resumed"] for r in second["candidates"]] == [True, True, False]
    assert second["candidates"][2]["within_budget"] is True  # float32 loses nothing
    assert second["candidates"][0]["measurement"] == rows[0]["measurement"]

    Path(folder / rows[1]["path"]).write_bytes(b"damaged")
    assert [r["resumed"] for r in tune()["candidates"]] == [True, False]
    assert not any(r["resumed"] for r in tune("--warmup", "4")["candidates"])
    assert not any(r["resumed"] for r in tune("--fresh")["candidates"])


def test_an_interrupted_tune_keeps_what_was_measured_and_goes_on(
    folder: Path, environment: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "edgeopt", *TUNE, "--candidate", "int16x8"]
    begun = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
        env=environment,
    )  # fmt: skip
    results = folder / "out" / "results"
    deadline = time.monotonic() + 120
    while not any(results.glob("*.json")):
        assert begun.poll() is None and time.monotonic() < deadline, begun.communicate()
        time.sleep(0.02)
    begun.send_signal(signal.SIGINT)
    output, said = begun.communicate(timeout=60)
    assert begun.returncode == 130 and json.loads(output)["error"]["kind"] == "interrupted"
    assert "the same command goes on" in said
    rows = [json.loads(file.read_text())["row"] for file in results.glob("*.json")]
    kept = {row["name"] for row in rows if row["status"] == "measured"}  # invalid: done anew
    done = document(edgeopt(*TUNE, "--candidate", "int16x8", cwd=folder, environment=environment))
    assert {r["name"] for r in done["candidates"] if r["resumed"]} == kept


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--candidate", "int9"], "int9"),
        (["--candidate", "qat+int8"], "--train-data"),
        (["--target", "edgetpu", "--candidate", "float16"], "does not suit"),
        (["--plot", "front.pdf"], "no known ending"),
        (["-o", "model.tflite"], "folder"),
    ],
)
def test_what_tune_cannot_do_is_exit_2_before_anything_is_measured(
    folder: Path, environment: dict[str, str], arguments: list[str], said: str
) -> None:
    done = edgeopt("tune", MODEL, *GOOD, *arguments, cwd=folder, environment=environment)
    assert done.returncode == 2 and said in done.stderr
    assert sorted(p.name for p in folder.iterdir()) == ["dim.npz"]


@pytest.mark.parametrize("verb", ["plan", "tune"])
def test_a_refused_plan_is_one_json_document_with_the_error(
    folder: Path, environment: dict[str, str], verb: str
) -> None:
    done = edgeopt(
        verb, MODEL, "--target", "edgetpu", "--json", cwd=folder, environment=environment
    )
    assert "--calibration" in document(done, 2)["error"]["hint"]
