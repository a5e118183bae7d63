"""Packing: a file as a gzip stream made while it is sent, and whether that is worth it.

The decision is arithmetic over measured facts: how far and how fast samples of this very file
compress here, and how fast this very link is. Nothing is packed on hope: where the prediction is
not clearly better than sending the file as it is, it is sent as it is.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeopt.errors import DeviceError

__all__ = ["UNPACKERS", "Packing", "Transfer", "Trial", "UnpackFailed", "choose", "try_levels"]

# What may decompress on a device, best first: the program to look for, and its words. Each reads
# a gzip stream and writes the file; each ends with an error when the stream is damaged or cut.
_PYTHON = (
    "import shutil,sys,gzip;"
    "shutil.copyfileobj(gzip.GzipFile(fileobj=sys.stdin.buffer),sys.stdout.buffer,1<<18)"
)
UNPACKERS: Mapping[str, tuple[str, ...]] = {
    "gzip": ("gzip", "-dc"),
    "busybox": ("busybox", "gzip", "-dc"),
    "toybox": ("toybox", "zcat"),
    "python3": ("python3", "-c", _PYTHON),
}

# Random weights of int8 compress to 0.83 to 0.87 and float ones to 0.93 at any level (measured on
# Laplace-distributed weights); 80% zeros to 0.37, 16 clusters to 0.58.
_WORTH_TRYING = 0.75
_LEAST_SAVED_BYTES = 24_000  # 2 ms at 100 Mbit/s: starting the device's gzip costs as much
_CLEARLY = 0.8  # of the plain time: timings of short transfers are that uncertain
# What a device is taken to inflate: half of what zlib does on one Cortex-A53 (a Raspberry Pi 3),
# since the program may be busybox or Python. It matters on links that are faster than this only.
_INFLATES_BYTES_S = 25e6
_LEVELS = (1, 6)
_SAMPLES, _SHORT_BYTES, _SAMPLE_BYTES = 8, 16 << 10, 64 << 10
_BLOCK = 256 << 10


class UnpackFailed(DeviceError):
    """The device could not decompress what arrived; the file can still be sent as it is."""


@dataclass(kw_only=True)
class Packing:
    """One file's way over a link: `level` of zlib, and the words that decompress on the device.
    `sent` counts the compressed bytes."""

    level: int
    unpack: tuple[str, ...]
    sent: int = field(default=0, init=False)

    def blocks(self, source: Path) -> Iterator[tuple[bytes, int]]:
        """Pieces of the gzip stream, each with how many bytes of the file it takes us to."""
        squeeze, done = zlib.compressobj(self.level, zlib.DEFLATED, 31), 0
        with source.open("rb") as reader:
            while block := reader.read(_BLOCK):
                done += len(block)
                if packed := squeeze.compress(block):
                    self.sent += len(packed)
                    yield packed, done
        packed = squeeze.flush()
        self.sent += len(packed)
        yield packed, done

    def failed(self, device: str, source: Path, said: str) -> UnpackFailed:
        """The error for what the program on the `device` said."""
        return UnpackFailed(
            f"{device} could not decompress {source.name} ({self.unpack[0]}): {said}."
        )


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """How a file crossed the link. `bytes` of `raw_bytes` were sent, `compression` is "gzip" or
    None. `seconds` include decompressing there; None where nothing was sent. `note` is what a
    user should know."""

    bytes: int
    raw_bytes: int
    compression: str | None
    seconds: float | None
    reason: str
    link_bytes_s: float | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "bytes": self.bytes,
            "raw_bytes": self.raw_bytes,
            "compression": self.compression,
            "seconds": self.seconds,
            "link_bytes_per_s": self.link_bytes_s,
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A level of zlib tried on samples of the file: compressed share, and raw bytes a second."""

    level: int
    ratio: float
    bytes_s: float


def try_levels(source: Path, size: int) -> tuple[Trial, ...]:
    """What each level makes of samples from all over the file, measured here and now.

    Empty when the file is too small or does not compress: short samples tell that in 3 ms.
    """
    if size <= _LEAST_SAVED_BYTES:
        return ()
    few = _sample(source, size, _SHORT_BYTES)
    if len(zlib.compress(few, _LEVELS[0])) > _WORTH_TRYING * len(few):
        return ()
    data, found = _sample(source, size, _SAMPLE_BYTES), []
    for level in _LEVELS:
        start = time.thread_time()  # what else runs here now is not this file's fault
        packed = len(zlib.compress(data, level))
        spent = max(time.thread_time() - start, 1e-6)
        trial = Trial(level=level, ratio=packed / len(data), bytes_s=len(data) / spent)
        if trial.ratio > _WORTH_TRYING or size * (1 - trial.ratio) < _LEAST_SAVED_BYTES:
            return ()
        found.append(trial)
    return tuple(found)


def _sample(source: Path, size: int, length: int) -> bytes:
    with source.open("rb") as reader:
        if size <= _SAMPLES * length:
            return reader.read()
        parts = []
        for number in range(_SAMPLES):
            reader.seek((size - length) * number // (_SAMPLES - 1), os.SEEK_SET)
            parts.append(reader.read(length))
        return b"".join(parts)


def choose(
    size: int, link_bytes_s: float, trials: tuple[Trial, ...], *, piped: bool
) -> tuple[int | None, str]:
    """The level to send `size` bytes with (None: as they are), and why.

    Compressing and sending are added up: one thread does both, and small buffers between them let
    the link wait. `piped` says that the device decompresses while it receives, so that the slower
    of the two sets the time; else it does so afterwards.
    """
    plain_s = size / link_bytes_s

    def packed_s(trial: Trial) -> float:
        sending_s = size / trial.bytes_s + size * trial.ratio / link_bytes_s
        inflating_s = size / _INFLATES_BYTES_S
        return max(sending_s, inflating_s) if piped else sending_s + inflating_s

    best = min(trials, key=packed_s)
    link = f"{link_bytes_s * 8 / 1e6:.3g} Mbit/s"
    why = f"at {link} {plain_s:.2g} s plain and {packed_s(best):.2g} s compressed are predicted"
    return (best.level if packed_s(best) < _CLEARLY * plain_s else None), why
