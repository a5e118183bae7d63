"""Profiles and loads over a real SSH link and a real ADB; nothing stays behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tools.adbd import Adbd, adbd_or_skip
from tools.sshd import Sshd

from edgeopt.artifact import hash_path
from edgeopt.device import DeviceSpec, connect
from edgeopt.device.load.run import put_load
from edgeopt.device.profiling.run import profile
from edgeopt.device.run import RunRequest
from edgeopt.load import Load
from edgeopt.model import read
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent

pytestmark = pytest.mark.device
MODEL = demo_dir() / "fashion.tflite"
WANTED = RunRequest(model=MODEL, sha256=hash_path(MODEL), timeout_s=60, keep=False)


@pytest.fixture(scope="module")
def android() -> Iterator[Adbd]:
    yield from adbd_or_skip()


def test_over_ssh_every_operator_has_its_time_and_nothing_stays(sshd: Sshd) -> None:
    sshd.trust()
    with connect(sshd.spec(python=sys.executable)) as device:
        found = profile(device, WANTED, read(MODEL), Silent(), runs=10).profile
        load = Load(concurrency=2, time_s=0.3)
        assert put_load(device, WANTED, load, Silent()).throughput["requests"] > 0
        left = device.workspace.root
    assert found["method"] == "litert_profiler"
    assert all(op["typical_ns"] is not None for op in found["operators"])
    assert not [p for p in Path(left).rglob("*") if p.is_file() and p.suffix in (".tflite", ".pyz")]


def test_over_adb_the_programs_table_is_the_profile(android: Adbd, shared: Path) -> None:
    binary = shared / "device/benchmark_model"
    spec = DeviceSpec(name="bench", kind="adb", serial=android.serial, benchmark_binary=binary)
    wanted = replace(WANTED, options={"runtime": "benchmark_model"})
    with connect(spec) as device:
        found = profile(device, wanted, read(MODEL), Silent(), runs=20).profile
    assert found["method"] == "benchmark_model" and found["runs"] == 20
    assert {op["matched"] for op in found["operators"]} == {"index"}
    assert found["unmatched"] == []
    assert 0.5 < found["sum"]["share_of_whole"] <= 1.05  # of the same runs, both by one clock
