"""The transport over ADB, for Android phones: the adb program as a process, files by socket."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from edgeopt.device.adb import sync as adb_sync
from edgeopt.device.adb.feed import feeding
from edgeopt.device.adb.frame import Frame, marked_command, new_marker
from edgeopt.device.adb.server import AdbProgram, explain, find_program, reach
from edgeopt.device.capture import Capture, deadline_passed
from edgeopt.device.inventory import DeviceSpec
from edgeopt.device.leftovers import session_word
from edgeopt.device.packing import Packing
from edgeopt.device.printable import tail
from edgeopt.device.transport import SILENCE_S, Completed
from edgeopt.errors import DeviceError

__all__ = ["AdbTransport", "connect"]

_TEMPORARY = "/data/local/tmp"  # where the shell user of every Android may write
# Longest command line: 4096 bytes with its frame in the first protocol version, 64 kB since.
_LINE_BYTES = {False: 3500, True: 60_000}
_SMALL_STEP_S = 10.0
# $1 the file to make from $1.gz, then the program that decompresses.
_UNPACK = """umask 077; f=$1; shift; rm -f "$f"; "$@" <"$f.gz" >"$f"
e=$?; rm -f "$f.gz"; exit $e"""


def connect(spec: DeviceSpec, timeout_s: float) -> AdbTransport:
    """Raises ToolError without an adb; DeviceError: not there, unauthorized, offline, refused."""
    adb = AdbProgram(find_program(), spec.serial or "")
    reach(adb, timeout_s)
    features = adb.to_device("features").stdout.split()
    return AdbTransport(adb, shell_v2=b"shell_v2" in features)


class AdbTransport:
    """`shell_v2` False is for devices before Android 7: stderr arrives mixed into stdout."""

    kind = "adb"
    unpacks_at_once = False  # adbd's file transfer ends in a file, and its shell's stdin is slow

    def __init__(self, adb: AdbProgram, *, shell_v2: bool) -> None:
        self.name = adb.name
        self.shell_v2 = shell_v2
        self._adb = adb

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
        """adbd does not notice a dead network link by itself: the beats tell the command. Before
        shell_v2 nothing reaches a command's stdin from here: see `feeding`."""
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
        words, marker = tuple(argv), new_marker()
        piped = self.shell_v2 and (beats or bool(stdin))
        out = Capture(self.name, on_stdout)
        frame = Frame(marker, out.feed)
        fed = beats and not piped
        with self._spilled(words, marker, stdin, piped=piped, fed=fed) as line:
            flags = ["-T" if self.shell_v2 else "-x", *([] if piped else ["-n"])]
            try:
                with feeding(self._adb, frame) if fed else contextlib.nullcontext():
                    done = self._adb.to_device(
                        "shell",
                        *flags,
                        line,
                        timeout_s=timeout_s,
                        stdin=stdin if piped else b"",
                        on_stdout=frame.feed,
                        beats=beats and piped,
                    )
            except BaseException as error:
                self._kill(frame.pid)
                if isinstance(error, DeviceError) and "timeout_s" in error.details:
                    raise deadline_passed(self.name, words, timeout_s) from error
                raise
            frame.finish()
        if frame.exit_code is None:
            said = tail(done.stderr) or tail(frame.noise) or "the command's output broke off"
            raise explain(self.name, said)
        return Completed(
            argv=words, exit_code=frame.exit_code, stdout=out.content(), stderr=done.stderr
        )

    def push(
        self,
        source: Path,
        remote: str,
        *,
        timeout_s: float,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        self._send(source, remote, adb_sync.blocks(source), timeout_s, on_bytes)
        # adbd gives group and others what the owner has, whatever mode was asked for.
        done = self.run(["chmod", "600", remote], timeout_s=_SMALL_STEP_S)
        if done.exit_code:
            raise DeviceError(
                f"{self.name} could not make {remote} private: {tail(done.stderr or done.stdout)}.",
                "Give a workdir on a file system with permissions, such as /data/local/tmp.",
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
        deadline = time.monotonic() + timeout_s
        arrived, blocks = f"{remote}.gz", packing.blocks(source)
        try:
            self._send(source, arrived, blocks, timeout_s, on_bytes)
            left = max(_SMALL_STEP_S, deadline - time.monotonic())
            done = self.run(["sh", "-c", _UNPACK, "sh", remote, *packing.unpack], timeout_s=left)
        except BaseException:
            with contextlib.suppress(DeviceError):
                self.run(["rm", "-f", arrived], timeout_s=_SMALL_STEP_S)
            raise
        if done.exit_code:
            said = tail(done.stderr or done.stdout) or f"exit {done.exit_code}"
            raise packing.failed(self.name, source, said)

    def pull(self, remote: str, target: Path, *, timeout_s: float) -> None:
        with self._noticing():
            adb_sync.pull(self._adb.serial, self.name, remote, target, timeout_s=timeout_s)

    def close(self) -> None:
        """The adb server keeps the link, as its other users expect; we hold nothing open."""

    def _send(
        self,
        source: Path,
        remote: str,
        blocks: Iterable[tuple[bytes, int]],
        timeout_s: float,
        on_bytes: Callable[[int], None] | None,
    ) -> None:
        with self._noticing():
            adb_sync.push(
                self._adb.serial, self.name, source, remote, blocks, timeout_s, on_bytes=on_bytes
            )

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        """A transfer that did not go on: when the device is gone, cleaning up need not wait."""
        try:
            yield
        except DeviceError as error:
            self._adb.doubted = "timeout_s" in error.details
            raise

    @contextlib.contextmanager
    def _spilled(
        self, words: tuple[str, ...], marker: str, stdin: bytes, *, piped: bool, fed: bool
    ) -> Iterator[str]:
        """The command line; what does not fit an adb command goes by file, removed at its start."""
        files: list[str] = []
        try:
            source: str | None = None if piped else "/dev/null"
            first = ""
            if stdin and not self.shell_v2:
                source = self._spill(stdin, f"{marker}.in", files)
                first = f"exec 9<{source};rm -f {source};exec <&9;"
            line = marked_command(words, marker, None if first else source, fed_s=fed and SILENCE_S)
            line = f": {session_word()};{first}{line}"
            if len(os.fsencode(line)) > _LINE_BYTES[self.shell_v2]:
                script = self._spill(os.fsencode(f'rm -f "$0";{line}\n'), f"{marker}.sh", files)
                line = f"exec sh {script}"  # so that it leads the group, as a line itself would
            yield line
        except BaseException:
            if files:
                with contextlib.suppress(DeviceError):
                    self.run(["rm", "-f", *files], timeout_s=_SMALL_STEP_S)
            raise

    def _spill(self, content: bytes, name: str, files: list[str]) -> str:
        remote = f"{_TEMPORARY}/{name}"
        files.append(remote)
        with TemporaryDirectory() as folder:
            local = Path(folder) / name
            local.write_bytes(content)
            self.push(local, remote, timeout_s=30 + len(content) / 250_000)
        return remote

    def _kill(self, pid: int | None) -> None:
        """Ending adb leaves the command running on the device; another command ends its group."""
        if pid is None:
            return
        line = f"kill -9 -{pid} 2>/dev/null || kill -9 {pid}"
        with contextlib.suppress(DeviceError):
            self._adb.to_device("shell", line, timeout_s=5)
