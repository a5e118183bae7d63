"""Whose temporary file is this? Names carry the host and the process that made them.

A push that was killed leaves its temporary file on the device. The same machine, coming back, can
tell that the process is gone and sweep at once; other machines' leftovers wait for their age.
Commands carry it too, as a word: what still runs for a process that is gone is found and ended.
"""

from __future__ import annotations

import hashlib
import os
import platform
import uuid
from functools import cache
from pathlib import Path

__all__ = ["host_tag", "is_dead", "session_word"]


@cache
def _host() -> str:
    """This boot of this machine, in this process namespace: where process ids mean something."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        boot += str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # macOS
        boot = f"{platform.node()} {uuid.getnode()}"
    return hashlib.sha256(boot.encode()).hexdigest()[:12]


def host_tag() -> str:
    """`<host>-<pid>`, the beginning of every temporary name of this process."""
    return f"{_host()}-{os.getpid()}"


def session_word(*, all_processes: bool = False) -> str:
    """`edgeopt-<host>-<pid>-`, among the words of every command that this process starts.

    The beginning of it that all processes of this machine share, when asked for.
    """
    return f"edgeopt-{_host()}-" if all_processes else f"edgeopt-{host_tag()}-"


def is_dead(tag: str) -> bool:
    """True when `tag` is of this machine and its process is gone for certain."""
    host, _, rest = tag.partition("-")
    pid = rest.partition("-")[0]
    if host != _host() or not pid.isdigit() or int(pid) > 2**31:
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
