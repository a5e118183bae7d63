"""The agent and its runner, run for real on this machine; what it answers is never trusted."""

from __future__ import annotations

import ast
import hashlib
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.device import Device, DeviceSpec, connect
from edgeopt.device.doctor import doctor
from edgeopt.device.python_runner.bundle import agent_sha256, write_agent
from edgeopt.device.run import RunRequest
from edgeopt.device.runner import clean, host_outputs, run
from edgeopt.errors import DeviceError, EdgeoptError, InputError, ModelError
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent

AGENT = Path(__file__).resolve().parents[2] / "edgeopt" / "device" / "agent"
MODEL = demo_dir() / "fashion.tflite"


def request(**changes: Any) -> RunRequest:
    sha256 = hashlib.sha256(MODEL.read_bytes()).hexdigest()
    return replace(
        RunRequest(model=MODEL, sha256=sha256, runs=4, warmup=2, timeout_s=60), **changes
    )


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with connect(DeviceSpec(name="local", kind="local", workdir=str(tmp_path / "w"))) as device:
        yield device


def with_double(tmp_path: Path, body: str) -> Device:
    """A device whose only runtime is a double: `body` is its interpreter module."""
    module = tmp_path / "site" / "ai_edge_litert"
    module.mkdir(parents=True)
    (module / "__init__.py").write_text('__version__ = "0-double"\n')
    (module / "interpreter.py").write_text(textwrap.dedent(body))
    python = tmp_path / "python-with-a-double"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path}/site exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    return connect(
        DeviceSpec(name="double", kind="local", workdir=str(tmp_path / "w"), python=str(python))
    )


def failure(device: Device, wanted: RunRequest) -> EdgeoptError:
    with device, pytest.raises(EdgeoptError) as caught:
        run(device, wanted, Silent())
    return caught.value


@pytest.mark.parametrize("file", sorted(AGENT.glob("*.py")), ids=lambda file: file.name)
def test_the_agent_is_python_3_7_and_imports_the_standard_library_only(file: Path) -> None:
    tree = ast.parse(file.read_text(), feature_version=(3, 7))
    top = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and not (isinstance(node, ast.ImportFrom) and node.level == 1)
    }
    assert top <= {*sys.stdlib_module_names}
    assert not {"pickle", "exec", "eval"} & {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name)
    }


def test_the_agent_is_one_file_of_the_same_bytes_every_time(tmp_path: Path) -> None:
    script = "from edgeopt.device.python_runner.bundle import *; print(agent_sha256())"
    others = [
        subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, cwd=tmp_path
        ).stdout.decode()
        for _ in range(2)
    ]
    written = hashlib.sha256(write_agent(tmp_path).read_bytes()).hexdigest()
    assert {text.strip() for text in others} == {written} == {agent_sha256()}


def test_a_run_answers_raw_times_outputs_and_the_models_hash(device: Device) -> None:
    source = np.random.default_rng(1)
    like = run(device, request(), Silent())
    assert len(like.samples_ns or ()) == 4 and len(like.warmup_ns or ()) == 2
    assert like.outputs is None and like.model_sha256 == request().sha256
    assert (like.init_ns or 0) > 0 and (like.peak_rss_bytes or 0) > 1 << 20
    shape, dtype = _input_of(device)
    samples = tuple((source.integers(0, 100, shape).astype(dtype),) for _ in range(3))
    wanted = request(inputs=samples)
    there, here = run(device, wanted, Silent()), host_outputs(wanted)
    assert here.samples_ns == () and there.outputs is not None and here.outputs is not None
    for one, other in zip(there.outputs, here.outputs, strict=True):
        assert np.array_equal(one[0], other[0])


def test_nothing_but_the_inference_is_between_two_readings_of_the_clock() -> None:
    tree = ast.parse((AGENT / "timing.py").read_text())
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.While)]
    lines = [[ast.unparse(statement) for statement in loop.body] for loop in loops]
    [body] = [texts for texts in lines if "began = clock()" in texts]
    start = body.index("began = clock()")
    assert body[start : start + 3] == ["began = clock()", "invoke()", "spent = clock() - began"]


def test_a_run_by_time_warms_up_until_settled_and_lasts_as_long_as_asked(device: Device) -> None:
    found = run(device, request(runs=3, time_s=0.05, warmup=None), Silent())
    assert sum(found.samples_ns or ()) >= 5e7 and len(found.samples_ns or ()) >= 3
    assert sum(found.warmup_ns or ()) >= 3 * 5e7  # three blocks of the rule of agent/settle.py
    capped = run(device, request(runs=3, time_s=60, max_runs=7, warmup=0), Silent())
    assert (len(capped.samples_ns or ()), capped.warmup_ns) == (7, ())
    assert (found.base_rss_bytes or 0) < (found.peak_rss_bytes or 0) and found.seconds is not None


def _input_of(device: Device) -> tuple[tuple[int, ...], str]:
    from ai_edge_litert.interpreter import Interpreter

    detail = Interpreter(str(MODEL)).get_input_details()[0]
    return tuple(int(d) for d in detail["shape"]), np.dtype(detail["dtype"]).name


def test_a_second_run_sends_nothing_and_clean_leaves_nothing(
    device: Device, tmp_path: Path
) -> None:
    assert run(device, request(), Silent()).sent_bytes == MODEL.stat().st_size
    assert run(device, request(), Silent()).sent_bytes == 0
    assert clean(device) > MODEL.stat().st_size
    assert not (tmp_path / "w").exists()


def test_an_unkept_run_leaves_nothing_also_after_a_failure(tmp_path: Path) -> None:
    device = with_double(tmp_path, "raise ImportError('double')")
    assert "no runtime" in failure(device, request(keep=False)).message
    assert not (tmp_path / "w").exists()


