"""A real benchmark_model, pushed and run over a real ADB: what it measures, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tools.adbd import Adbd, adbd_or_skip

from edgeopt.artifact import hash_path
from edgeopt.device import Device, DeviceSpec, connect
from edgeopt.device.benchmark.runner import run
from edgeopt.device.run import RunRequest
from edgeopt.errors import DeviceError, InputError, ToolError
from edgeopt.measurement import ProcessRun, measure
from edgeopt.progress import Silent

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def board() -> Iterator[Adbd]:
    yield from adbd_or_skip()


@pytest.fixture
def device(board: Adbd, shared: Path) -> Iterator[Device]:
    binary = shared / "device/benchmark_model"
    spec = DeviceSpec(name="bench", kind="adb", serial=board.serial, benchmark_binary=binary)
    with connect(spec) as connected:
        yield connected


def request(model: Path, **changes: Any) -> RunRequest:
    values: dict[str, Any] = {"model": model, "sha256": hash_path(model), "runs": 12, "warmup": 2}
    return RunRequest(**{**values, **changes})


@pytest.fixture
def model(shared: Path) -> Path:
    return shared / "models/kws_dscnn/ref_int8.tflite"


def test_a_real_run_gives_a_summary_and_invents_no_samples(device: Device, model: Path) -> None:
    result = run(device, request(model), Silent())
    assert result.model_sha256 == hash_path(model)
    assert (result.accelerator, result.samples_ns, result.outputs) == ("cpu", None, None)
    assert result.summary_ns is not None
    assert result.summary_ns["count"] == 12
    assert 10_000 < result.summary_ns["min"] <= result.summary_ns["mean"] < 1e9
    assert result.first_ns and result.init_ns
    assert result.peak_rss_bytes and 1 << 20 < result.peak_rss_bytes < 1 << 28
    assert "approximate" in result.conditions["peak_rss"]
    assert result.facts["model"] == "Debian adbd in a test namespace"


def test_its_result_is_a_valid_measurement_without_a_median(device: Device, model: Path) -> None:
    result = run(device, request(model), Silent())
    process = ProcessRun(
        summary_ns=result.summary_ns,
        conditions=result.conditions,
        invalid_reasons=result.invalid_reasons,
    )
    found = measure(processes=[process])
    assert found.valid
    assert (found.stats.median_ns, found.runs) == (None, 12)


def test_the_second_run_sends_nothing(device: Device, model: Path, board: Adbd) -> None:
    run(device, request(model), Silent())
    assert run(device, request(model), Silent()).sent_bytes == 0
    device.workspace.clean()
    assert not board.path("/data/local/tmp/edgeopt").exists()


def test_a_cpu_time_does_not_pass_for_a_gpu_time(device: Device, model: Path) -> None:
    with pytest.raises(DeviceError, match="refused to call it a GPU run") as caught:
        run(device, request(model, accelerator="gpu"), Silent())
    assert "does not know --use_gpu" in caught.value.message


def test_required_full_delegation_is_refused_by_the_program_itself(
    device: Device, model: Path
) -> None:
    options = {"require_full_delegation": "true"}
    with pytest.raises(DeviceError, match="Disallowed CPU fallback"):
        run(device, request(model, accelerator="gpu", options=options), Silent())


def test_a_model_the_program_cannot_run_is_explained(device: Device, shared: Path) -> None:
    bad = shared / "models/coral/model_invoking_error.tflite"
    with pytest.raises(DeviceError, match="unresolved custom op: fake-op-double"):
        run(device, request(bad), Silent())


def test_a_deadline_ends_the_program_on_the_device(device: Device, model: Path) -> None:
    with pytest.raises(DeviceError, match=r"benchmark_model on .* did not end within 2 s"):
        run(device, request(model, runs=1_000_000, timeout_s=2), Silent())
    listed = device.transport.run(["ps", "-e", "-o", "args"], timeout_s=10).stdout
    assert b"benchmark_model" not in listed


def test_two_runs_never_share_a_device(device: Device, model: Path, board: Adbd) -> None:
    import fcntl

    run(device, request(model), Silent())
    with board.path("/data/local/tmp/edgeopt/edgeopt.lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DeviceError, match="is busy"):
            run(device, request(model, timeout_s=3), Silent())


def test_without_keep_nothing_stays(device: Device, model: Path, board: Adbd) -> None:
    device.workspace.clean()
    run(device, request(model, keep=False), Silent())
    left = [p.name for p in board.path("/data/local/tmp/edgeopt").glob("*")]
    assert left in ([], ["edgeopt.lock"])


def test_a_program_of_another_processor_is_explained(
    device: Device, model: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "benchmark_model"
    foreign.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(200))
    options = {"benchmark_binary": str(foreign)}
    with pytest.raises(DeviceError, match="benchmark_model failed") as caught:
        run(device, request(model, options=options), Silent())
    assert "not for this device" in caught.value.hint


def test_a_missing_program_is_an_input_error(device: Device, model: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match=r"no benchmark_model"):
            run(device, request(model, options={"benchmark_binary": str(path)}), Silent())


def test_offline_without_a_program_says_what_to_give(board: Adbd, model: Path) -> None:
    spec = DeviceSpec(name="bench", kind="adb", serial=board.serial)
    with connect(spec) as bare, pytest.raises(ToolError, match="--offline"):
        run(bare, request(model, options={"offline": "true"}), Silent())


def test_the_same_runtime_works_on_this_machine(shared: Path, model: Path) -> None:
    binary = shared / "device/benchmark_model/benchmark_model"  # its lib/ is taken along
    with connect(DeviceSpec(name="here", kind="local", benchmark_binary=binary)) as here:
        result = run(here, request(model), Silent())
    assert result.summary_ns is not None and result.summary_ns["count"] == 12
    # Not the memory of this test: see _execute.
    assert result.peak_rss_bytes is not None and result.peak_rss_bytes < 20 << 20
