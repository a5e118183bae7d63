"""An Edge TPU's partition is one entry: its runtimes have no profiler. The library is a double."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from compiled_models import compiled_double
from tools.fake_coral import build_library, why_no_library

from edgeopt.artifact import hash_path
from edgeopt.device import DeviceSpec, connect
from edgeopt.device.profiling.run import Profiled, profile
from edgeopt.device.run import RunRequest
from edgeopt.errors import InputError
from edgeopt.model import read
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent


@pytest.fixture
def coral(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if reason := why_no_library():
        pytest.skip(reason)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(build_library(tmp_path / "library").parent))
    monkeypatch.setenv("EDGEOPT_FAKE_CORAL", "works")
    yield


def profiled(folder: Path, *, on_cpu: int, kernels: str = "xnnpack") -> Profiled:
    """The demo model compiled, with its last `on_cpu` operators left on the CPU."""
    source, model = demo_dir() / "fashion.tflite", folder / "m_edgetpu.tflite"
    count = sum(1 for _ in read(source).operators())
    model.write_bytes(compiled_double(source.read_bytes(), [set(range(count - on_cpu))]))
    wanted = RunRequest(
        model=model, sha256=hash_path(model), accelerator="edgetpu", timeout_s=60,
        options={"runtime": "edgetpu"},
    )  # fmt: skip
    with connect(DeviceSpec(name="local", kind="local", workdir=str(folder / "w"))) as device:
        return profile(device, wanted, read(model), Silent(), kernels=kernels, runs=20)


def test_a_partition_that_is_the_whole_model_has_the_whole_time(
    coral: None, tmp_path: Path
) -> None:
    found = profiled(tmp_path, on_cpu=0).profile
    (entry,) = found["operators"]
    assert (found["method"], entry["op"], entry["matched"]) == (
        "whole",
        "edgetpu-custom-op",
        "only",
    )
    assert entry["typical_ns"] == found["whole"]["plain"]["typical_ns"] and entry["share"] == 1
    assert "cannot be told apart" in found["notes"][0]


def test_beside_operators_on_the_cpu_the_time_is_nobodys(coral: None, tmp_path: Path) -> None:
    found = profiled(tmp_path, on_cpu=2).profile
    assert [op["typical_ns"] for op in found["operators"]] == [None, None, None]
    (entry,) = found["unmatched"]
    assert entry["name"] == "1 Edge TPU partition(s) and 2 operators on the CPU"
    assert entry["typical_ns"] == found["whole"]["plain"]["typical_ns"]


def test_other_kernels_are_not_what_a_compiled_model_has(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no other kernels"):
        profiled(tmp_path, on_cpu=0, kernels="builtin")
