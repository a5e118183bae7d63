"""`edgeopt fix` as a user runs it: exit codes, JSON fields, what is written and what is not."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.artifact import hash_path
from edgeopt.paths import demo_dir

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
import repair_models as models

FIELDS = {
    "schema", "model", "target", "changed", "complete", "partial", "dry_run", "explanations",
    "repairs", "before", "after", "remaining", "parts", "split_proof", "artifacts", "manifest",
    "notes",
}  # fmt: skip
EXPLANATION = {
    "index", "op", "layer", "cause", "phrase", "certain", "why", "repair", "kind", "automatic",
    "would_map", "blocked_by",
}  # fmt: skip


def fix(data: bytes | Path, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    source = data if isinstance(data, Path) else folder / "model.tflite"
    if isinstance(data, bytes):
        source.write_bytes(data)
    command = [sys.executable, "-m", "edgeopt", "fix", str(source), "--target", "edgetpu", *more]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=240)


def document(done: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    assert done.returncode == code, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_a_repair_is_written_proven_and_told(tmp_path: Path) -> None:
    data = models.dense_3d(5)
    content = document(fix(data, tmp_path, "--json"))
    assert content.keys() == FIELDS
    assert content["schema"] == "edgeopt.fix/1"
    (row,) = content["explanations"]
    assert row.keys() == EXPLANATION
    assert (row["op"], row["automatic"], row["would_map"]) == ("FULLY_CONNECTED", True, 1)
    assert content["before"]["placement"]["ops_mapped"] == 0
    assert content["after"]["placement"]["ops_cpu"] == 0
    (step,) = content["repairs"]
    assert step["applied"]
    assert {k["kernels"] for k in step["proof"]["kernels"]} == {"own", "xnnpack"}
    assert all(k["identical"] for k in step["proof"]["kernels"])
    made = next(a for a in content["artifacts"] if a["stage"] == "fixed")
    path = tmp_path / made["path"]
    assert path == tmp_path / "edgeopt-out" / "model-edgetpu" / "model_fixed.tflite"
    assert hash_path(path) == made["sha256"]
    assert made["parent_sha256"] == content["model"]["sha256"]
    assert (tmp_path / "model.tflite").read_bytes() == data


def test_a_dry_run_repairs_and_proves_and_writes_nothing(tmp_path: Path) -> None:
    done = fix(models.dense_3d(5), tmp_path, "--dry-run")
    assert done.returncode == 0
    assert "0 of 1 operations mapped  →  3 of 3 operations mapped" in done.stdout
    assert "Nothing was written" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.tflite"]


def test_what_needs_no_repair_is_left_alone(tmp_path: Path) -> None:
    content = document(fix(models.dense_versions(4), tmp_path, "--json"))
    assert (content["changed"], content["complete"], content["artifacts"]) == (False, True, [])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.tflite"]


def broken() -> bytes:
    """A float input that no rewriting takes off, and a dense layer that one repairs."""
    made = models.Maker()
    first = made.tensor("image", [1, 8], "float32")
    middle = made.tensor("middle", [1, 8], "float32")
    made.op("ABS", [first], [middle], 1, "Abs")
    inner = made.tensor("inner", [1, 8])
    made.op("QUANTIZE", [middle], [inner], 1, "Quantize")
    return made.done([first], [made.dense(inner, "dense", 6, [1, 6], version=9)])


def test_rules_that_stay_broken_end_with_3_and_write_nothing(tmp_path: Path) -> None:
    content = document(fix(broken(), tmp_path, "--json"), code=3)
    assert content["error"]["exit_code"] == 3
    assert content["after"]["constraints"]["violations"]
    assert not content["artifacts"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.tflite"]


def test_an_incomplete_file_is_written_only_on_demand_and_named_so(tmp_path: Path) -> None:
    done = fix(broken(), tmp_path, "--partial", "-o", "out/better.tflite")
    assert done.returncode == 3
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["better_partial.tflite"]
    assert "incomplete" in done.stderr


def test_other_formats_are_to_be_converted_first(tmp_path: Path) -> None:
    done = fix(demo_dir() / "fashion.keras", tmp_path)
    assert done.returncode == 2
    assert "edgeopt convert" in done.stderr


def test_a_compiled_model_is_refused(tmp_path: Path) -> None:
    made = models.Maker()
    first, last = (made.tensor(n, [1, 4]) for n in "xy")
    made.custom("edgetpu-custom-op", [first], [last])
    done = fix(made.done([first], [last]), tmp_path)
    assert done.returncode == 3
    assert "already compiled" in done.stderr


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_damaged_file_is_an_error_of_the_model(kept: float, tmp_path: Path) -> None:
    data = models.dense_3d(5)
    done = fix(data[: int(len(data) * kept)], tmp_path)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.tflite"]


def test_the_model_itself_is_never_written_to(tmp_path: Path) -> None:
    data = models.dense_3d(5)
    done = fix(data, tmp_path, "-o", "model.tflite")
    assert done.returncode == 2
    assert (tmp_path / "model.tflite").read_bytes() == data


def test_labels_packed_behind_a_model_stay_with_it(tmp_path: Path) -> None:
    packed = io.BytesIO(models.dense_3d(5))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\n")
    content = document(fix(packed.getvalue(), tmp_path, "--json", "-o", "out.tflite"))
    assert content["changed"]
    with zipfile.ZipFile(tmp_path / "out.tflite") as archive:
        assert archive.read("labels.txt") == b"cat\ndog\n"


def test_a_cut_is_written_with_its_manifest(tmp_path: Path) -> None:
    content = document(fix(models.with_tail(), tmp_path, "--cut-tail", "--json", "-o", "out"))
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["model_split.json", "model_tail.tflite", "model_tpu.tflite"]
    assert [p["role"] for p in content["parts"]] == ["tpu", "tail"]
    assert content["split_proof"]["identical"]
    manifest = json.loads((tmp_path / "out" / "model_split.json").read_text())
    assert manifest["schema"] == "edgeopt.split/1"
    assert [p["runs_on"] for p in manifest["parts"]] == ["edgetpu", "cpu"]


def test_a_repair_that_only_xnnpack_doubts_is_offered(tmp_path: Path) -> None:
    done = fix(models.leaky(), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "edgeopt fix --own-kernels makes these repairs too: leaky relu" in " ".join(
        done.stdout.split()
    )
    content = document(fix(models.leaky(), tmp_path, "--own-kernels", "--json"))
    assert content["after"]["placement"]["ops_cpu"] == 0
    proofs = [s["proof"] for s in content["repairs"] if s["applied"]]
    assert [[k["kernels"] for k in p["kernels"]] for p in proofs] == [["own"]]


def test_parts_that_cannot_all_be_written_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "out" / "model_tail.tflite").mkdir(parents=True)
    done = fix(models.with_tail(), tmp_path, "--cut-tail", "-o", "out")
    assert done.returncode == 2, done.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["model_tail.tflite"]


def test_samples_of_the_user_are_part_of_the_proof(tmp_path: Path) -> None:
    samples = np.random.default_rng(3).random((3, 8, 8, 4)).astype(np.float32)
    np.save(tmp_path / "samples.npy", samples)
    plain = document(fix(models.float_edges(), tmp_path, "--json", "--dry-run"))
    more = document(
        fix(models.float_edges(), tmp_path, "--json", "--dry-run", "--calibration", "samples.npy")
    )
    counts = [c["repairs"][0]["proof"]["samples"] for c in (plain, more)]
    assert counts[1] == counts[0] + 3


def test_inspect_explains_as_fix_does(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(models.leaky())
    command = [sys.executable, "-m", "edgeopt", "inspect", str(path), "--target", "edgetpu"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert "To map more" in shown.stdout
    told = subprocess.run([*command, "--json"], capture_output=True, timeout=240, check=True)
    rows = json.loads(told.stdout)["explanations"]
    assert [row.keys() for row in rows] == [EXPLANATION, EXPLANATION]
