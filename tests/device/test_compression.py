"""Compressed pushes to a real sshd and a real adbd, over slow links and cut ones."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tools.adbd import Adbd, adbd_or_skip
from tools.slow_link import SlowLink
from tools.sshd import Sshd

from edgeopt.artifact import hash_path
from edgeopt.device import Device, connect
from edgeopt.device.adb import transport as adb
from edgeopt.device.inventory import DeviceSpec
from edgeopt.device.packing import UNPACKERS, Packing, UnpackFailed
from edgeopt.device.run import RunRequest
from edgeopt.device.runner import host_outputs, run
from edgeopt.device.ssh import host_keys
from edgeopt.device.workspace import Workspace
from edgeopt.errors import DeviceError
from edgeopt.model import read
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent

pytestmark = pytest.mark.device
SIZE = 1_000_000
MBIT = 1e6


@pytest.fixture(scope="module")
def phone() -> Iterator[Adbd]:
    yield from adbd_or_skip()


def weights(path: Path, zeros: float) -> Path:
    random = np.random.default_rng(1)
    values = np.clip(random.laplace(0, 18, SIZE), -127, 127).astype(np.int8)
    values[random.random(SIZE) < zeros] = 0
    path.write_bytes(values.tobytes())
    return path


def over(board: Sshd, link: SlowLink) -> Device:
    spec = board.spec(port=link.port)
    host_keys.pin(spec, board.fingerprint)
    return connect(spec)


def put(device: Device, source: Path) -> tuple[float, object]:
    start = time.perf_counter()
    placed = device.workspace.put(source, sha256=hash_path(source), suffix=".tflite")
    return time.perf_counter() - start, placed.transfer


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_a_sparse_model_crosses_a_slow_link_in_a_fraction_of_the_time(
    sshd: Sshd, tmp_path: Path
) -> None:
    dense, sparse = weights(tmp_path / "dense", 0), weights(tmp_path / "sparse", 0.8)
    with SlowLink((sshd.host, sshd.port), bits_s=4 * MBIT) as link, over(sshd, link) as device:
        assert device.workspace.root
        dense_s, plain = put(device, dense)
        sparse_s, packed = put(device, sparse)
    assert (plain.compression, plain.bytes) == (None, SIZE)
    assert packed.compression == "gzip" and packed.bytes < 0.4 * SIZE
    assert sparse_s < 0.65 * dense_s
    arrived = sshd.home / ".cache/edgeopt" / f"{hash_path(sparse)}.tflite"
    assert arrived.read_bytes() == sparse.read_bytes()
    assert arrived.stat().st_mode & 0o777 == 0o600


def test_a_link_that_dies_during_a_compressed_push_leaves_nothing_of_it(
    sshd: Sshd, tmp_path: Path
) -> None:
    sparse = weights(tmp_path / "sparse", 0.8)
    with SlowLink((sshd.host, sshd.port), bits_s=20 * MBIT, cut_after=200_000) as link:
        device = over(sshd, link)
        with pytest.raises(DeviceError, match="was lost"):
            put(device, sparse)
        device.transport.close()
    work = sshd.home / ".cache/edgeopt"
    deadline = time.monotonic() + 10  # for the device's gzip to see the end of its input
    while any(n.startswith("tmp-") for n in files(work)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [n for n in files(work) if not n.endswith("-uses")] == []
    sshd.trust()
    with connect(sshd.spec()) as device:
        _, packed = put(device, sparse)
        assert packed.compression == "gzip"
    assert [n for n in files(work) if not n.endswith("-uses")] == [f"{hash_path(sparse)}.tflite"]


def test_a_fast_link_gets_a_large_sparse_file_as_it_is(sshd: Sshd, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(weights(tmp_path / "sparse", 0.8).read_bytes() * 17)
    sshd.trust()
    with connect(sshd.spec()) as device:
        device.workspace.sender.link_bytes_s = 100e6  # what quiet loopback measures
        _, transfer = put(device, large)
    assert (transfer.compression, transfer.bytes) == (None, 17 * SIZE)


def test_the_speed_of_a_link_is_measured_for_a_large_file(sshd: Sshd, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(17 * SIZE))
    with SlowLink((sshd.host, sshd.port), bits_s=40 * MBIT) as link, over(sshd, link) as device:
        assert device.workspace.root
        _, transfer = put(device, large)
    assert transfer.compression == "gzip"
    assert 20 * MBIT / 8 < transfer.link_bytes_s < 80 * MBIT / 8


@pytest.mark.parametrize("program", ["gzip", "python3"])
def test_ssh_devices_unpack_with_what_they_have(sshd: Sshd, tmp_path: Path, program: str) -> None:
    sparse = weights(tmp_path / "sparse", 0.8)
    sshd.trust()
    with connect(sshd.spec()) as device:
        packing = Packing(level=1, unpack=UNPACKERS[program])
        remote = f"{sshd.home}/{program}"
        device.transport.push_packed(sparse, remote, packing=packing, timeout_s=30)
    assert Path(remote).read_bytes() == sparse.read_bytes()


def test_a_full_disk_is_told_as_a_full_disk(sshd: Sshd, tmp_path: Path) -> None:
    sparse = weights(tmp_path / "sparse", 0.8)
    small = sshd.home / "small"
    sshd.mount_tmpfs(small, "size=500k")
    sshd.trust()
    with connect(sshd.spec()) as device:
        packing = Packing(level=1, unpack=UNPACKERS["gzip"])
        with pytest.raises(UnpackFailed, match="No space"):
            device.transport.push_packed(sparse, f"{small}/x", packing=packing, timeout_s=30)
        with pytest.raises(DeviceError, match=r"could not store sparse: .*No space"):
            device.workspace.sender.unpackers = ("gzip",)
            device.workspace.sender.send(sparse, f"{small}/x")


def test_a_real_adbd_gets_it_compressed_and_nothing_else_is_left(
    phone: Adbd, tmp_path: Path
) -> None:
    sparse = weights(tmp_path / "sparse", 0.8)
    link = adb.connect(DeviceSpec(name="bench", kind="adb", serial=phone.serial), 10)
    space = Workspace(link, root="/data/local/tmp/edgeopt", limit_bytes=1 << 30)
    space.sender.link_bytes_s = 1e6  # the virtual cable is faster
    placed = space.put(sparse, sha256=hash_path(sparse), suffix=".tflite")
    space.close()
    assert placed.transfer.compression == "gzip" and placed.sent_bytes < 0.4 * SIZE
    arrived = phone.path(placed.path)
    assert arrived.read_bytes() == sparse.read_bytes()
    assert arrived.stat().st_mode & 0o777 == 0o600
    assert files(arrived.parent) == [arrived.name]
    space.clean()


def test_an_adb_device_whose_gzip_fails_gets_the_plain_file(phone: Adbd, tmp_path: Path) -> None:
    sparse = weights(tmp_path / "sparse", 0.8)
    broken = phone.path("/usr/local/bin/gzip")
    broken.write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    broken.chmod(0o755)
    try:
        link = adb.connect(DeviceSpec(name="bench", kind="adb", serial=phone.serial), 10)
        space = Workspace(link, root="/data/local/tmp/edgeopt", limit_bytes=1 << 30)
        space.sender.link_bytes_s = 1e6
        placed = space.put(sparse, sha256=hash_path(sparse), suffix=".tflite")
        space.close()
    finally:
        broken.unlink()
    assert (placed.transfer.compression, placed.sent_bytes) == (None, SIZE)
    assert "(gzip): broken" in placed.transfer.note
    assert files(phone.path(placed.path).parent) == [Path(placed.path).name]
    space.clean()


def test_an_adb_link_cut_in_the_middle_leaves_only_what_the_next_session_sweeps(
    phone: Adbd, tmp_path: Path
) -> None:
    sparse = tmp_path / "sparse"
    sparse.write_bytes(os.urandom(1000) + bytes(200 * SIZE))
    link = adb.connect(DeviceSpec(name="bench", kind="adb", serial=phone.serial), 10)
    space = Workspace(link, root="/data/local/tmp/edgeopt", limit_bytes=1 << 30)
    space.sender.link_bytes_s = 1e6  # the virtual cable is faster
    told: list[int] = []

    def cut(done: int) -> None:
        told.append(done)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        space.put(sparse, sha256=hash_path(sparse), suffix=".tflite", on_bytes=cut)
    space.close()
    root = phone.path("/data/local/tmp/edgeopt")
    assert [n for n in files(root) if n.startswith("tmp-")] == []
    space.clean()
    shutil.rmtree(root, ignore_errors=True)


def test_a_sparse_model_runs_on_the_board_as_here_and_the_run_says_how_it_was_sent(
    sshd: Sshd, tmp_path: Path
) -> None:
    sparse = tmp_path / "sparse.tflite"
    content = bytearray((demo_dir() / "fashion.tflite").read_bytes())
    for tensor in read(demo_dir() / "fashion.tflite").tensors():
        if tensor.data is not None and tensor.dtype == "float32" and len(tensor.data) > 1000:
            start = content.find(bytes(tensor.data))
            values = np.frombuffer(tensor.data, "<f4").copy()
            values[np.random.default_rng(0).random(values.size) < 0.8] = 0
            content[start : start + len(tensor.data)] = values.tobytes()
    sparse.write_bytes(content)
    image = np.random.default_rng(0).random((1, 28, 28, 1), np.float32)
    request = RunRequest(
        model=sparse, sha256=hash_path(sparse), runs=3, warmup=1, inputs=((image,),), timeout_s=60
    )
    sshd.trust()
    with connect(sshd.spec(python=sys.executable)) as device:
        there, here = run(device, request, Silent()), host_outputs(request)
        assert there.transfer and there.transfer.compression == "gzip"
        assert there.sent_bytes == there.transfer.bytes < 0.5 * there.transfer.raw_bytes
        again = run(device, request, Silent())
    assert (again.sent_bytes, again.transfer) == (0, None)
    assert there.outputs and here.outputs
    assert np.array_equal(there.outputs[0][0], here.outputs[0][0])
