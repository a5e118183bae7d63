"""The transport to this machine: the same protocol, work folder and agent as for a board."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edgeopt import stop
from edgeopt.device.capture import Capture, deadline_passed
from edgeopt.device.inventory import DeviceSpec
from edgeopt.device.transport import BEAT_S, Completed
from edgeopt.errors import DeviceError

__all__ = ["LocalTransport", "connect"]

_BLOCK = 1 << 20
_AFTER_EXIT_S = 0.5  # how long a daemon it left behind may still hold its output open


def connect(spec: DeviceSpec, timeout_s: float) -> LocalTransport:
    """This machine needs no connection; `timeout_s` is of the transports' common signature."""
    return LocalTransport()


class LocalTransport:
    kind = "local"
    name = "local"

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes = b"",
        on_stdout: Callable[[bytes], None] | None = None,
    ) -> Completed:
        """Run in a process group of its own, killed as a whole at the deadline and on Ctrl-C."""
        return self._run(argv, timeout_s, _Input(stdin), on_stdout)

    def attend(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes = b"",
        on_stdout: Callable[[bytes], None] | None = None,
    ) -> Completed:
        return self._run(argv, timeout_s, _Input(stdin, beats=True), on_stdout)

    def run_watched(
        self,
        argv: Sequence[str],
        on_wait: Callable[[float], bool],
        *,
        timeout_s: float,
        stdin: bytes = b"",
        beats: bool = False,
        on_stdout: Callable[[bytes], None] | None = None,
    ) -> Completed:
        """As `run`, with `beats` as `attend`; `on_wait` hears at each turn for how many seconds
        nothing came, and may raise. When it is True they are counted anew."""
        return self._run(argv, timeout_s, _Input(stdin, beats=beats), on_stdout, on_wait)

    def _run(
        self,
        argv: Sequence[str],
        timeout_s: float,
        stdin: _Input,
        on_stdout: Callable[[bytes], None] | None,
        on_wait: Callable[[float], bool] | None = None,
    ) -> Completed:
        words = tuple(argv)
        try:
            process = subprocess.Popen(
                [os.fsencode(word) for word in words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                umask=0o077,
            )
        except (OSError, ValueError) as error:
            raise DeviceError(
                f"{words[0]} cannot be run here: {error}.", "Check its path."
            ) from error
        out, err = Capture(self.name, on_stdout), Capture(self.name)
        try:
            ended = _pump(process, stdin, out, err, time.monotonic() + timeout_s, on_wait)
        finally:
            _end(process)
        if not ended:
            raise deadline_passed(self.name, words, timeout_s)
        code = process.returncode
        return Completed(
            argv=words,
            exit_code=code if code >= 0 else 128 - code,  # as every shell says it
            stdout=out.content(),
            stderr=err.content(),
        )

    def push(
        self,
        source: Path,
        remote: str,
        *,
        timeout_s: float,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        deadline, sent = time.monotonic() + timeout_s, 0
        target = Path(remote)
        with _explained(target), source.open("rb") as reader, _private(target) as descriptor:
            while block := reader.read(_BLOCK):
                view = memoryview(block)
                while view:
                    view = view[os.write(descriptor, view) :]
                sent += len(block)
                if on_bytes:
                    on_bytes(sent)
                if time.monotonic() > deadline:
                    raise deadline_passed(self.name, ("copy",), timeout_s)

    def pull(self, remote: str, target: Path, *, timeout_s: float) -> None:
        with _explained(Path(remote)):
            shutil.copyfile(remote, target)

    def close(self) -> None:
        """Nothing is held open."""


class _Input:
    """What a command is still to read; with `beats` it does not end, and grows."""

    def __init__(self, content: bytes, *, beats: bool = False) -> None:
        self.rest = memoryview(content)
        self.beats = beats
        self._next = time.monotonic() + BEAT_S

    def due(self, now: float) -> bool:
        """True when a beat has just been added."""
        if not self.beats or now < self._next:
            return False
        self._next = now + BEAT_S
        self.rest = memoryview(bytes(self.rest) + b"\n")
        return True


@contextlib.contextmanager
def _private(target: Path) -> Iterator[int]:
    """A new file that only we can read; an existing one is replaced, a link not followed."""
    target.unlink(missing_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise DeviceError(
            f"local: {path} could not be transferred: {reason}.",
            "Free space or give another workdir.",
        ) from error


def _pump(
    process: subprocess.Popen[bytes],
    stdin: _Input,
    out: Capture,
    err: Capture,
    deadline: float,
    on_wait: Callable[[float], bool] | None,
) -> bool:
    """Feed and drain all three pipes at once until the process ends; False at the deadline."""
    heard = time.monotonic()
    assert process.stdin and process.stdout and process.stderr
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ, out)
        ready.register(process.stderr, selectors.EVENT_READ, err)
        os.set_blocking(process.stdin.fileno(), False)
        ready.register(process.stdin, selectors.EVENT_WRITE)
        ended_at: float | None = None
        while ready.get_map():
            stop.check()
            now = time.monotonic()
            if ended_at is None and process.poll() is not None:
                ended_at = now
            if ended_at is not None and now > ended_at + _AFTER_EXIT_S:
                return True
            if now > deadline:
                return ended_at is not None
            if on_wait and ended_at is None and on_wait(now - heard):
                heard = time.monotonic()
            if stdin.due(now) and not process.stdin.closed:
                _listen(process, ready)
            for key, _ in ready.select(min(0.1, max(0.0, deadline - now))):
                if key.data is None:
                    _feed(process, ready, stdin)
                elif chunk := os.read(key.fd, _BLOCK):
                    key.data.feed(chunk)
                    heard = time.monotonic()
                else:
                    ready.unregister(key.fileobj)
    return _wait(process, deadline)


def _listen(process: subprocess.Popen[bytes], ready: selectors.BaseSelector) -> None:
    """Look at stdin again, unless it is being looked at."""
    assert process.stdin
    with contextlib.suppress(KeyError):
        ready.register(process.stdin, selectors.EVENT_WRITE)


def _feed(process: subprocess.Popen[bytes], ready: selectors.BaseSelector, stdin: _Input) -> None:
    """Write what fits; close at the end (but for beats), or when nobody wants more."""
    assert process.stdin
    gone = False
    try:
        if stdin.rest:
            stdin.rest = stdin.rest[os.write(process.stdin.fileno(), stdin.rest) :]
    except BlockingIOError:
        return
    except BrokenPipeError:
        gone = True
    if gone or not stdin.rest:
        ready.unregister(process.stdin)
        if gone or not stdin.beats:
            process.stdin.close()


def _wait(process: subprocess.Popen[bytes], deadline: float) -> bool:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the group (also children that outlived it), and reap."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()
