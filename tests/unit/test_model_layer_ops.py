"""What a saved Keras model is said to become, against what TFLiteConverter makes of it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[1] / "tools/layer_operations.py"


@pytest.mark.tf
@pytest.mark.parametrize("which", ["keras", "tf_keras"])
def test_each_layer_becomes_the_operations_that_its_file_was_said_to_become(
    which: str, tmp_path: Path
) -> None:
    for package in ("tensorflow", which):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    done = subprocess.run(
        [sys.executable, str(TOOL), which, str(tmp_path)],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert len(answer) == (52 if which == "keras" else 8)
    wrong = {n: f for n, f in answer.items() if not f["said"] or set(f["said"]) - set(f["made"])}
    assert wrong == {}
