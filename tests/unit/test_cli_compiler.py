"""`edgeopt compiler` and `edgeopt compile` as a user calls them; the compiler is a double."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from relu_chain import ENDED, block, chain, compiled, script, written

ROOT = Path(__file__).resolve().parents[2]
DOUBLE = ROOT / "tests" / "tools" / "edgetpu_compiler_double"


def edgeopt(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    known = {k: v for k, v in os.environ.items() if not k.startswith("EDGEOPT_EDGETPU")}
    return subprocess.run(
        [sys.executable, "-m", "edgeopt", *words],
        cwd=folder,
        env={**known, "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    content = json.loads(done.stdout)
    assert isinstance(content, dict)
    return content


def test_without_agreement_nothing_is_installed(tmp_path: Path) -> None:
    done = edgeopt(tmp_path, "compiler", "install", "--index", "http://127.0.0.1:1")
    assert done.returncode == 2 and "--accept-licence" in done.stderr
    assert "https://coral.ai/docs/edgetpu/compiler" in done.stderr
    assert not (Path(os.environ["EDGEOPT_STATE"]) / "edgetpu_compiler").exists()


def test_offline_the_way_by_hand_is_told(tmp_path: Path) -> None:
    words = ("compiler", "install", "--accept-licence", "--offline", "--json")
    done = edgeopt(tmp_path, *words)
    error = document(done)["error"]
    assert done.returncode == error["exit_code"] == 4 and "--deb FILE" in error["hint"]


def test_show_says_which_compiler_and_why(tmp_path: Path) -> None:
    done = edgeopt(tmp_path, "compiler", "show", "--json", EDGEOPT_EDGETPU_COMPILER=str(DOUBLE))
    found = document(done)["compiler"]
    assert (found["where"], found["chosen_by"]) == (str(DOUBLE), "EDGEOPT_EDGETPU_COMPILER")
    assert found["is_double"] is True and found["version"] == "16.0.384591198"
    assert len(found["sha256"]) == 64
    shown = edgeopt(tmp_path, "compiler", "show", "--compiler", str(DOUBLE))
    assert "--compiler" in shown.stdout and "no genuine compilation" in shown.stdout


def test_without_a_compiler_show_and_doctor_say_what_to_do(tmp_path: Path) -> None:
    done = edgeopt(tmp_path, "compiler", "show", "--json")
    assert done.returncode == 4
    searched = document(done)["error"]["details"]["searched"]
    assert searched[-1] == "edgeopt compiler install"
    rows = {row["name"]: row for row in document(edgeopt(tmp_path, "doctor", "--json"))["checks"]}
    assert not rows["edgetpu_compiler"]["ok"] and "--compiler" in rows["edgetpu_compiler"]["hint"]
    assert document(edgeopt(tmp_path, "compiler", "remove", "--json"))["removed"] is None


def test_two_models_on_one_command_line_are_one_document(tmp_path: Path) -> None:
    made = written(tmp_path, x=compiled(chain(0, 3)), y=compiled(chain(0, 2)))
    written(tmp_path, a=chain(0, 3), b=chain(0, 2))
    text = "Models compiled successfully in 9 ms.\n\n" + block("model_0", 3) + block("model_1", 2)
    played = script(
        tmp_path / "play.json", compiled=[str(p) for p in made.values()], stdout=text + ENDED
    )
    words = ("compile", "a.tflite", "b.tflite", "--target", "edgetpu", "--compiler", str(DOUBLE))
    env = {"EDGEOPT_COMPILER_DOUBLE": str(played)}
    content = document(edgeopt(tmp_path, *words, "--json", **env))
    assert content["schema"] == "edgeopt.compile/1" and content["caching_token"] == 77
    assert [m["artifacts"][-1]["stage"] for m in content["models"]] == ["compiled", "compiled"]
    shown = edgeopt(tmp_path, *words, "-o", "out", **env)
    assert shown.returncode == 0 and "one caching token in all files: 77" in shown.stdout
    assert {p.name for p in (tmp_path / "out").glob("*.tflite")} == {
        "a_edgetpu.tflite",
        "b_edgetpu.tflite",
    }
    one = edgeopt(tmp_path, *words, "-o", "one.tflite", **env)
    assert one.returncode == 2 and "names one" in one.stderr
