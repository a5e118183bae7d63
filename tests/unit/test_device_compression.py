"""What is sent compressed, why, and what happens where the device cannot unpack it."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeopt.device import Workspace
from edgeopt.device.local import LocalTransport
from edgeopt.device.packing import (
    UNPACKERS,
    Packing,
    Trial,
    UnpackFailed,
    choose,
    try_levels,
)
from edgeopt.errors import DeviceError

SPARSE = (Trial(level=1, ratio=0.37, bytes_s=70e6), Trial(level=6, ratio=0.33, bytes_s=10e6))


def int8_weights(path: Path, *, zeros: float, size: int = 200_000) -> Path:
    """Laplace-distributed, as trained weights are, with so many of them pruned."""
    random = np.random.default_rng(1)
    values = np.clip(random.laplace(0, 18, size), -127, 127).astype(np.int8)
    values[random.random(size) < zeros] = 0
    path.write_bytes(values.tobytes())
    return path


class UnpackingHere(LocalTransport):
    """A double of a device that unpacks: this machine, with real programs. `spoil` may change the
    words of the program."""

    unpacks_at_once = True
    spoil: Callable[[tuple[str, ...]], tuple[str, ...]] = staticmethod(lambda words: words)

    def push_packed(  # type: ignore[no-untyped-def]
        self, source: Path, remote: str, *, packing: Packing, timeout_s: float, on_bytes=None
    ) -> None:
        stream = b"".join(block for block, _ in packing.blocks(source))
        with Path(remote).open("wb") as out:
            done = subprocess.run(self.spoil(packing.unpack), input=stream, stdout=out, check=False)
        if done.returncode:
            raise UnpackFailed("The double could not decompress it.")


def put(transport: LocalTransport, root: Path, source: Path) -> tuple[Workspace, object]:
    space = Workspace(transport, root=str(root), limit_bytes=1 << 30)
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    return space, space.put(source, sha256=sha256, suffix=".tflite").transfer


def test_a_sparse_model_over_a_slow_link_is_compressed() -> None:
    level, why = choose(4_000_000, 1.25e6, SPARSE, piped=True)
    assert level == 1
    assert why == "at 10 Mbit/s 3.2 s plain and 1.2 s compressed are predicted"


def test_the_stronger_level_is_for_the_slowest_links() -> None:
    assert choose(4_000_000, 0.1e6, SPARSE, piped=True)[0] == 6


def test_a_link_faster_than_decompression_gets_the_plain_file() -> None:
    assert choose(4_000_000, 100e6, SPARSE, piped=True)[0] is None


def test_unpacking_afterwards_takes_time_of_its_own() -> None:
    assert choose(4_000_000, 12e6, SPARSE, piped=True)[0] == 1
    assert choose(4_000_000, 12e6, SPARSE, piped=False)[0] is None


@pytest.mark.parametrize("rate", [1e5, 1e6, 1e7, 1e8, 1e9])
def test_compression_is_never_chosen_where_it_is_predicted_slower(rate: float) -> None:
    for ratio in (0.1, 0.4, 0.7):
        trial = Trial(level=1, ratio=ratio, bytes_s=50e6)
        level, _ = choose(10_000_000, rate, (trial,), piped=False)
        predicted = 1 / 50e6 + ratio / rate + 1 / 25e6
        assert (level is None) == (predicted >= 0.8 / rate)


def test_dense_weights_are_not_worth_trying_and_sparse_ones_are(tmp_path: Path) -> None:
    dense = int8_weights(tmp_path / "dense", zeros=0)
    sparse = int8_weights(tmp_path / "sparse", zeros=0.8)
    assert try_levels(dense, 200_000) == ()
    first, second = try_levels(sparse, 200_000)
    assert 0.3 < second.ratio < first.ratio < 0.42


def test_a_file_that_is_sparse_at_its_beginning_only_is_not_mistaken(tmp_path: Path) -> None:
    file = tmp_path / "mixed"
    dense = np.random.default_rng(0).bytes(7_000_000)
    file.write_bytes(bytes(1_000_000) + dense)
    assert try_levels(file, 8_000_000) == ()


def test_a_tiny_file_is_not_worth_starting_a_program_for(tmp_path: Path) -> None:
    file = tmp_path / "tiny"
    file.write_bytes(bytes(20_000))
    assert try_levels(file, 20_000) == ()


def test_the_stream_is_one_gzip_file_and_its_bytes_are_counted(tmp_path: Path) -> None:
    source = int8_weights(tmp_path / "sparse", zeros=0.8, size=1_000_000)
    packing = Packing(level=1, unpack=())
    parts = list(packing.blocks(source))
    stream = b"".join(block for block, _ in parts)
    assert gzip.decompress(stream) == source.read_bytes()
    assert packing.sent == len(stream) < 420_000
    assert parts[-1][1] == 1_000_000


@pytest.mark.parametrize("program", UNPACKERS)
def test_each_unpacker_restores_the_file_and_fails_on_a_cut_stream(
    program: str, tmp_path: Path
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here")
    source = int8_weights(tmp_path / "sparse", zeros=0.8)
    packing = Packing(level=6, unpack=UNPACKERS[program])
    stream = b"".join(block for block, _ in packing.blocks(source))
    whole = subprocess.run(packing.unpack, input=stream, capture_output=True, check=True)
    assert whole.stdout == source.read_bytes()
    cut = subprocess.run(packing.unpack, input=stream[:-9000], capture_output=True, check=False)
    assert cut.returncode != 0


def test_a_compressed_file_arrives_whole_and_the_sent_bytes_are_the_compressed_ones(
    tmp_path: Path,
) -> None:
    source = int8_weights(tmp_path / "sparse", zeros=0.8)
    space, transfer = put(UnpackingHere(), tmp_path / "work", source)
    assert (transfer.compression, transfer.raw_bytes, transfer.note) == ("gzip", 200_000, "")
    assert 0.3 < transfer.bytes / 200_000 < 0.42
    assert transfer.seconds > 0
    space.close()


def test_a_plain_transport_is_never_asked_to_compress(tmp_path: Path) -> None:
    source = int8_weights(tmp_path / "sparse", zeros=0.8)
    _, transfer = put(LocalTransport(), tmp_path / "work", source)
    assert (transfer.compression, transfer.bytes) == (None, 200_000)
    assert transfer.reason == "local sends files as they are"


def test_a_device_without_a_decompressor_gets_the_plain_file_and_the_report_says_so(
    tmp_path: Path,
) -> None:
    source = int8_weights(tmp_path / "sparse", zeros=0.8)
    space = Workspace(UnpackingHere(), root=str(tmp_path / "work"), limit_bytes=1 << 30)
    assert space.root  # the device is asked what it has
    space.sender.unpackers = ()
    transfer = space.sender.send(source, str(tmp_path / "there"))
    assert (transfer.compression, transfer.bytes) == (None, 200_000)
    assert "none of gzip, busybox, toybox, python3" in transfer.note
    assert (tmp_path / "there").read_bytes() == source.read_bytes()


def test_a_decompressor_that_fails_is_done_without(tmp_path: Path) -> None:
    source = int8_weights(tmp_path / "sparse", zeros=0.8)
    transport = UnpackingHere()
    transport.spoil = lambda words: ("false",)  # type: ignore[method-assign,assignment]
    _, transfer = put(transport, tmp_path / "work", source)
    assert (transfer.compression, transfer.bytes) == (None, 200_000)
    assert "could not decompress" in transfer.note and "sent again as it is" in transfer.note


def test_a_decompressor_that_lies_is_found_by_the_hash_and_done_without(tmp_path: Path) -> None:
    source = int8_weights(tmp_path / "sparse", zeros=0.8)
    transport = UnpackingHere()
    transport.spoil = lambda words: ("cat",)  # type: ignore[method-assign,assignment]
    space, transfer = put(transport, tmp_path / "work", source)
    assert (transfer.compression, transfer.bytes) == (None, 200_000)
    assert "damaged sparse when decompressing" in transfer.note
    left = [p.name for p in (tmp_path / "work").iterdir() if p.name.startswith("tmp-")]
    assert left == []
    space.close()


def test_a_source_that_changes_while_it_is_sent_is_still_refused(tmp_path: Path) -> None:
    source = int8_weights(tmp_path / "sparse", zeros=0.8)
    space = Workspace(UnpackingHere(), root=str(tmp_path / "work"), limit_bytes=1 << 30)
    with pytest.raises(DeviceError, match="is not the one that was sent"):
        space.put(source, sha256="0" * 64, suffix=".tflite")
    assert [p for p in (tmp_path / "work").iterdir() if p.name.startswith("tmp-")] == []
