"""The GPU path of the runtime, with a named double of the program: no GPU is in this machine.

The double is a shell script that says in its output that it is one; what is tested is how edgeopt
judges what such a program prints. The real program is in tests/device/test_adb_benchmark.py.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from edgeopt.device import DeviceSpec, connect
from edgeopt.device.benchmark.runner import run
from edgeopt.device.run import RunRequest, RunResult
from edgeopt.errors import DeviceError

RESULT = """count=1 curr=900
count=12 first=410 curr=400 min=390 max=450 avg=402 std=9
Inference timings in us: Init: 50000, First inference: 900, Warmup (avg): 900, Inference (avg): 402
"""
KERNEL = "INFO: Created 1 GPU delegate kernels.\n"
SPLIT = (
    "INFO: 60 operations will run on the GPU, and the remaining 6 operations will run on the CPU.\n"
)


class Notes:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def stage(self, text: str, total: int | None = None, unit: str = "") -> None: ...

    def advance(self, done: int, total: int | None = None) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


def run_double(folder: Path, output: str, end: str = "exit 0", **changes: Any) -> RunResult:
    model, double = folder / "m.tflite", folder / "double_of_benchmark_model"
    model.write_bytes(b"not a model: the double reads none")
    double.write_text(f"#!/bin/sh\ncat <<'E'\nTEST DOUBLE, nothing was run\n{output}E\n{end}\n")
    double.chmod(0o755)
    values: dict[str, Any] = {
        "model": model,
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "accelerator": "gpu",
        "runs": 12,
        "options": {"benchmark_binary": str(double)},
    }
    progress = changes.pop("progress", Notes())
    with connect(DeviceSpec(name="local", kind="local")) as here:
        return run(here, RunRequest(**{**values, **changes}), progress)


def test_a_full_gpu_run_is_one_and_states_its_precision(tmp_path: Path) -> None:
    applied = "Explicitly applied GPU delegate, and the model graph will be completely executed by"
    result = run_double(tmp_path, f"{KERNEL}{applied} the delegate.\n{RESULT}")
    assert result.accelerator == "gpu"
    assert result.conditions["gpu_precision"] == "float16 allowed"
    assert result.summary_ns is not None and result.summary_ns["mean"] == 402000.0


def test_a_partial_gpu_run_counts_and_says_how_much_in_every_place(tmp_path: Path) -> None:
    progress = Notes()
    result = run_double(tmp_path, KERNEL + SPLIT + RESULT, progress=progress)
    assert result.accelerator == "gpu (partial: 1 kernel, 60 of 66 operations)"
    assert result.conditions["accelerator"] == result.accelerator
    assert "60 of 66 operations on the GPU" in progress.notes[0]


@pytest.mark.parametrize("log", ["", "GPU delegate created.\n", f"{KERNEL}ERROR: Restored original"
    " execution plan after delegate application failure.\n"])  # fmt: skip
def test_a_result_without_proof_is_refused_with_exit_5(tmp_path: Path, log: str) -> None:
    with pytest.raises(DeviceError, match="refused to call it a GPU run") as caught:
        run_double(tmp_path, log + RESULT)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("flag", ["num_threads", "num_runs", "gpu_precision_loss_allowed"])
def test_an_ignored_flag_makes_it_another_run_than_was_asked_for(tmp_path: Path, flag: str) -> None:
    warning = f"WARN: Unconsumed cmdline flags: --{flag}=1\n"
    with pytest.raises(DeviceError, match=f"ignored --{flag}"):
        run_double(tmp_path, warning + KERNEL + RESULT)


def test_a_program_without_memory_reports_is_still_used(tmp_path: Path) -> None:
    warning = "WARN: Unconsumed cmdline flags: --report_peak_memory_footprint=true\n"
    result = run_double(tmp_path, warning + RESULT, accelerator="cpu")
    assert result.peak_rss_bytes is None
    assert result.conditions["peak_rss"] is None


def test_a_crash_is_told_by_its_signal_even_after_a_result(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="segmentation fault"):
        run_double(tmp_path, RESULT, end="kill -SEGV $$", accelerator="cpu")


def test_a_program_that_says_nothing_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no usable result"):
        run_double(tmp_path, "", accelerator="cpu")
