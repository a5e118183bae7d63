"""`--runtime native` on this machine: the host's side of the small C program."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native_programs import MODEL, library, shared_cache, why_no_compiler

from edgeopt.device import Device, DeviceSpec, connect
from edgeopt.device.native import build as native_build
from edgeopt.device.native.build import build
from edgeopt.device.run import RunRequest
from edgeopt.device.runner import host_outputs, run
from edgeopt.errors import DeviceError, EdgeoptError, InputError, ModelError, ToolError
from edgeopt.progress import Silent

pytestmark = pytest.mark.skipif(bool(why_no_compiler()), reason=why_no_compiler())
CROSS = "aarch64-linux-gnu-gcc"
COMPILERS = re.compile(r".*(cc|gcc|clang|c99|c89)(-[0-9.]+)?")


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """This machine; the program that a first test has built serves the others."""
    monkeypatch.setenv("EDGEOPT_CACHE", str(shared_cache()))
    with connect(DeviceSpec(name="local", kind="local", workdir=str(tmp_path / "w"))) as device:
        yield device


def request(**changes: Any) -> RunRequest:
    sha256 = hashlib.sha256(MODEL.read_bytes()).hexdigest()
    source = np.random.default_rng(3)
    images = tuple((source.random((1, 28, 28, 1), np.float32),) for _ in range(3))
    wanted = RunRequest(model=MODEL, sha256=sha256, runs=4, warmup=2, inputs=images, timeout_s=60)
    return replace(wanted, **changes)


def native(device: Device, wanted: RunRequest) -> Any:
    return run(device, wanted, Silent(), "native")


def failure(device: Device, wanted: RunRequest) -> EdgeoptError:
    with pytest.raises(EdgeoptError) as caught:
        native(device, wanted)
    return caught.value


def without_compilers(folder: Path, monkeypatch: pytest.MonkeyPatch, keep: str = "") -> None:
    """A PATH with all that is on it but compilers."""
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).glob("*") if Path(place).is_dir() else ():
            link = folder / program.name
            wanted = program.name == keep or not COMPILERS.fullmatch(program.name)
            if wanted and not link.is_symlink():
                link.symlink_to(program)
    monkeypatch.setenv("PATH", str(folder))


def test_its_outputs_are_the_interpreters_to_the_last_bit(device: Device) -> None:
    found, reference = native(device, request()), host_outputs(request())
    assert found.runtime == "native"
    assert found.runtime_version == reference.runtime_version
    for ours, theirs in zip(found.outputs, reference.outputs or (), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a.dtype == b.dtype
            assert a.tobytes() == b.tobytes()


def test_the_answer_is_the_agents_field_by_field(device: Device) -> None:
    found, agent = native(device, request()), run(device, request(), Silent(), "litert")
    assert (len(found.samples_ns), len(found.warmup_ns)) == (4, 2)
    assert 0 < found.first_ns < 10**9
    assert 0 < found.init_ns < 10**9
    assert found.base_rss_bytes < agent.base_rss_bytes  # there is no Python in it
    assert 0 < found.peak_rss_bytes - found.base_rss_bytes < 64 << 20
    assert set(found.conditions) == set(agent.conditions)
    assert found.facts["arch"] == agent.facts["arch"]
    assert found.facts["native"]["library"] == "the device's ai-edge-litert"
    assert "on the device" in found.facts["native"]["built_by"]


def test_it_is_built_once_and_leaves_nothing_when_asked_to(device: Device, tmp_path: Path) -> None:
    first, second = build(device, Silent()), build(device, Silent())
    assert first.sha256 == second.sha256
    assert first.path.stat().st_mtime_ns == second.path.stat().st_mtime_ns
    native(device, request(keep=False))
    assert not (tmp_path / "w").exists()


def test_what_one_board_has_built_never_goes_to_another(device: Device) -> None:
    """A hostile board could give any program for the one that it was to build."""
    first = build(device, Silent()).path
    device.transport.name = "another board"  # a double: the same machine, reached as another
    assert build(device, Silent()).path != first
    device.transport.name = "local"
    assert build(device, Silent()).path == first


def test_runs_by_time_and_a_warm_up_that_settles(device: Device) -> None:
    found = native(device, request(runs=2, time_s=0.05, warmup=None))
    assert sum(found.samples_ns) >= 0.05e9
    assert len(found.warmup_ns) > 5


def test_other_inputs_than_the_model_takes_are_refused(device: Device) -> None:
    for wrong in (
        np.zeros((1, 28, 28, 1), np.int8),
        np.zeros((1, 28, 28), np.float32),
        np.zeros((2, 28, 28, 1), np.float32),
    ):
        assert isinstance(failure(device, request(inputs=((wrong,),))), InputError)
    two = np.zeros((1, 28, 28, 1), np.float32)
    assert "has 1 inputs" in failure(device, request(inputs=((two, two),))).message


def test_what_it_cannot_do_is_refused_before_anything_is_built(device: Device) -> None:
    for wrong in (
        request(accelerator="edgetpu"),
        request(accelerator="gpu"),
        request(options={"interpreter": "tensorflow"}),
        request(options={"kernels": "fast"}),
        request(threads=0),
        request(timeout_s=0.0),
        request(runs=0, inputs=()),
    ):
        assert isinstance(failure(device, wrong), InputError)


def test_a_model_that_the_library_refuses_is_a_model_error(device: Device, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"\x18\0\0\0TFL3" + bytes(200))
    sha256 = hashlib.sha256(broken.read_bytes()).hexdigest()
    assert isinstance(failure(device, request(model=broken, sha256=sha256)), ModelError)


def test_its_own_deadline_ends_it(device: Device) -> None:
    error = failure(device, request(runs=1, time_s=60.0, timeout_s=1.5))
    assert isinstance(error, DeviceError)
    assert "did not end within 1.5 s" in error.message


def test_without_a_compiler_it_says_what_to_install(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_compilers(tmp_path / "bin", monkeypatch)
    monkeypatch.setenv("EDGEOPT_CACHE", str(tmp_path / "empty"))
    error = failure(device, request())
    assert isinstance(error, ToolError)
    assert "no C compiler" in error.message
    assert "gcc libc6-dev" in error.hint


@pytest.mark.skipif(shutil.which(CROSS) is None, reason=f"no {CROSS} is installed")
def test_an_aarch64_board_without_a_compiler_gets_one_that_is_built_here(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device._facts = {**device.facts(), "arch": "aarch64"}  # a double: this machine is another
    without_compilers(tmp_path / "bin", monkeypatch, keep=CROSS)
    monkeypatch.setenv("EDGEOPT_CACHE", str(tmp_path / "empty"))
    runner = build(device, Silent())
    head = runner.path.read_bytes()[:20]
    assert head[:4] == b"\x7fELF"
    assert int.from_bytes(head[18:20], "little") == 183  # EM_AARCH64
    assert "on this machine" in runner.built_by


@pytest.mark.parametrize("facts", [{"arch": "riscv64"}, {"os": "Darwin"}, {"android": "14"}])
def test_other_systems_are_refused_by_name(device: Device, facts: dict[str, str]) -> None:
    device._facts = {**device.facts(), **facts}  # a double of such a board
    error = failure(device, request())
    assert isinstance(error, ToolError)
    assert "native runner is for Linux" in error.message


def python_with(folder: Path, version: str | None) -> str:
    """A device's Python whose only package is a double of ai-edge-litert."""
    package = folder / "site" / "ai_edge_litert"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('never imported')\n")
    (package / "libLiteRt.so").symlink_to(library())
    if version:
        about = folder / "site" / f"ai_edge_litert-{version}.dist-info" / "METADATA"
        about.parent.mkdir()
        about.write_text(f"Metadata-Version: 2.1\nName: ai-edge-litert\nVersion: {version}\n")
    program = folder / "python-double"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={folder}/site exec {sys.executable} -S "$@"\n')
    program.chmod(0o755)
    return str(program)


