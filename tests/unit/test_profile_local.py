"""A profile and a load for real on this machine: LiteRT's profiler, and threads that compute."""

from __future__ import annotations

import hashlib
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema
from relu_chain import chain
from test_device_agent import request, with_double
from tflite_models import edited, fully_connected

from edgeopt.device import Device, DeviceSpec, connect
from edgeopt.device.load.run import put_load
from edgeopt.device.profiling.run import profile
from edgeopt.device.run import RunRequest
from edgeopt.errors import DeviceError, InputError, ModelError
from edgeopt.load import Load
from edgeopt.model import read
from edgeopt.pipeline.loading import check_batch
from edgeopt.progress import Silent


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with connect(DeviceSpec(name="local", kind="local", workdir=str(tmp_path / "w"))) as device:
        yield device


def written(path: Path, data: bytes) -> RunRequest:
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    return RunRequest(model=path, sha256=sha256, timeout_s=60)


def profiled(device: Device, wanted: RunRequest, **changes: Any) -> dict[str, Any]:
    found = profile(device, wanted, read(wanted.model), Silent(), runs=10, **changes)
    return found.profile


def test_every_operator_of_the_shipped_model_has_its_time(device: Device) -> None:
    found = profiled(device, request())
    assert found["method"] == "litert_profiler" and found["same_outputs"] is True
    assert {op["matched"] for op in found["operators"]} == {"order"}
    assert all(op["kernel"] for op in found["operators"])
    assert found["sum"]["cut_off_ns"] >= 1000 * len(found["operators"])
    assert found["partitions"][0]["told_apart"] == len(found["operators"])
    ways = ("plain", "profiler_off", "profiler_on", "inside")
    assert [found["whole"][way]["runs"] for way in ways] == [10, 10, 10, 10]
    by_type = sum(row["typical_ns"] or 0 for row in found["by_type"])
    assert by_type == pytest.approx(found["sum"]["rows_ns"])


def test_without_xnnpack_operators_are_told_by_their_own_index(device: Device) -> None:
    found = profiled(device, request(), kernels="builtin")
    assert {op["matched"] for op in found["operators"]} == {"index"}
    assert found["partitions"] == [] and found["sum"]["cut_off_ns"] == 0
    assert "another execution" in found["notes"][0]
    assert found["sum"]["typical_ns"] < 1.5 * found["whole"]["inside"]["typical_ns"]


def test_a_model_that_leaves_its_batch_open_is_profiled_as_it_runs(
    device: Device, tmp_path: Path
) -> None:
    found = profiled(device, written(tmp_path / "m.tflite", open_batch()))
    assert [op["op"] for op in found["operators"]] == ["FULLY_CONNECTED"]
    assert found["runs"] == 10 and found["same_outputs"]


def test_a_chain_of_equal_operators_is_told_apart_or_said_not_to_be(
    device: Device, tmp_path: Path
) -> None:
    found = profiled(device, written(tmp_path / "m.tflite", chain(0, 6)))
    timed = [op for op in found["operators"] if op["typical_ns"] is not None]
    hidden = [op for op in found["operators"] if op["typical_ns"] is None]
    assert len(timed) + len(hidden) == 6
    assert not hidden or any("cannot be told apart" in note for note in found["notes"])


def test_another_version_than_the_proven_one_is_refused_by_name(tmp_path: Path) -> None:
    device = with_double(tmp_path, "OpResolverType = None")
    with device, pytest.raises(DeviceError, match=r"has no profiler.*0-double|2\.3\.0") as caught:
        profile(device, request(), read(request().model), Silent())
    assert "benchmark_model" in caught.value.hint


def test_a_crash_of_the_profiler_is_contained_and_named(tmp_path: Path, device: Device) -> None:
    """A double of ctypes' loader that ends the process, as a wrong call into C would."""
    site = tmp_path / "site"
    site.mkdir()
    body = """
        import ctypes, os, signal
        real = ctypes.CDLL
        class Double(real):
            def __init__(self, name, *rest, **more):
                if name and "libLiteRt.so" in str(name):
                    os.kill(os.getpid(), signal.SIGSEGV)
                real.__init__(self, name, *rest, **more)
        ctypes.CDLL = Double
        """
    (site / "usercustomize.py").write_text(textwrap.dedent(body))
    python = tmp_path / "python-that-crashes"
    code = f"import sys; sys.path.insert(0, '{site}'); import usercustomize, runpy;"
    code += " sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    python.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "{code}" "$@"\n')
    python.chmod(0o755)
    spec = replace(device.spec, python=str(python))
    with connect(spec) as crashing, pytest.raises(DeviceError, match="SIGSEGV"):
        profile(crashing, request(), read(request().model), Silent())


