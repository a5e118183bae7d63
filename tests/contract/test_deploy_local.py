"""The main job as a user runs it: the shipped model, this machine, the fixed JSON fields."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeopt.artifact import hash_path
from edgeopt.paths import demo_dir

MODEL = str(demo_dir() / "fashion.tflite")
DATA = [
    "--calibration", f"{demo_dir() / 'samples.npz'}:x_calib",
    "--eval-data", f"{demo_dir() / 'samples.npz'}:x,y",
    "--preprocess", "scale=1/255",
]  # fmt: skip


def edgeopt(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeopt", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240)


def document(done: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    assert done.returncode == code, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    assert done.stdout == json.dumps(content, sort_keys=True, indent=2) + "\n"
    return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deploy")


@pytest.fixture(scope="module")
def reports(folder: Path) -> list[dict[str, Any]]:
    """Two deploys in a row with nothing changed between them, in one cache."""
    os.environ["EDGEOPT_CACHE"] = str(folder / "cache")
    command = ["deploy", MODEL, *DATA, "--runs", "20", "--warmup", "5", "--json"]
    return [document(edgeopt(*command, cwd=folder)) for _ in range(2)]


def test_every_field_of_the_interface_is_there(reports: list[dict[str, Any]]) -> None:
    report = reports[0]
    assert report["schema"] == "edgeopt.deploy/1"
    assert report["plan"].keys() >= {"scheme", "techniques", "reasons"}
    for artifact in report["artifacts"]:
        assert artifact.keys() == {
            "stage", "path", "sha256", "size_bytes", "gzip_bytes", "parent_sha256"
        }  # fmt: skip
    assert report["accuracy"].keys() >= {"metric", "baseline", "optimized", "drop", "samples"}
    assert report["device"].keys() >= {"name", "kind", "facts", "model_sha256"}
    assert report["parity"].keys() >= {"samples", "max_abs_diff", "tolerance", "passed"}
    measurement = report["measurement"]
    assert measurement.keys() >= {
        "warmup_ns", "samples_ns", "stats", "first_ns", "init_ns", "peak_rss_bytes", "conditions",
        "valid", "invalid_reasons",
    }  # fmt: skip
    assert measurement["stats"].keys() >= {
        "median_ns", "mean_ns", "stdev_ns", "p90_ns", "p99_ns", "ci95_ns"
    }  # fmt: skip
    # Runs before the steady state count as warm-up.
    assert len(measurement["samples_ns"]) + len(measurement["warmup_ns"]) == 20 + 5
    assert report["timings_s"]


def test_the_chain_of_hashes_leads_from_the_device_to_the_source(
    reports: list[dict[str, Any]],
) -> None:
    report = reports[0]
    chain = report["artifacts"]
    assert chain[0]["sha256"] == report["model"]["sha256"] == hash_path(Path(MODEL))
    for parent, child in itertools.pairwise(chain):
        assert child["parent_sha256"] == parent["sha256"]
    assert report["device"]["model_sha256"] == chain[-1]["sha256"]


def test_the_published_file_is_the_one_that_was_measured(
    reports: list[dict[str, Any]], folder: Path
) -> None:
    last = reports[0]["artifacts"][-1]
    assert hash_path(folder / last["path"]) == last["sha256"]


def test_the_result_obeys_the_profile_and_keeps_its_accuracy(reports: list[dict[str, Any]]) -> None:
    report = reports[0]
    assert report["plan"]["scheme"] == "int8" and report["constraints"]["violations"] == []
    assert report["accuracy"]["metric"] == "top1" and report["accuracy"]["samples"] == 60
    assert report["accuracy"]["optimized"] >= report["accuracy"]["baseline"] - 0.05
    assert report["parity"]["passed"] and report["parity"]["samples"] == 8


def test_a_second_deploy_uses_the_cache_and_sends_no_model_bytes(
    reports: list[dict[str, Any]],
) -> None:
    first, second = reports
    assert first["device"]["sent_bytes"] == first["artifacts"][-1]["size_bytes"]
    assert second["device"]["sent_bytes"] == 0
    assert second["conversion"]["cached"] and not first["conversion"]["cached"]
    assert [a["sha256"] for a in first["artifacts"]] == [a["sha256"] for a in second["artifacts"]]


def test_a_dry_run_decides_and_writes_nothing(tmp_path: Path) -> None:
    report = document(edgeopt("deploy", MODEL, *DATA, "--dry-run", "--json", cwd=tmp_path))
    assert report["plan"]["scheme"] == "int8" and report["measurement"] is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["json", "html", "svg", "txt"])
def test_the_report_is_written_in_each_form(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"report.{ending}"
    done = edgeopt(
        "deploy", MODEL, "--scheme", "float32", "--runs", "5", "--report", str(file), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "median" in file.read_text() and "http" not in file.read_text().replace(
        "http://www.w3.org", ""
    )


def test_a_missed_accuracy_budget_is_exit_3_and_keeps_the_model(tmp_path: Path) -> None:
    samples = demo_dir() / "samples.npz"
    import numpy as np

    dim = np.random.default_rng(0).random((12, 28, 28, 1)) * 3  # of 255: ranges far too narrow
    np.savez(tmp_path / "dim.npz", x=dim)
    done = edgeopt(
        "deploy", MODEL, "--scheme", "int8",
        "--calibration", "dim.npz:x", "--eval-data", f"{samples}:x,y",
        "--preprocess", "scale=1/255", "--max-accuracy-drop", "0.01", "--json", cwd=tmp_path,
    )  # fmt: skip
    report = document(done, 3)
    assert report["accuracy"]["drop"] > 0.01 and report["measurement"] is None
    assert (tmp_path / report["artifacts"][-1]["path"]).is_file()
    assert "budget" in report["error"]["message"]


def test_int8_without_data_is_exit_2_and_says_what_to_give(tmp_path: Path) -> None:
    done = edgeopt("deploy", MODEL, "--scheme", "int8", cwd=tmp_path)
    assert done.returncode == 2 and "--calibration" in done.stderr


def test_an_edge_tpu_target_without_a_compiler_is_exit_4_and_keeps_the_int8_model(
    tmp_path: Path,
) -> None:
    report = document(
        edgeopt("deploy", MODEL, *DATA, "--target", "edgetpu", "--json", cwd=tmp_path), 4
    )
    kept = report["artifacts"][-1]
    assert kept["stage"] == "optimized" and hash_path(tmp_path / kept["path"]) == kept["sha256"]
    assert kept["path"] in report["error"]["hint"]
    assert report["placement"]["source"] == "predicted"


def test_a_scheme_that_the_target_refuses_is_exit_2_and_names_those_that_suit(
    tmp_path: Path,
) -> None:
    done = edgeopt("deploy", MODEL, "--target", "edgetpu", "--scheme", "float16", cwd=tmp_path)
    assert done.returncode == 2 and "int8" in done.stderr
