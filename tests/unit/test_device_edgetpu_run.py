"""Runs on an Edge TPU that is none: a fake libedgetpu, which the real interpreter loads."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled_models import compiled_double
from tools.fake_coral import GOOGLES_LABEL, build_library, why_no_library

from edgeopt.device import DeviceSpec, connect, run
from edgeopt.device.doctor import doctor
from edgeopt.device.run import RunRequest, RunResult
from edgeopt.errors import DeviceError, InputError
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent

SOURCE = demo_dir() / "fashion.tflite"
PACKAGES = Path(__file__).resolve().parents[2] / "edgeopt/device/edgetpu/packages.py"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := why_no_library():
        pytest.skip(reason)
    return build_library(tmp_path_factory.mktemp("library")).parent


@pytest.fixture
def coral(library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """This machine with the fake library where the loader finds it."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    return monkeypatch


def operations(path: Path) -> int:
    from edgeopt.model import read

    return sum(1 for _ in read(path).operators())


def run_compiled(tmp_path: Path, **changes: Any) -> RunResult:
    """The demo model with all its operations inside the custom operator, run twice."""
    model = tmp_path / "stands-for-compiled_edgetpu.tflite"
    whole = set(range(operations(SOURCE)))
    model.write_bytes(compiled_double(SOURCE.read_bytes(), [whole]))
    request = RunRequest(
        model=model,
        sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
        accelerator="edgetpu",
        runs=2,
        warmup=0,
        inputs=((np.ones(_shape(), _dtype()),),),
        timeout_s=60,
        options=changes.pop("options", {}),
    )
    spec = DeviceSpec(name="local", kind="local", workdir=str(tmp_path / "w"), **changes)
    with connect(spec) as device:
        return run(device, request, Silent())


def _detail() -> Any:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(SOURCE)).get_input_details()[0]


def _shape() -> tuple[int, ...]:
    return tuple(int(d) for d in _detail()["shape"])


def _dtype() -> Any:
    return _detail()["dtype"]


def refused(tmp_path: Path, **changes: Any) -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        run_compiled(tmp_path, **changes)
    assert caught.value.exit_code == 5 and caught.value.hint
    return caught.value


def test_the_compiled_part_runs_in_the_delegate_and_the_stand_in_is_named(
    coral: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = run_compiled(tmp_path, edgetpu_device="usb:0", edgetpu_performance="High")
    assert found.accelerator == "edgetpu" and len(found.samples_ns or ()) == 2
    assert found.outputs is not None and not found.outputs[0][0].any()  # zeros: it computes nothing
    assert found.facts["edgetpu"]["is_double"] is True
    assert any("stand-in" in reason for reason in found.invalid_reasons)
    assert any("STAND-IN" in note for note in found.notes)
    assert "device=usb:0" in found.log and "Performance=High" in found.log


@pytest.mark.parametrize(
    ("mode", "reason", "said"),
    [
        ("no-device", "no_device", "does not open: no Edge TPU is to be seen"),
        ("too-old", "runtime_too_old", "compiled for Edge TPU runtime 14"),
        ("mismatch", "version_clash", "different TensorFlows"),
        ("crash", "version_clash", "during load (ai_edge_litert): segmentation fault"),
        ("crash-in-invoke", "version_clash", "SIGSEGV"),
    ],
)
def test_what_goes_wrong_is_said_with_what_to_do(
    coral: pytest.MonkeyPatch, tmp_path: Path, mode: str, reason: str, said: str
) -> None:
    coral.setenv("EDGEOPT_FAKE_CORAL", mode)
    error = refused(tmp_path)
    assert said in error.message and error.details["reason"] == reason


def test_a_pair_that_would_crash_is_refused_before_anything_is_sent(
    coral: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = build_library(tmp_path / "google", GOOGLES_LABEL).parent
    coral.setenv("LD_LIBRARY_PATH", str(folder))
    coral.setenv("EDGEOPT_FAKE_CORAL", "crash")
    error = refused(tmp_path)
    assert "crashes under interpreters from 2.12" in error.message
    assert not (tmp_path / "w").exists()


def test_an_absent_library_says_what_to_install(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert error.details["reason"] == "library" and "libedgetpu1-std" in error.hint


def test_a_library_that_is_no_plugin_is_named(coral: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "libedgetpu.so.1").write_bytes(b"not a library")
    coral.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert "cannot load the Edge TPU library" in refused(tmp_path).message


def test_a_device_word_that_opens_nothing_is_the_users_to_correct(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no Edge TPU device"):
        run_compiled(tmp_path, options={"edgetpu_device": "usb0"})


def test_the_doctor_names_the_stand_in(coral: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = DeviceSpec(name="local", kind="local", workdir=str(tmp_path / "w"))
    with connect(spec) as device:
        found = {check.name: check for check in doctor(device)}
    assert "STAND-IN" in found["libedgetpu"].found and found["libedgetpu"].warning
    assert found["edge tpu"].details["is_double"] is True


PYCORAL_DOUBLE = """
import sys
from ai_edge_litert.interpreter import Interpreter, load_delegate
def load_edgetpu_delegate(options=None):
    return load_delegate("libedgetpu.so.1", options or {})
def make_interpreter(model_path_or_content, device=None, delegate=None):
    return Interpreter(model_content=model_path_or_content, experimental_delegates=[delegate])
"""


def test_pycoral_comes_first_where_it_fits_and_gets_the_options(
    coral: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """pycoral is a double over the real interpreter; its metadata is that of a fitting pair."""
    site = tmp_path / "site"
    for name in ("pycoral-2.0.3.dist-info", "tflite_runtime-2.17.1.dist-info", "pycoral/utils"):
        (site / name).mkdir(parents=True)
    (site / "pycoral/utils/edgetpu.py").write_text(PYCORAL_DOUBLE)
    python = tmp_path / "python-with-a-double"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    found = run_compiled(tmp_path, python=str(python), edgetpu_device=":0")
    assert found.runtime == "pycoral" and "option device=:0" in found.log
    assert found.facts["edgetpu"]["packages_python"]["tflite_runtime"] == "2.17.1"


def test_what_runs_on_the_board_is_python_3_7_and_standard_library_only() -> None:
    tree = ast.parse(PACKAGES.read_text(), feature_version=(3, 7))
    imported = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
    names = {n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in imported}
    assert names and names <= {*sys.stdlib_module_names}
