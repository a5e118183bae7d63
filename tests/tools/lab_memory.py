"""A real limit of memory for a program of the lab, by the kernel's control groups."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["NoLimit", "memory_limit"]

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


class NoLimit(Exception):
    """This kernel lets nobody limit memory here; the message is the reason to skip."""


@contextlib.contextmanager
def memory_limit(size_bytes: int) -> Iterator[Path]:
    """The file that puts a process under the limit when its number is written there."""
    old = (_V1 / "memory.limit_in_bytes").exists()
    group = (_V1 if old else _V2) / f"edgeopt-lab-{secrets.token_hex(4)}"
    limit = "memory.limit_in_bytes" if old else "memory.max"
    try:
        group.mkdir()
        (group / limit).write_text(str(size_bytes))
        with contextlib.suppress(OSError):  # there may be no swap to leave out
            swap = "memory.memsw.limit_in_bytes" if old else "memory.swap.max"
            (group / swap).write_text(str(size_bytes if old else 0))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        raise NoLimit(f"no control group of memory can be made: {error}") from error
    try:
        yield group / "cgroup.procs"
    finally:
        for _ in range(100):
            with contextlib.suppress(OSError):
                os.rmdir(group)  # noqa: PTH106
                break
            time.sleep(0.1)