def test_a_model_that_the_profiler_cannot_take_is_the_models_error(
    device: Device, tmp_path: Path
) -> None:
    """Variable tensors: LiteRT's compiled model knows none, its interpreter does."""

    def variable(model: Any) -> None:
        state = schema.TensorT()
        state.name, state.shape, state.type = b"state", [1, 4], schema.TensorType.FLOAT32
        state.buffer, state.isVariable = 0, True
        model.subgraphs[0].tensors.append(state)

    wanted = written(tmp_path / "m.tflite", edited(fully_connected(), variable))
    with pytest.raises(ModelError, match="profiler"):
        profiled(device, wanted)


def open_batch() -> bytes:
    """A dense layer whose file says 1 and whose signature leaves the batch open."""

    def edit(model: Any) -> None:
        for index in (0, 3):
            model.subgraphs[0].tensors[index].shapeSignature = [
                -1,
                *model.subgraphs[0].tensors[index].shape[1:],
            ]

    return edited(fully_connected(), edit)


def test_two_threads_are_loaded_together_and_one_alone_before_and_after(device: Device) -> None:
    load = Load(concurrency=2, time_s=0.4)
    found = put_load(device, request(), load, Silent()).throughput
    assert found["per_second"]["value"] > 0 and found["requests"] > 10
    assert len(found["fairness"]["requests"]) == 2 and min(found["fairness"]["requests"]) > 0
    assert found["alone"]["per_second"] > 0 and found["speedup"] > 0
    assert found["memory"]["peak_rss_bytes"] > 1 << 20


def test_requests_that_come_at_random_times_are_all_answered(device: Device) -> None:
    load = Load(concurrency=2, rate=100, time_s=0.5)
    found = put_load(device, request(), load, Silent()).throughput
    assert found["loop"] == "open" and found["speedup"] is None
    assert found["requests"] == found["offered_per_second"] * load.time_s > 10


def test_an_open_batch_is_resized_and_its_samples_are_counted(
    device: Device, tmp_path: Path
) -> None:
    wanted = written(tmp_path / "m.tflite", open_batch())
    found = put_load(device, wanted, Load(batch=16, time_s=0.2), Silent()).throughput
    assert found["unit"] == "samples" and found["batch"] == 16
    assert found["per_second"]["value"] >= 16


def test_a_fixed_batch_is_refused_with_how_to_make_another(device: Device, tmp_path: Path) -> None:
    wanted = written(tmp_path / "m.tflite", fully_connected(batch=2))
    check_batch(read(wanted.model), Load(batch=2))
    with pytest.raises(InputError, match="fixed shape 2x4") as caught:
        check_batch(read(wanted.model), Load(batch=3))
    assert "convert" in caught.value.hint
    with pytest.raises(InputError, match="fixed shape"):  # the device says so too
        put_load(device, wanted, Load(batch=3, time_s=0.1), Silent())


def test_benchmark_model_takes_no_load(device: Device) -> None:
    wanted = replace(request(), options={"runtime": "benchmark_model"})
    with pytest.raises(InputError, match="one request at a time"):
        put_load(device, wanted, Load(concurrency=2), Silent())


def test_invoke_lets_go_of_pythons_lock() -> None:
    """What loads with threads stand on: another thread wakes up while one long call computes."""
    from ai_edge_litert.interpreter import Interpreter

    slow = Interpreter(model_content=chain(0, 40, width=2_000_000))
    slow.allocate_tensors()
    slow.invoke()
    begun, done = threading.Event(), threading.Event()

    def compute() -> None:
        begun.set()
        slow.invoke()
        done.set()

    worker = threading.Thread(target=compute)
    started, woken = time.monotonic(), 0
    worker.start()
    begun.wait()
    while not done.is_set():
        time.sleep(0.0005)
        woken += 1
    worker.join()
    took_ms = 1000 * (time.monotonic() - started)
    assert took_ms > 5 and woken >= 4, f"woke up {woken} times in {took_ms:.0f} ms"
