"""What --runtime and --native-library mean is settled before any long work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeopt import pipeline
from edgeopt.errors import InputError
from edgeopt.job import Job
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent
from edgeopt.store import Store


def refused(**changes: Any) -> InputError:
    job = Job(model=demo_dir() / "fashion.tflite", **changes)
    with pytest.raises(InputError) as caught:
        pipeline.benchmark(job, Store(), Silent())
    return caught.value


def test_an_unknown_runtime_is_named_with_the_nearest() -> None:
    assert "Did you mean native?" in refused(runtime="nativ").message


def test_the_native_runner_is_for_the_cpu() -> None:
    error = refused(runtime="native", target="coral-usb")
    assert "runs on the CPU" in error.message


def test_it_does_not_reach_android() -> None:
    assert "Android" in refused(runtime="native", device="adb://x").message


def test_a_wheel_without_the_runner_or_without_a_file_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "ai_edge_litert.whl"
    assert "There is no wheel" in refused(runtime="native", native_library=wheel).message
    wheel.write_bytes(b"")
    assert "--runtime native" in refused(native_library=wheel).hint


def test_the_runtime_that_devices_toml_names_for_a_board_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEOPT_CONFIG", str(tmp_path))
    text = 'schema = 1\n[devices.pi]\nurl = "ssh://pi@127.0.0.1:1"\nruntime = "nativ"\n'
    (tmp_path / "devices.toml").write_text(text)
    assert "Did you mean native?" in refused(device="pi").message
    (tmp_path / "devices.toml").write_text(text.replace("nativ", "native"))
    assert "no profiler" in refused(device="pi", profile="xnnpack").message
    assert "runs on the CPU" in refused(device="pi", target="coral-dev-board").message
