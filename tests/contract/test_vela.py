"""Ethos-U for real: the shipped model through edgeopt and vela, the prediction held against it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from vela_models import many_operations

from edgeopt.artifact import hash_path
from edgeopt.compile import CompileOptions
from edgeopt.compile.vela import compile_model
from edgeopt.model import read
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent
from edgeopt.target import load_target
from edgeopt.verify import check, predict

pytest.importorskip("ethosu.vela", reason="vela is not installed: pip install 'edgeopt[ethos-u]'")

SAMPLES = f"{demo_dir() / 'samples.npz'}:x_calib"


def edgeopt(folder: Path, *words: str, code: int = 0) -> dict[str, Any]:
    command = [sys.executable, "-m", "edgeopt", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=240)
    assert done.returncode == code, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vela")


@pytest.fixture(scope="module")
def deployed(folder: Path) -> dict[str, Any]:
    model = str(demo_dir() / "fashion.tflite")
    return edgeopt(
        folder, "deploy", model, "--target", "ethos-u55", "--calibration", SAMPLES,
        "--preprocess", "scale=1/255", "--no-run", "--output", "made",
    )  # fmt: skip


def _file(report: dict[str, Any], folder: Path, stage: str) -> Path:
    return folder / next(a["path"] for a in report["artifacts"] if a["stage"] == stage)


def test_a_float_model_becomes_a_file_for_the_npu(deployed: dict[str, Any], folder: Path) -> None:
    made = _file(deployed, folder, "compiled")
    profile = load_target("ethos-u55").profile
    facts = read(made)
    assert made.name == "fashion_int8_ethos-u.tflite" and profile.compiled(facts)
    assert check(facts, profile, stage="compiled").passed
    assert deployed["artifacts"][-1]["sha256"] == hash_path(made)
    placement = deployed["placement"]
    assert placement["source"] == "compiled_file" and placement["ops_cpu"] == 0
    (proof,) = deployed["compilation"]["proofs"]
    assert proof["mapping"]["proven"] and proof["prediction"]["agrees"]
    assert proof["prediction"]["compared"] == placement["ops_total"]


def test_velas_figures_are_estimates_by_vela(deployed: dict[str, Any]) -> None:
    estimate = deployed["estimate"]
    assert (estimate["source"], estimate["estimator"]) == ("estimate", "vela")
    figures = estimate["figures"]
    clock, cycles = figures["core_clock_hz"], figures["cycles_total"]
    assert estimate["latency_ms"]["value"] == pytest.approx(1e3 * cycles / clock, rel=1e-3)
    assert figures["accelerator_configuration"] == "Ethos_U55_128"
    assert deployed["measurement"] is None and deployed["device"] is None


def test_the_other_chip_gets_other_code_and_the_same_one_the_cache(
    deployed: dict[str, Any], folder: Path
) -> None:
    source = str(_file(deployed, folder, "optimized"))
    again = edgeopt(folder, "compile", source, "--target", "ethos-u55", "--output", "again")
    other = edgeopt(folder, "compile", source, "--target", "ethos-u65", "--output", "other")
    assert again["artifacts"][-1]["sha256"] == deployed["artifacts"][-1]["sha256"]
    chips = [
        edgeopt(folder, "inspect", str(_file(report, folder, "compiled")))["compiled"]["chips"]
        for report in (again, other)
    ]
    assert chips == [["Ethos-U55"], ["Ethos-U65"]]


def test_a_compiled_file_is_held_against_its_source_without_naming_a_target(
    deployed: dict[str, Any], folder: Path
) -> None:
    made, source = (str(_file(deployed, folder, stage)) for stage in ("compiled", "optimized"))
    found = edgeopt(folder, "inspect", made, "--source", source)
    assert found["mapping"]["proven"] and found["prediction"]["agrees"]
    assert found["model"]["parameters"] is None
    predicted = edgeopt(folder, "inspect", source, "--target", "ethos-u55")
    assert {op["placement"] for op in predicted["ops"]} == {"ethos-u"}
    assert predicted["placement"]["source"] == "predicted"


def test_a_run_is_refused_before_any_work(folder: Path) -> None:
    model = str(demo_dir() / "fashion.tflite")
    found = edgeopt(
        folder, "deploy", model, "--target", "ethos-u55", "--calibration", SAMPLES, code=5
    )
    assert "--no-run" in found["error"]["hint"] and "compiling" in found["error"]["message"]


def test_the_prediction_is_velas_own_for_each_of_many_operations(tmp_path: Path) -> None:
    source = tmp_path / "many.tflite"
    source.write_bytes(many_operations())
    for name in ("ethos-u55", "ethos-u65"):
        target = load_target(name)
        predicted = predict(read(source), target.profile)
        options = {key: str(value) for key, value in target.compiler_options.items()}
        made = compile_model(source, tmp_path / name, CompileOptions(extra=options), Silent())
        assert predicted is not None and made.placement is not None
        assert len(made.placement.ops) == len(predicted.ops) > 80
        differ = [
            (ours.index, ours.op, ours.reason, vela.reason)
            for ours, vela in zip(predicted.ops, made.placement.ops, strict=True)
            if ours.placement != vela.placement
        ]
        assert differ == []
        assert all(op.phrase for op in made.placement.ops if op.placement == "cpu")
        assert 20 < made.placement.ops_cpu < 60
