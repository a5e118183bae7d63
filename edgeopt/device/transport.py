"""Transport: the one small protocol behind local, ssh and adb.

Every operation has a deadline. A transport that passes it raises DeviceError, kills what it
started as far as the device lets it, and never hangs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from edgeopt.device.packing import Packing

__all__ = [
    "BEAT_S",
    "SILENCE_S",
    "Attends",
    "Completed",
    "Packs",
    "Transport",
    "attending",
]

BEAT_S = 4.0  # how often a command that watches for it is told that we still wait
SILENCE_S = 20.0  # after which such a command ends: several lost beats, not one late one


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A command that ended on the device. A non-zero exit code is the caller's to judge."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes


class Transport(Protocol):
    """One open connection. Raises DeviceError, never its library's own errors.

    `argv` is a list of words: the transport quotes them for the device's shell, so that no name
    is ever read as a command. `on_stdout` gets raw chunks as they come (progress).
    """

    kind: str  # "local", "ssh" or "adb"
    name: str  # for messages: "ssh://pi@10.0.0.5:22"

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes = b"",
        on_stdout: Callable[[bytes], None] | None = None,
    ) -> Completed: ...

    def push(
        self,
        source: Path,
        remote: str,
        *,
        timeout_s: float,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        """Write `source` to exactly `remote` (0600). No hashing, no renaming: Workspace does."""

    def pull(self, remote: str, target: Path, *, timeout_s: float) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class Attends(Protocol):
    """What a Transport may offer as well: a command that knows whether we still wait for it."""

    def attend(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes = b"",
        on_stdout: Callable[[bytes], None] | None = None,
    ) -> Completed:
        """As `run`, but stdin stays open after `stdin` and brings a newline every BEAT_S. It closes
        when this process ends, however it does; on a cut link the beats stay away."""


def attending(link: Transport) -> Callable[..., Completed] | None:
    """`link.attend`, where it has one."""
    return link.attend if isinstance(link, Attends) else None


@runtime_checkable
class Packs(Protocol):
    """What a Transport may offer as well: to send a file compressed. `unpacks_at_once` says that
    the device decompresses while it receives, instead of afterwards."""

    unpacks_at_once: bool

    def push_packed(
        self,
        source: Path,
        remote: str,
        *,
        packing: Packing,
        timeout_s: float,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        """As `push`. Raises UnpackFailed when the device's program fails; nothing but `remote`
        is left behind, and that is removed by Workspace."""
