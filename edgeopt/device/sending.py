"""Sender: one file over one transport, compressed on the way when that is measurably faster."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from edgeopt.device.packing import UNPACKERS, Packing, Transfer, UnpackFailed, choose, try_levels
from edgeopt.device.transport import Packs, Transport

__all__ = ["Sender"]

_SLOWEST_BYTES_S = 250_000  # a push may take this long and no longer: 2 Mbit/s
_GRACE_S = 30.0
_AGAIN = "It was sent again as it is."
# Measuring takes several round trips. For less than this it costs about what a wrong choice does
# (16 MB are compressed in 0.25 s), so a link of 100 Mbit/s is assumed, as Ethernet of most boards
# and good Wi-Fi have: on a faster one a fraction of a second is lost, on a slower one many are won.
# Where the device unpacks afterwards (adb), that assumption says plain too often: measured earlier.
_MEASURED_FROM_BYTES = {True: 16_000_000, False: 1_000_000}
_ASSUMED_BYTES_S = 100e6 / 8
_LONGEST_PROBE_BYTES = 1_000_000
_DISTURBED_S = 0.1  # what is shorter is measured again: the shorter counts


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
        piped = self.transport.unpacks_at_once
        link_bytes_s, known = self._link(remote, size, piped)
        level, why = choose(size, link_bytes_s, trials, piped=piped)
        why = f"{why} (link speed {known})"
        if level is None:
            return None, why, ""
        return Packing(level=level, unpack=UNPACKERS[self.unpackers[0]]), why, ""

    def _link(self, remote: str, size: int, piped: bool) -> tuple[float, str]:
        """Bytes a second, and where that number is from."""
        if self.link_bytes_s is None and size < _MEASURED_FROM_BYTES[piped]:
            return _ASSUMED_BYTES_S, "assumed for a file of this size"
        if self.link_bytes_s is None:
            self.link_bytes_s = self._measure_link(remote, size)
        return self.link_bytes_s, "measured"

    def _measure_link(self, remote: str, size: int) -> float:
        """Bytes a second: a short transfer of noise beside one of a single byte.

        Grows until it takes clearly longer than that byte, which is all about round trips. It goes
        to `remote`, which the file itself then replaces. Noise, since a link that compresses by
        itself must show what it does to bytes that are compressed already.
        """
        probe = min(max(size // 64, 64_000), _LONGEST_PROBE_BYTES)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "probe"
            file.write_bytes(b"\0")
            base = min(self._timed(file, remote) for _ in range(2))
            while True:
                file.write_bytes(os.urandom(probe))
                spent = self._timed(file, remote)
                if spent < _DISTURBED_S:
                    spent = min(spent, self._timed(file, remote))
                if spent > 2 * base or probe >= _LONGEST_PROBE_BYTES:
                    return probe / max(spent - base, spent / 4)
                probe = min(4 * probe, _LONGEST_PROBE_BYTES)

    def _timed(self, source: Path, remote: str) -> float:
        start = time.perf_counter()
        self.transport.push(source, remote, timeout_s=_limit_s(source.stat().st_size))
        return time.perf_counter() - start


def _limit_s(size: int) -> float:
    return _GRACE_S + size / _SLOWEST_BYTES_S
