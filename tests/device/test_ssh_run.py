"""A model over a real SSH link: the same outputs as here, nothing sent twice, nothing left."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tools.sshd import Sshd

from edgeopt.device import Device, connect
from edgeopt.device.doctor import doctor
from edgeopt.device.run import RunRequest
from edgeopt.device.runner import clean, host_outputs, run
from edgeopt.errors import DeviceError
from edgeopt.progress import Silent

pytestmark = pytest.mark.device


@pytest.fixture
def device(sshd: Sshd) -> Iterator[Device]:
    sshd.trust()
    with connect(sshd.spec(python=sys.executable)) as device:
        yield device


@pytest.fixture
def wanted(shared: Path) -> RunRequest:
    """The MLPerf Tiny keyword model with three samples in its own input type."""
    model = shared / "models" / "kws_dscnn" / "ref_int8.tflite"
    source = np.random.default_rng(7)
    samples = tuple((source.integers(-128, 128, (1, 49, 10, 1), np.int8),) for _ in range(3))
    return RunRequest(
        model=model,
        sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
        runs=10,
        warmup=2,
        inputs=samples,
        timeout_s=60,
    )


def changed(request: RunRequest, **changes: Any) -> RunRequest:
    from dataclasses import replace

    return replace(request, **changes)


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_the_board_and_this_machine_agree_to_the_last_bit(
    device: Device, wanted: RunRequest
) -> None:
    there, here = run(device, wanted, Silent()), host_outputs(wanted)
    assert there.outputs and here.outputs and len(there.samples_ns or ()) == 10
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(there.outputs, here.outputs, strict=True))
    assert there.sent_bytes == wanted.model.stat().st_size
    assert run(device, wanted, Silent()).sent_bytes == 0


def test_clean_leaves_the_home_as_it_was(sshd: Sshd, device: Device, wanted: RunRequest) -> None:
    before = everything(sshd.home)
    run(device, wanted, Silent())
    assert clean(device) > wanted.model.stat().st_size
    assert everything(sshd.home) == before


def test_an_unkept_run_leaves_the_home_as_it_was(
    sshd: Sshd, device: Device, wanted: RunRequest
) -> None:
    before = everything(sshd.home)
    run(device, changed(wanted, keep=False), Silent())
    assert everything(sshd.home) == before


def test_a_board_without_a_runtime_says_what_to_install(sshd: Sshd, wanted: RunRequest) -> None:
    bare = sshd.folder / "bare-python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    bare.chmod(0o755)
    sshd.trust()
    before = everything(sshd.home)
    with connect(sshd.spec(python=str(bare))) as device:
        with pytest.raises(DeviceError, match="no runtime") as caught:
            run(device, changed(wanted, keep=False), Silent())
        failed = [check.name for check in doctor(device) if check.ok is False]
        clean(device)
    assert "pip install ai-edge-litert" in caught.value.hint
    assert "runtime" in failed and everything(sshd.home) == before


def test_a_board_without_python_says_so(sshd: Sshd, wanted: RunRequest) -> None:
    sshd.trust()
    with connect(sshd.spec(python="/no/python3")) as device, pytest.raises(DeviceError) as caught:
        run(device, wanted, Silent())
    assert "cannot run /no/python3" in caught.value.message


def test_a_crash_on_the_board_is_named(sshd: Sshd, wanted: RunRequest) -> None:
    """The runtime is a double that dies by SIGSEGV; the death is real."""
    module = sshd.folder / "site" / "ai_edge_litert"
    module.mkdir(parents=True)
    (module / "__init__.py").touch()
    (module / "interpreter.py").write_text(
        "import os, signal\ndef Interpreter(**_): os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    python = sshd.folder / "python-with-a-double"
    python.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={sshd.folder}/site:{np.__path__[0]}/..\n"
        f'exec {sys.executable} -S "$@"\n'
    )
    python.chmod(0o755)
    sshd.trust()
    with connect(sshd.spec(python=str(python))) as device, pytest.raises(DeviceError) as caught:
        run(device, wanted, Silent())
    assert "SIGSEGV" in caught.value.message and "ai_edge_litert" in caught.value.message


def test_a_run_past_its_deadline_leaves_no_process(
    sshd: Sshd, device: Device, wanted: RunRequest
) -> None:
    run(device, wanted, Silent())
    long = changed(wanted, runs=10_000_000, timeout_s=2.0, keep=False)
    with pytest.raises(DeviceError, match="did not end within 2 s"):
        run(device, long, Silent())
    time.sleep(0.2)
    assert not sshd.running(".py")
    assert everything(sshd.home) <= {".cache"}


def test_a_second_run_waits_until_the_first_has_ended(
    sshd: Sshd, device: Device, wanted: RunRequest
) -> None:
    run(device, wanted, Silent())
    ended: list[float] = []

    def first() -> None:
        with connect(sshd.spec(python=sys.executable)) as other:
            run(other, changed(wanted, runs=12_000), Silent())
            ended.append(time.monotonic())

    thread = threading.Thread(target=first)
    thread.start()
    while not sshd.running(".py"):
        time.sleep(0.01)
    time.sleep(0.3)
    run(device, wanted, Silent())
    second = time.monotonic()
    thread.join()
    assert ended and second > ended[0] - 0.3
