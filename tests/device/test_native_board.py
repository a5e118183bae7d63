"""The native runner over a real SSH link: built there, parity to the bit, nothing left behind."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tools.sshd import Sshd

from edgeopt.device import Device, connect
from edgeopt.device.run import RunRequest
from edgeopt.device.runner import clean, host_outputs, run
from edgeopt.errors import DeviceError
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent

pytestmark = pytest.mark.device
MODEL = demo_dir() / "fashion.tflite"


@pytest.fixture
def device(sshd: Sshd) -> Iterator[Device]:
    sshd.trust()
    with connect(sshd.spec(python=sys.executable)) as device:
        yield device


@pytest.fixture
def wanted() -> RunRequest:
    source = np.random.default_rng(7)
    samples = tuple((source.random((1, 28, 28, 1), np.float32),) for _ in range(3))
    sha256 = hashlib.sha256(MODEL.read_bytes()).hexdigest()
    return RunRequest(model=MODEL, sha256=sha256, runs=10, warmup=2, inputs=samples, timeout_s=120)


def test_it_is_built_on_the_board_and_computes_what_this_machine_does(
    sshd: Sshd, device: Device, wanted: RunRequest
) -> None:
    found, reference = run(device, wanted, Silent(), "native"), host_outputs(wanted)
    assert found.outputs is not None
    assert reference.outputs is not None
    for ours, theirs in zip(found.outputs, reference.outputs, strict=True):
        assert [a.tobytes() for a in ours] == [b.tobytes() for b in theirs]
    assert "on the device" in found.facts["native"]["built_by"]
    again = run(device, wanted, Silent(), "native")
    assert again.sent_bytes == 0
    assert clean(device) > 0
    assert not sshd.running("runner")


def test_a_killed_link_ends_it(sshd: Sshd, device: Device, wanted: RunRequest) -> None:
    """The deadline kills the program there as well."""
    from dataclasses import replace

    run(device, wanted, Silent(), "native")  # builds it
    with pytest.raises(DeviceError, match="did not end within"):
        run(device, replace(wanted, runs=1, time_s=60.0, timeout_s=3), Silent(), "native")
    assert not sshd.running(".runner")


def test_benchmark_says_which_runner_measured(sshd: Sshd, tmp_path: Path) -> None:
    sshd.trust()
    (tmp_path / "devices.toml").write_text(
        f'schema = 1\n[devices.board]\nurl = "{sshd.url}"\nkey = "{sshd.key}"\n'
        f'python = "{sys.executable}"\n'
    )
    argv = [sys.executable, "-m", "edgeopt", "benchmark", str(MODEL), "--json", "--device", "board"]
    argv += ["--runtime", "native", "--runs", "20"]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["device"]["runtime"] == "native"
    assert report["parity"]["max_abs_diff"] == 0
    [process] = report["measurement"]["processes"]
    assert process["runs"] + process["moved_runs"] == 20
    assert report["measurement"]["conditions"]["call_overhead_ns"] > 0
