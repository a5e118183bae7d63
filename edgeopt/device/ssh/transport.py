"""The transport over SSH (paramiko): commands whose deadlines hold, pushes at scp's speed."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeopt import stop
from edgeopt.device.capture import MAX_PULL_BYTES, deadline_passed
from edgeopt.device.inventory import DeviceSpec
from edgeopt.device.leftovers import session_word
from edgeopt.device.packing import Packing
from edgeopt.device.printable import tail
from edgeopt.device.ssh.command import BLOCK, Command, Feeding
from edgeopt.device.ssh.connect import fetch_host_keys, open_transport
from edgeopt.device.transport import Completed
from edgeopt.device.watchdog import Watchdog
from edgeopt.errors import DeviceError

if TYPE_CHECKING:
    import paramiko

__all__ = ["SshTransport", "connect", "fetch_host_keys"]

_OPEN_S = 12.0  # a channel and its command must start within
_STALL_S = 20.0  # a transfer that moves nothing for so long is dead
_MOVING_S = 10.0  # one that moved so lately shows that the link lives
_RECEIVE_WINDOW = 16 << 20
# Announces its process on both streams, so that whatever the login shell printed before is known
# to be noise; then runs the words as a child, so that a death by signal is told as 128 + number.
_WRAPPER = 'umask 077;printf "%s %s\\n" "$0" $$;printf "%s %s\\n" "$0" $$ >&2;"$@";exit $?'
# $1 the file, then the program: what a cut link leaves unfinished goes when the program notices.
_STORE = 'f=$1; rm -f "$f"; shift; "$@" >"$f" || { e=$?; rm -f "$f"; exit $e; }'
# sshd gives every command a process group; where the server did not, its children are looked up.
_KILL = """kill -KILL "-$1" 2>/dev/null && exit 0
c=; for f in /proc/[0-9]*/stat; do
read -r p n s pp r <"$f" && [ "$pp" = "$1" ] && c="$c $p"; done 2>/dev/null
kill -KILL "$1" $c 2>/dev/null; exit 0"""


def connect(spec: DeviceSpec, timeout_s: float) -> SshTransport:
    """Raises DeviceError: unreachable, host key unknown or changed, no key accepted."""
    where, transport = open_transport(spec, timeout_s)
    return SshTransport(where.name, transport)


class SshTransport:
    kind = "ssh"
    unpacks_at_once = True

    def __init__(self, name: str, transport: paramiko.Transport) -> None:
        self.name = name
        self._transport = transport
        self._transfer: Watchdog | None = None

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes = b"",
        on_stdout: Callable[[bytes], None] | None = None,
    ) -> Completed:
        """Ends at the deadline with the whole process group killed on the device."""
        return self._run(argv, timeout_s, stdin, on_stdout, beats=False)

    def attend(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes = b"",
        on_stdout: Callable[[bytes], None] | None = None,
    ) -> Completed:
        return self._run(argv, timeout_s, stdin, on_stdout, beats=True)

    def _run(
        self,
        argv: Sequence[str],
        timeout_s: float,
        stdin: bytes,
        on_stdout: Callable[[bytes], None] | None,
        *,
        beats: bool,
    ) -> Completed:
        deadline = time.monotonic() + timeout_s
        command = self._start(argv, on_stdout, timeout_s)
        try:
            with self._explained():
                Feeding(command, stdin, timeout_s, beats=beats).until_end(deadline)
        except BaseException:
            self._kill(command)
            raise
        finally:
            command.close()
        if command.exit_code is None:
            raise self._lost()
        return command.completed()

    def push(
        self,
        source: Path,
        remote: str,
        *,
        timeout_s: float,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        said = self._store(
            remote, ("cat",), timeout_s, lambda to, dog: _send_file(to, source, dog, on_bytes)
        )
        if said:
            raise DeviceError(
                f"{self.name} could not store {source.name}: {said}.",
                "Free space there, or give a writable workdir.",
            )

    def push_packed(
        self,
        source: Path,
        remote: str,
        *,
        packing: Packing,
        timeout_s: float,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        said = self._store(
            remote,
            packing.unpack,
            timeout_s,
            lambda to, dog: _send_packed(to, source, packing, dog, on_bytes),
        )
        if said:
            raise packing.failed(self.name, source, said)

    def _store(
        self,
        remote: str,
        program: Sequence[str],
        timeout_s: float,
        send: Callable[[paramiko.Channel, Watchdog], None],
    ) -> str:
        """Have `program` write what it is sent to `remote`; its complaint when it fails."""
        argv = ["sh", "-c", _STORE, "sh", remote, *program]
        command = self._start(argv, None, timeout_s)
        watchdog = self._transfer = self._watchdog(timeout_s, _STALL_S)
        try:
            with self._explained(), watchdog:
                send(command.channel, watchdog)
                Feeding(command, b"", _STALL_S).until_end(time.monotonic() + _STALL_S)
            if command.exit_code is None:
                raise self._lost()
        except BaseException as error:
            self._kill(command)
            if watchdog.late and isinstance(error, DeviceError):
                raise deadline_passed(self.name, ("push",), timeout_s) from error
            raise
        finally:
            self._transfer = None
            command.close()
        if command.exit_code:
            return tail(command.stderr.content()) or f"exit {command.exit_code}"
        return ""

    def pull(self, remote: str, target: Path, *, timeout_s: float) -> None:
        with target.open("wb") as writer:
            written = 0

            def store(chunk: bytes) -> None:
                nonlocal written
                written += len(chunk)
                if written > MAX_PULL_BYTES:
                    raise DeviceError(f"{self.name}: {remote} is too large to fetch.", "")
                writer.write(chunk)

            command = self._start(["cat", remote], store, timeout_s, keep_output=False)
            try:
                with self._explained():
                    Feeding(command, b"", timeout_s).until_end(time.monotonic() + timeout_s)
            except BaseException:
                self._kill(command)
                raise
            finally:
                command.close()
        if command.exit_code != 0:
            said = tail(command.stderr.content()) or "the connection was lost"
            raise DeviceError(f"{self.name} did not give back {remote}: {said}.", "Try again.")

    def close(self) -> None:
        self._transport.close()

    def _start(
        self,
        argv: Sequence[str],
        on_stdout: Callable[[bytes], None] | None,
        timeout_s: float,
        keep_output: bool = True,
    ) -> Command:
        marker = f"{session_word()}{secrets.token_hex(8)}"
        words = tuple(argv)
        line = f"exec sh -c {shlex.quote(_WRAPPER)} {marker} {shlex.join(words)}"
        open_s = min(_OPEN_S, timeout_s)
        with self._explained(), Watchdog(self._close_unless_moving, timeout_s=open_s):
            channel = self._transport.open_session(window_size=_RECEIVE_WINDOW, timeout=timeout_s)
            channel.exec_command(line.encode("utf-8", "surrogateescape"))
        return Command(self.name, words, channel, marker.encode(), on_stdout, keep_output)

    def _kill(self, command: Command) -> None:
        """Closing the channel would leave the process running; another command ends it."""
        if command.pid is None or not self._transport.is_active():
            return
        with contextlib.suppress(DeviceError):
            killer = self._start(["sh", "-c", _KILL, "sh", str(command.pid)], None, 5)
            with self._explained():
                Feeding(killer, b"", 5).until_end(time.monotonic() + 5)
            killer.close()

    def _close_unless_moving(self) -> None:
        """On a slow link what is opened comes after all that a transfer has already sent."""
        transfer = self._transfer
        if transfer is None or time.monotonic() - transfer.poked > _MOVING_S:
            self._transport.close()

    def _watchdog(self, timeout_s: float, stall_s: float | None) -> Watchdog:
        return Watchdog(self._transport.close, timeout_s=timeout_s, stall_s=stall_s)

    def _lost(self) -> DeviceError:
        return DeviceError(
            f"The connection to {self.name} was lost.", "Check its power and network, then rerun."
        )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        import paramiko

        try:
            yield
        except (EOFError, ConnectionError) as error:  # the socket is gone, known to paramiko or not
            raise self._lost() from error
        except (OSError, paramiko.SSHException) as error:
            if self._transport.is_active():
                raise DeviceError(
                    f"{self.name} failed: {str(error) or type(error).__name__}.", "Try again."
                ) from error
            raise self._lost() from error


def _send_file(
    channel: paramiko.Channel,
    source: Path,
    watchdog: Watchdog,
    on_bytes: Callable[[int], None] | None,
) -> None:
    """Whole packets straight from the file: no block is cut, joined or copied on the way."""
    packet, sent, told = channel.out_max_packet_size - 64, 0, 0
    channel.settimeout(_STALL_S)
    with source.open("rb") as reader:
        while block := reader.read(packet):
            stop.check()
            try:
                channel.sendall(block)
            except TimeoutError:
                raise
            except OSError:
                return  # the far end gave up: its exit code and stderr say why
            sent += len(block)
            watchdog.poke()
            if sent - told >= BLOCK:
                told = sent
                if on_bytes:
                    on_bytes(sent)
    if on_bytes:
        on_bytes(sent)


def _send_packed(
    channel: paramiko.Channel,
    source: Path,
    packing: Packing,
    watchdog: Watchdog,
    on_bytes: Callable[[int], None] | None,
) -> None:
    channel.settimeout(_STALL_S)
    for block, done in packing.blocks(source):
        stop.check()
        try:
            channel.sendall(block)
        except TimeoutError:
            raise
        except OSError:
            return  # the far end gave up: its exit code and stderr say why
        watchdog.poke()
        if on_bytes:
            on_bytes(done)
