"""Run one outside program with a deadline, and leave nothing of it behind.

The program gets a process group of its own, which is killed in every case: after its normal end
(it may have left children), at the deadline, and when edgeopt itself is interrupted. Its output
goes to files, so that neither a full pipe nor a child holding it open can make us wait.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["Execution", "run_bounded"]

# A compiler prints a few kB. A program that prints without end must not fill the disk meanwhile.
_MAX_OUTPUT_BYTES = 8 << 20
_POLL_S = 0.02
_SLOW_POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Execution:
    """A program that ended. `exit_code` is negative for a signal, None when we stopped it."""

    argv: tuple[str, ...]
    exit_code: int | None
    stdout: bytes
    stderr: bytes
    seconds: float
    timed_out: bool = False
    flooded: bool = False  # stopped for printing more than any compiler does

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "replace")

    @property
    def error_text(self) -> str:
        return self.stderr.decode("utf-8", "replace")


def run_bounded(
    argv: Sequence[str],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    feed: Sequence[Path] = (),
    max_output_bytes: int = _MAX_OUTPUT_BYTES,
) -> Execution:
    """Run `argv` for at most `timeout_s`. Raises OSError when it cannot be started.

    `feed` are files copied to its standard input, which then stays open until the program ends:
    a far end can so tell "all is sent" from "the sender is gone".
    """
    begin = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            bufsize=0,  # so that closing the pipe never waits for a thread that is writing to it
            cwd=cwd,
            start_new_session=True,
        )
        try:
            if feed and process.stdin:
                _feed_from(feed, process.stdin)
            stop = _wait(process, begin + timeout_s, (out, err), max_output_bytes)
        finally:
            _end(process)
        return Execution(
            argv=tuple(argv),
            exit_code=None if stop else process.returncode,
            stdout=_content(out, max_output_bytes),
            stderr=_content(err, max_output_bytes),
            seconds=time.monotonic() - begin,
            timed_out=stop == "deadline",
            flooded=stop == "flood",
        )


def _feed_from(paths: Sequence[Path], pipe: IO[bytes]) -> None:
    """Copy the files in a thread of its own: the program may stop reading at any point."""

    def copy() -> None:
        # ValueError: the pipe was closed under us because the program has ended.
        with contextlib.suppress(OSError, ValueError):
            for path in paths:
                with path.open("rb") as stream:
                    while block := memoryview(stream.read(1 << 18)):
                        while block:
                            block = block[pipe.write(block) :]

    threading.Thread(target=copy, name="feed-compiler", daemon=True).start()


def _wait(
    process: subprocess.Popen[bytes], deadline: float, outputs: Sequence[IO[bytes]], limit: int
) -> str | None:
    """Until it ends (None), passes the deadline ("deadline") or prints too much ("flood")."""
    pause = _POLL_S
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return "deadline" if process.poll() is None else None
        try:
            process.wait(min(pause, left))
            return None
        except subprocess.TimeoutExpired:
            pause = _SLOW_POLL_S
        if any(os.fstat(f.fileno()).st_size > limit for f in outputs):
            return "flood"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole group and reap its leader."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        # PermissionError: macOS says so for a group of which only zombies are left.
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _content(stream: IO[bytes], limit: int) -> bytes:
    stream.seek(0)
    return stream.read(limit)
