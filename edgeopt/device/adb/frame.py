"""A command's output between two markers: how its exit code survives any adb.

Devices without shell_v2 (before Android 7) always report exit code 0, mix stderr into stdout and
put \\r before each \\n. A link that breaks looks like a command that ended. So the shell itself
prints a random marker with its process id before, and with the exit code after the command.
"""

from __future__ import annotations

import math
import re
import secrets
import shlex
from collections.abc import Callable, Sequence

__all__ = ["Frame", "marked_command", "new_marker"]

# What a command reads that no link can bring its stdin: a newline a second, until no SIGCONT has
# come for so many. That signal is ignored by whatever else is in the process group.
_FED = "(cat;trap n=0 CONT;n=0;while [ $n -lt {} ]&&echo;do n=$((n+1));sleep 1;done) 2>/dev/null|"
_START_LIMIT_BYTES = 1 << 20  # noise before the start marker: nothing honest prints so much


def new_marker() -> str:
    """Random, so that no output holds it by chance or from an earlier run."""
    return f"edgeopt-{secrets.token_hex(12)}"


def marked_command(
    argv: Sequence[str], marker: str, stdin_from: str | None = "/dev/null", *, fed_s: float = 0
) -> str:
    """The line for the device's shell. `stdin_from` None leaves stdin to the connection. With
    `fed_s` newlines come after it, and it ends once the command's process group has had no SIGCONT
    for so many seconds; the command ends a second late, then."""
    redirect = f"exec <{shlex.quote(stdin_from)};" if stdin_from else ""
    # Written in two halves: a command that prints the process list must not print the marker.
    split = f'{marker[:6]}""{marker[6:]}'
    fed = _FED.format(math.ceil(fed_s)) if fed_s else ""
    return f"{redirect}umask 077;echo {split} $$;{fed}{shlex.join(argv)};echo {split} $?"


class Frame:
    """Takes raw stdout as it comes; hands on what stands between the markers.

    `pid` is the device's shell (leader of the command's process group), `exit_code` the command's;
    None until that marker has come.
    """

    def __init__(self, marker: str, sink: Callable[[bytes], None]) -> None:
        self.pid: int | None = None
        self.exit_code: int | None = None
        self.noise = b""
        self._marker = marker.encode() + b" "
        self._end = re.compile(re.escape(self._marker) + rb"([0-9]{1,3})\r?\n")
        self._part = re.compile(re.escape(self._marker) + rb"[0-9]{0,3}\r?$")
        self._sink = sink
        self._crlf = False
        self._held = b""

    def feed(self, chunk: bytes) -> None:
        data = self._held + chunk
        self._held = b""
        if self.pid is None:
            data = self._begin(data)
        if self.pid is not None and self.exit_code is None:
            self._pass(data)

    def finish(self) -> None:
        """The stream ended: what was held back as a possible marker was output after all."""
        if self.pid is not None and self.exit_code is None and self._held:
            self._sink(self._held)
        self._held = b""

    def _begin(self, data: bytes) -> bytes:
        before, found, after = data.partition(self._marker)
        number, newline, rest = after.partition(b"\n")
        if not (found and newline and number.strip().isdigit()):
            self.noise = data[-_START_LIMIT_BYTES:]
            self._held = self.noise
            return b""
        self.noise = before
        self._crlf = number.endswith(b"\r")
        self.pid = int(number)
        return rest

    def _pass(self, data: bytes) -> None:
        ended = self._end.search(data)
        if ended:
            self.exit_code = int(ended[1])
            output = data[: ended.start()]
        else:
            keep = self._possible_marker(data)
            output, self._held = data[: len(data) - keep], data[len(data) - keep :]
        if self._crlf:
            output = output.replace(b"\r\n", b"\n")
        if output:
            self._sink(output)

    def _possible_marker(self, data: bytes) -> int:
        """How many bytes at the end may be the beginning of the end marker (or of a \\r\\n)."""
        whole = self._part.search(data)
        if whole:
            return len(data) - whole.start()
        for size in range(min(len(self._marker) - 1, len(data)), 0, -1):
            if data.endswith(self._marker[:size]):
                return size
        return 1 if self._crlf and data.endswith(b"\r") else 0
