"""Sender: one file over one transport, compressed on the way when that is measurably faster."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeopt.device.packing import UNPACKERS, Packing, Transfer, UnpackFailed, choose, try_levels
from edgeopt.device.transport import Packs, Transport

__all__ = ["Sender"]

_SLOWEST_BYTES_S = 250_000  # a push may take this long and no longer: 2 Mbit/s
_GRACE_S = 30.0
_AGAIN = "It was sent again as it is."
# Short transfers are disturbed easily, so the shortest of each kind counts; long ones are not.
_ROUNDS, _DISTURBED_S = 3, 0.1


class Sender:
    """`unpackers` are the programs of UNPACKERS that the device has; the workspace asks it.

    `link_bytes_s` is None until a file makes it worth measuring.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.unpackers: tuple[str, ...] = ()
        self.link_bytes_s: float | None = None

    def send(
        self,
        source: Path,
        remote: str,
        on_bytes: Callable[[int], None] | None = None,
        *,
        packed: bool = True,
    ) -> Transfer:
        """Write `source` to `remote`; `on_bytes` gets how far in the file it is.

        `packed` False sends it again, after the device made something else of the compressed
        bytes. Raises DeviceError.
        """
        size = source.stat().st_size
        if packed:
            packing, reason, note = self._packing(source, remote, size)
        else:
            packing, reason = None, "the device decompressed it to other bytes"
            note = f"{self.transport.name} damaged {source.name} when decompressing it. {_AGAIN}"
        start = time.perf_counter()
        if packing is not None and isinstance(self.transport, Packs):
            try:
                self.transport.push_packed(
                    source, remote, packing=packing, timeout_s=_limit_s(size), on_bytes=on_bytes
                )
            except UnpackFailed as error:
                packing = None
                reason, note = "the device could not decompress it", f"{error.message} {_AGAIN}"
        if packing is None:
            self.transport.push(source, remote, timeout_s=_limit_s(size), on_bytes=on_bytes)
        return Transfer(
            bytes=packing.sent if packing else size,
            raw_bytes=size,
            compression="gzip" if packing else None,
            seconds=time.perf_counter() - start,
            reason=reason,
            link_bytes_s=self.link_bytes_s,
            note=note,
        )

    def _packing(self, source: Path, remote: str, size: int) -> tuple[Packing | None, str, str]:
        """How to pack it (None: not at all), why, and what the user should know."""
        if not isinstance(self.transport, Packs):
            return None, f"{self.transport.kind} sends files as they are", ""
        trials = try_levels(source, size)
        if not trials:
            return None, "too small, or compresses too little, to be worth it", ""
        if not self.unpackers:
            note = (
                f"{self.transport.name} has none of {', '.join(UNPACKERS)}: {source.name} was sent "
                f"as it is, though it compresses to about {trials[0].ratio:.0%}."
            )
            return None, "the device has nothing to decompress with", note
        if self.link_bytes_s is None:
            self.link_bytes_s = self._measure_link(remote, size)
        level, why = choose(size, self.link_bytes_s, trials, piped=self.transport.unpacks_at_once)
        if level is None:
            return None, why, ""
        return Packing(level=level, unpack=UNPACKERS[self.unpackers[0]]), why, ""

    def _measure_link(self, remote: str, size: int) -> float:
        """Bytes a second: a short transfer of noise beside one of a single byte.

        They go to `remote`, which the file itself then replaces. Noise, so that a link which
        compresses by itself shows what it does to bytes that are compressed already.
        """
        probe = min(max(size // 32, 32_000), 256_000)
        with tempfile.TemporaryDirectory() as folder:
            short, long = Path(folder) / "short", Path(folder) / "long"
            short.write_bytes(b"\0")
            long.write_bytes(os.urandom(probe))
            spent = [self._timed((short, long), remote)]
            while len(spent) < _ROUNDS and spent[0][1] < _DISTURBED_S:
                spent.append(self._timed((short, long), remote))
        least = min(row[1] for row in spent) - min(row[0] for row in spent)
        return probe / max(least, 1e-4)

    def _timed(self, sources: Sequence[Path], remote: str) -> list[float]:
        spent = []
        for source in sources:
            start = time.perf_counter()
            self.transport.push(source, remote, timeout_s=_limit_s(source.stat().st_size))
            spent.append(time.perf_counter() - start)
        return spent


def _limit_s(size: int) -> float:
    return _GRACE_S + size / _SLOWEST_BYTES_S
