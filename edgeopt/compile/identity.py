"""What besides model and options decides a compiler's output: a text for the cache's key."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from edgeopt.compile.contract import CompileOptions

__all__ = ["command", "edgetpu"]


def edgetpu(options: CompileOptions) -> str:
    """Where the compiler is, what it answers to --version, and the program file's state.

    Raises ToolError when there is no compiler.
    """
    from edgeopt.compile.compiler_host import find_host

    host = find_host(options)
    return f"{host.name} {host.kind} {host.version()} {_state(host.name)}"


def command(options: CompileOptions) -> str:
    """The command's first word and the state of that program's file."""
    words = options.command or tuple(shlex.split(options.extra.get("command", "")))
    return f"{words} {_state(shutil.which(words[0]) or words[0])}" if words else ""


def _state(program: str) -> str:
    try:
        stat = Path(program).stat()
    except (OSError, ValueError):
        return ""  # in a container or on another host: its version text has to do
    return f"{stat.st_size} {stat.st_mtime_ns}"
