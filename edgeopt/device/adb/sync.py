"""adb's file transfer over the adb server's socket, every step inside one deadline.

The `adb push` program hangs on a cut link and reports no progress to a pipe; the socket has
timeouts. Protocol: packages/modules/adb/SYNC.TXT of the Android Open Source Project.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from edgeopt import stop
from edgeopt.device.capture import MAX_PULL_BYTES, deadline_passed
from edgeopt.device.printable import clean_text
from edgeopt.errors import DeviceError

__all__ = ["blocks", "pull", "push"]

_CHUNK = 64 << 10  # SYNC_DATA_MAX
_MODE = 0o100600
_TELL_BYTES = 1 << 20
_STALL_S = 15.0  # a transfer that moves nothing for so long is dead


def push(
    serial: str,
    name: str,
    source: Path,
    remote: str,
    content: Iterable[tuple[bytes, int]],
    timeout_s: float,
    *,
    on_bytes: Callable[[int], None] | None = None,
) -> None:
    """Write `content` to `remote`: blocks, each with how far in `source` it takes us.

    adbd widens the mode to group and others: chmod it afterwards.
    """
    with _sync(serial, name, "push", timeout_s) as link:
        link.request(b"SEND", os.fsencode(remote) + b",%d" % _MODE)
        sent = told = 0
        for block, sent in content:
            for start in range(0, len(block), _CHUNK):
                part = block[start : start + _CHUNK]
                link.send(b"DATA" + struct.pack("<I", len(part)) + part)
            if on_bytes and sent - told >= _TELL_BYTES:
                told = sent
                on_bytes(sent)
        link.send(b"DONE" + struct.pack("<I", int(source.stat().st_mtime) & 0xFFFFFFFF))
        answer, size = link.header()
        if answer != b"OKAY":
            raise link.refused(f"store {source.name}", answer, size)
        if on_bytes:
            on_bytes(sent)


def blocks(source: Path) -> Iterator[tuple[bytes, int]]:
    """The file as it is."""
    done = 0
    with source.open("rb") as reader:
        while block := reader.read(_CHUNK):
            done += len(block)
            yield block, done


def pull(serial: str, name: str, remote: str, target: Path, *, timeout_s: float) -> None:
    """Write the device's `remote` to `target`, at most MAX_PULL_BYTES of it."""
    with _sync(serial, name, "pull", timeout_s) as link, target.open("wb") as writer:
        link.request(b"RECV", os.fsencode(remote))
        total = 0
        while True:
            answer, size = link.header()
            if answer == b"DONE":
                return
            if answer != b"DATA":
                raise link.refused(f"give back {remote}", answer, size)
            total += size
            if size > _CHUNK or total > MAX_PULL_BYTES:
                raise DeviceError(f"{name}: {remote} is too large to fetch.", "")
            writer.write(link.receive(size))


class _Link:
    """The socket, with the time that is left as its timeout."""

    def __init__(self, name: str, verb: str, connection: Any, timeout_s: float) -> None:
        self._name, self._verb, self._timeout_s = name, verb, timeout_s
        self._socket = connection.conn
        self._deadline = time.monotonic() + timeout_s

    def request(self, verb: bytes, path: bytes) -> None:
        self.send(verb + struct.pack("<I", len(path)) + path)

    def send(self, data: bytes) -> None:
        self._arm()
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise self.refused("go on", *self.header()) from None

    def receive(self, size: int) -> bytes:
        parts = []
        while size:
            self._arm()
            part = self._socket.recv(min(size, _CHUNK))
            if not part:
                raise ConnectionResetError("adb closed the transfer")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def header(self) -> tuple[bytes, int]:
        answer, size = struct.unpack("<4sI", self.receive(8))
        return answer, size

    def refused(self, what: str, answer: bytes, size: int) -> DeviceError:
        said = self.receive(min(size, 4096)) if answer == b"FAIL" else answer
        reason = clean_text(said.decode(errors="replace"), 300) or "no reason given"
        return DeviceError(
            f"{self._name} could not {what}: {reason}.",
            "Free space there, or give a writable workdir.",
        )

    def _arm(self) -> None:
        stop.check()
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise deadline_passed(self._name, (f"adb {self._verb}",), self._timeout_s)
        self._socket.settimeout(min(left, _STALL_S))


@contextlib.contextmanager
def _sync(serial: str, name: str, verb: str, timeout_s: float) -> Iterator[_Link]:
    import adbutils

    try:
        # The server is known to run: connecting made sure.
        client = adbutils.AdbClient()
        with client.device(serial).open_transport(timeout=min(timeout_s, _STALL_S)) as connection:
            link = _Link(name, verb, connection, timeout_s)
            link.send(b"0005sync:")
            if link.receive(4) != b"OKAY":
                raise DeviceError(
                    f"{name} offers no file transfer.", "Restart adbd: adb reconnect."
                )
            yield link
    except TimeoutError as error:
        raise deadline_passed(name, (f"adb {verb}",), min(timeout_s, _STALL_S)) from error
    except (ConnectionError, adbutils.AdbError) as error:
        raise DeviceError(
            f"The connection to {name} was lost: {clean_text(str(error), 300)}.",
            "Check its cable and power (adb devices), then rerun.",
        ) from error
