"""Whole deploys as a user runs them: real trained models, a real sshd, a real adbd."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tools.adbd import Adbd, adbd_or_skip
from tools.sshd import Sshd

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def phone() -> Iterator[Adbd]:
    yield from adbd_or_skip()


def edgeopt(cwd: Path, *words: object, path: Path | None = None) -> dict[str, Any]:
    """The JSON document, with the exit code added as `code`."""
    environment = dict(os.environ)
    if path is not None:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", "edgeopt", *map(str, words), "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300
    )
    return {**json.loads(done.stdout), "code": done.returncode}


def named(sshd: Sshd, folder: Path) -> str:
    """The board in a devices.toml of the working folder, its host key pinned."""
    sshd.trust()
    (folder / "devices.toml").write_text(
        f'schema = 1\n[devices.board]\nurl = "{sshd.url}"\nkey = "{sshd.key}"\n'
        f'python = "{sys.executable}"\n'
    )
    return "board"


@pytest.mark.tf
@pytest.mark.parametrize(
    ("model", "data", "steps"),
    [
        ("kws_dscnn/savedmodel", "kws_mfcc/kws.npz:x_calib", ""),
        ("ic_resnet8/model.h5", "images_imagenet", "scale=1"),
        ("efficientnet_lite0/model.keras", "images_imagenet", "mean=127,scale=1/128"),
    ],
    ids=["savedmodel", "h5", "keras"],
)
def test_a_float_model_reaches_a_board_over_ssh_and_computes_the_same(
    shared: Path, sshd: Sshd, tmp_path: Path, model: str, data: str, steps: str
) -> None:
    words = ["deploy", shared / "models" / model, "--target", "cpu", "--runs", 10]
    words += ["--device", named(sshd, tmp_path), "--calibration", shared / "datasets" / data]
    words += ["--preprocess", steps] if steps else []
    report = edgeopt(tmp_path, *words)
    assert report["code"] == 0, report["error"]
    assert report["plan"]["scheme"] == "int8" and report["constraints"]["violations"] == []
    assert report["parity"]["passed"] and report["parity"]["max_abs_diff"] == 0
    [process] = report["measurement"]["processes"]
    assert process["runs"] + process["moved_runs"] == 10
    assert report["device"]["kind"] == "ssh"
    assert report["device"]["sent_bytes"] == report["artifacts"][-1]["size_bytes"]
    again = edgeopt(tmp_path, *words)
    assert again["code"] == 0 and again["conversion"]["cached"]
    assert again["device"]["sent_bytes"] == 0 and again["parity"]["passed"]


def test_a_compiled_model_is_placed_and_kept_though_there_is_no_edge_tpu_to_run_it(
    shared: Path, tmp_path: Path
) -> None:
    model = shared / "edgetpu/models/mobilenet_v2_1.0_224_inat_bird_quant.tflite"
    report = edgeopt(
        tmp_path, "deploy", model, "--target", "edgetpu", path=shared / "edgetpu/recorded"
    )
    assert report["code"] == 5 and "Edge TPU" in report["error"]["message"]
    placement = report["placement"]
    assert (placement["ops_total"], placement["ops_mapped"], placement["ops_cpu"]) == (66, 66, 0)
    assert placement["parameter_bytes"]["on_chip"] == 3900864
    assert report["compilation"]["is_double"] is True
    assert [a["stage"] for a in report["artifacts"]] == ["source", "compiled"]
    assert (tmp_path / report["artifacts"][-1]["path"]).is_file()
    assert report["measurement"] is None and report["parity"] is None


def test_stopping_before_the_run_is_a_success(shared: Path, tmp_path: Path) -> None:
    model = shared / "edgetpu/models/mobilenet_v2_1.0_224_inat_bird_quant.tflite"
    words = ["deploy", model, "--target", "edgetpu", "--no-run"]
    report = edgeopt(tmp_path, *words, path=shared / "edgetpu/recorded")
    assert report["code"] == 0 and report["device"] is None
    again = edgeopt(tmp_path, *words, path=shared / "edgetpu/recorded")
    assert again["compilation"]["cached"] and not report["compilation"]["cached"]
    assert again["placement"] == report["placement"]


def phone_words(shared: Path, phone: Adbd, target: str) -> list[object]:
    return [
        "deploy", shared / "models/ic_resnet8/ref_f32.tflite", "--target", target,
        "--device", f"adb://{phone.serial}", "--runs", 10,
        "--benchmark-binary", shared / "device/benchmark_model",
    ]  # fmt: skip


def test_a_phone_runs_the_native_benchmark(shared: Path, phone: Adbd, tmp_path: Path) -> None:
    report = edgeopt(tmp_path, *phone_words(shared, phone, "android-arm64"))
    assert report["code"] == 0, report["error"]
    assert report["device"]["kind"] == "adb" and report["device"]["runtime"] == "benchmark_model"
    measurement = report["measurement"]
    assert measurement["samples_ns"] is None and measurement["stats"]["median_ns"] is None
    assert measurement["stats"]["mean_ns"] > 0
    assert report["parity"] is None and "no outputs" in report["parity_note"]


def test_a_gpu_run_that_was_none_is_refused(shared: Path, phone: Adbd, tmp_path: Path) -> None:
    report = edgeopt(tmp_path, *phone_words(shared, phone, "android-gpu"))
    assert report["code"] == 5 and "GPU" in report["error"]["message"]
    assert report["measurement"] is None