def crashing_library(target: Path) -> None:
    """A double of libLiteRt.so: every function is there, and the first one crashes."""
    header = Path(native_build.__file__).with_name("source") / "litert.h"
    names = re.findall(r"X\(\w+, (\w+),", header.read_text())
    assert len(names) > 30
    body = "(void) { *(volatile int *)0 = 1; return 0; }"
    code = "".join(f"int LiteRt{name}{body}\n" for name in names)
    argv = ["cc", "-shared", "-fPIC", "-w", "-x", "c", "-", "-o", str(target)]
    subprocess.run(argv, input=code, text=True, check=True)


def test_a_crash_in_the_library_is_named_with_its_stage(device: Device, tmp_path: Path) -> None:
    device.spec = replace(device.spec, python=python_with(tmp_path, "2.3.0"))
    double = tmp_path / "site" / "ai_edge_litert" / "libLiteRt.so"
    double.unlink()
    crashing_library(double)
    error = failure(device, request())
    assert isinstance(error, DeviceError)
    assert "SIGSEGV" in error.message
    assert "load (native)" in error.message


@pytest.mark.parametrize("version", ["2.1.0", "9.0.0", None])
def test_a_library_of_a_release_that_was_not_compared_is_not_called(
    device: Device, tmp_path: Path, version: str | None
) -> None:
    device.spec = replace(device.spec, python=python_with(tmp_path, version))
    error = failure(device, request())
    assert isinstance(error, DeviceError)
    assert (version or "unknown") in error.message
    assert "--runtime litert" in error.hint


def test_a_python_without_the_wheel_says_how_to_get_it(device: Device, tmp_path: Path) -> None:
    program = tmp_path / "bare"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    program.chmod(0o755)
    device.spec = replace(device.spec, python=str(program))
    error = failure(device, request())
    assert "pip install ai-edge-litert" in error.hint
    assert error.details["reason"] == "no_runtime"


def wheel(folder: Path, *, version: str = "2.3.0", tag: str = "manylinux_2_27_x86_64") -> Path:
    file = folder / f"ai_edge_litert-{version}-{tag}.whl"
    info = f"ai_edge_litert-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.write(library(), "ai_edge_litert/libLiteRt.so")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nTag: cp311-cp311-{tag}\n")
        archive.writestr(f"{info}/METADATA", f"Name: ai-edge-litert\nVersion: {version}\n")
    return file


def test_a_device_without_python_takes_the_library_of_a_wheel(
    device: Device, tmp_path: Path
) -> None:
    arch = str(device.facts()["arch"])
    file = wheel(tmp_path, tag=f"manylinux_2_27_{arch}")
    device.spec = replace(device.spec, python="/nowhere/python")
    found = native(device, request(options={"native_library": str(file)}))
    assert found.facts["native"]["library"] == file.name
    assert found.outputs


def test_wheels_that_do_not_fit_are_refused(device: Device, tmp_path: Path) -> None:
    (tmp_path / "no.whl").write_bytes(b"PK no")
    other = wheel(tmp_path, tag="manylinux_2_27_riscv64")
    older = wheel(tmp_path, version="2.0.2")
    for file, said in (
        (tmp_path / "absent.whl", "is no wheel"),
        (tmp_path / "no.whl", "is no wheel"),
        (other, "is for"),
        (older, "is LiteRT 2.0.2"),
    ):
        error = failure(device, request(options={"native_library": str(file)}))
        assert isinstance(error, InputError)
        assert said in error.message