def test_no_runtime_says_what_to_install(tmp_path: Path) -> None:
    found = failure(with_double(tmp_path, "raise ImportError('double')"), request())
    assert isinstance(found, DeviceError) and "pip install" in found.hint


@pytest.mark.parametrize(("version", "package"), [("3.8.10", "tflite-runtime"), ("3.12.1", "ai-")])
def test_the_runtime_to_install_is_one_that_has_a_wheel_for_that_python(
    tmp_path: Path, version: str, package: str
) -> None:
    body = f"import platform\nplatform.python_version = lambda: {version!r}\nraise ImportError"
    found = failure(with_double(tmp_path, body), request())
    assert f"pip install {package}" in found.hint


def test_a_program_that_is_no_python_is_named_as_such(tmp_path: Path) -> None:
    with connect(DeviceSpec(name="b", kind="local", workdir=str(tmp_path), python="echo")) as other:
        found = failure(other, request())
    assert "echo on local ended without an answer" in found.message
    assert "--device-python" in found.hint


def test_a_crash_is_named_with_its_signal_and_stage(tmp_path: Path) -> None:
    body = """
        import os, signal
        def Interpreter(**options): os.kill(os.getpid(), signal.SIGSEGV)
    """
    found = failure(with_double(tmp_path, body), request())
    assert "SIGSEGV" in found.message and "load (ai_edge_litert)" in found.message


def test_being_killed_is_explained_as_want_of_memory(tmp_path: Path) -> None:
    body = """
        import os, signal
        def Interpreter(**options): os.kill(os.getpid(), signal.SIGKILL)
    """
    assert "memory" in failure(with_double(tmp_path, body), request()).message


def test_a_hang_ends_at_the_deadline_and_says_where(tmp_path: Path) -> None:
    body = """
        import time
        def Interpreter(**options): time.sleep(600)
    """
    found = failure(with_double(tmp_path, body), request(timeout_s=1.5))
    assert "did not end within 1.5 s" in found.message and "load" in found.message


def test_a_runtime_that_prints_does_not_disturb_the_answer(tmp_path: Path) -> None:
    body = """
        import os
        os.write(1, b'{"event": "result", "samples_ns": [1]}\\n')
        raise ImportError("double")
    """
    assert "no runtime" in failure(with_double(tmp_path, body), request()).message


def test_an_answer_that_was_invented_is_refused(tmp_path: Path) -> None:
    body = """
        import os
        for fd in range(3, 10):
            try: os.write(fd, b'{"event": "result", "model_sha256": "x"}\\n')
            except OSError: pass
        os._exit(0)
    """
    found = failure(with_double(tmp_path, body), request())
    assert "cannot be used: model_sha256" in found.message


def test_a_missing_python_is_a_device_error(tmp_path: Path) -> None:
    spec = DeviceSpec(
        name="x", kind="local", workdir=str(tmp_path / "w"), python="/nonexistent/python3"
    )
    assert isinstance(failure(connect(spec), request()), DeviceError)


def test_a_cpu_model_is_never_passed_off_as_an_edge_tpu_run(device: Device) -> None:
    found = failure(device, request(accelerator="edgetpu"))
    assert isinstance(found, ModelError) and "would run on the CPU" in found.message


def test_a_missing_edge_tpu_library_is_named(device: Device, tmp_path: Path) -> None:
    found = failure(device, compiled_request(tmp_path))
    assert "Edge TPU library" in found.message and "libedgetpu" in found.hint


def test_an_edge_tpu_that_does_not_open_says_what_the_board_shows(tmp_path: Path) -> None:
    """The library is a double that opens nothing, as libedgetpu does without a device."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    (tmp_path / "double.c").write_text(
        "void *tflite_plugin_create_delegate(void *k, void *v, long n, void *e) { return 0; }\n"
        "void tflite_plugin_destroy_delegate(void *d) {}\n"
    )
    library = ["gcc", "-shared", "-fPIC", "-o", "libedgetpu.so.1", "double.c"]
    subprocess.run(library, cwd=tmp_path, check=True)
    python = tmp_path / "python-with-a-double"
    python.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    spec = DeviceSpec(name="x", kind="local", workdir=str(tmp_path / "w"), python=str(python))
    found = failure(connect(spec), compiled_request(tmp_path))
    assert "Edge TPU of local does not open: " in found.message and found.hint


def compiled_request(tmp_path: Path) -> RunRequest:
    """A CPU model that carries the mark of a compiled one."""
    compiled = tmp_path / "stands-for-compiled.tflite"
    compiled.write_bytes(MODEL.read_bytes() + b"edgetpu-custom-op")
    sha256 = hashlib.sha256(compiled.read_bytes()).hexdigest()
    return request(model=compiled, sha256=sha256, accelerator="edgetpu")


def test_a_damaged_model_ends_in_a_clear_error(device: Device, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(MODEL.read_bytes()[:2000])
    sha256 = hashlib.sha256(broken.read_bytes()).hexdigest()
    assert failure(device, request(model=broken, sha256=sha256)).exit_code in (3, 5)


def test_samples_that_do_not_fit_are_the_users_to_correct(device: Device) -> None:
    wrong = ((np.zeros((1, 3), np.int8),),)
    assert isinstance(failure(device, request(inputs=wrong)), InputError)


def test_a_gpu_is_not_what_python_runtimes_do(device: Device) -> None:
    assert isinstance(failure(device, request(accelerator="gpu")), InputError)


def test_doctor_finds_this_machines_runtime(device: Device) -> None:
    checks = {check.name: check for check in doctor(device)}
    assert checks["runtime"].ok and "ai_edge_litert" in checks["runtime"].found
