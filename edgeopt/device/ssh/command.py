"""One command over SSH: what it is fed and what it prints, until it ends or its deadline passes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeopt import stop
from edgeopt.device.capture import Capture, deadline_passed
from edgeopt.device.printable import tail
from edgeopt.device.transport import BEAT_S, Completed
from edgeopt.errors import DeviceError

if TYPE_CHECKING:
    import paramiko

__all__ = ["BLOCK", "Command", "Feeding"]

BLOCK = 1 << 20
_POLL_S = 0.05
_AFTER_EXIT_S = 0.5  # how long a daemon the command left may still hold its output open


class Command:
    """A started command: its channel, what it printed since its marker, how it ended."""

    def __init__(
        self,
        name: str,
        argv: tuple[str, ...],
        channel: paramiko.Channel,
        marker: bytes,
        on_stdout: Callable[[bytes], None] | None,
        keep_output: bool,
    ) -> None:
        self.name = name
        self.argv = argv
        self.channel = channel
        self.stdout = Capture(name, on_stdout, keep=keep_output)
        self.stderr = Capture(name)
        self.exit_code: int | None = None
        self._marker = marker
        self._noise = {1: b"", 2: b""}
        self._started = {1: False, 2: False}
        self.pid: int | None = None

    def close(self) -> None:
        """Let go of the channel; that its link is gone has been told, or does not matter."""
        with contextlib.suppress(OSError, EOFError):
            self.channel.close()

    def feed(self, stream: int, chunk: bytes) -> None:
        if not self._started[stream]:
            chunk = self._find_marker(stream, self._noise[stream] + chunk)
        if chunk:
            (self.stdout if stream == 1 else self.stderr).feed(chunk)

    def _find_marker(self, stream: int, seen: bytes) -> bytes:
        _, found, after = seen.partition(self._marker + b" ")
        number, newline, rest = after.partition(b"\n")
        if found and newline and number.isdigit():
            self.pid = int(number)
            self._started[stream] = True
            return rest
        self._noise[stream] = seen
        if len(seen) > BLOCK:
            raise DeviceError(f"The login shell of {self.name} prints without end.", "Mend it.")
        return b""

    def completed(self) -> Completed:
        if not self._started[1]:
            said = tail(self._noise[1] + self._noise[2]) or "nothing"
            raise DeviceError(
                f"The login of {self.name} does not run commands; it said: {said}.",
                "Give the user a POSIX login shell and no forced command.",
            )
        assert self.exit_code is not None
        return Completed(
            argv=self.argv,
            exit_code=self.exit_code,
            stdout=self.stdout.content(),
            stderr=self.stderr.content(),
        )


class Feeding:
    """Feeds and drains one command at once; a full pipe in one direction never blocks another.

    With `beats` stdin stays open, and a newline says every BEAT_S that we wait.
    """

    def __init__(
        self, command: Command, stdin: bytes, timeout_s: float, *, beats: bool = False
    ) -> None:
        self.command = command
        self.timeout_s = timeout_s
        self.channel = command.channel
        self.rest = memoryview(stdin)
        self.open = True
        self.next_beat = time.monotonic() + BEAT_S if beats else None

    def until_end(self, deadline: float) -> None:
        """Raises DeviceError at the deadline; leaves exit_code None when the link was lost."""
        ended_at: float | None = None
        while True:
            stop.check()
            moved = self._drain() | self._fill()
            now = time.monotonic()
            if not moved and self.channel.exit_status_ready():
                ended_at = ended_at or now
                if self.channel.eof_received or now > ended_at + _AFTER_EXIT_S:
                    while self._drain() and time.monotonic() < deadline:
                        pass
                    status = self.channel.recv_exit_status()
                    self.command.exit_code = status if status >= 0 else None
                    return
            if now > deadline:
                raise deadline_passed(self.command.name, self.command.argv, self.timeout_s)
            if not moved:
                _wait_readable(self.channel, min(_POLL_S, max(0.0, deadline - now)))

    def _drain(self) -> bool:
        moved = False
        while self.channel.recv_ready():
            self.command.feed(1, self.channel.recv(BLOCK))
            moved = True
        while self.channel.recv_stderr_ready():
            self.command.feed(2, self.channel.recv_stderr(BLOCK))
            moved = True
        return moved

    def _fill(self) -> bool:
        if not self.open or self.channel.closed:
            return False
        if self.next_beat is not None and time.monotonic() >= self.next_beat:
            self.next_beat = time.monotonic() + BEAT_S
            self.rest = memoryview(bytes(self.rest) + b"\n")
        if not self.rest:
            if self.next_beat is not None:
                return False
            self.channel.shutdown_write()
            self.open = False
            return False
        if not self.channel.send_ready():
            return False
        self.rest = self.rest[self.channel.send(bytes(self.rest[:BLOCK])) :]
        return True


def _wait_readable(channel: paramiko.Channel, timeout_s: float) -> None:
    """Sleep until there may be something to read."""
    import select

    with contextlib.suppress(OSError, ValueError):
        select.select([channel], [], [], timeout_s)
