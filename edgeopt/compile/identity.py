"""What besides model and options decides a compiler's output: a text for the cache's key.

An identity is cheap next to a compilation: where the program is, its bytes, and what it says its
version is. A missing compiler raises what compiling would raise.
"""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

from edgeopt.artifact import hash_path
from edgeopt.compile.contract import CompileOptions

__all__ = ["command", "edgetpu", "hashes_of"]


def edgetpu(options: CompileOptions) -> str:
    """The compiler's place, version and bytes; on another host or in an image its version alone.

    Raises ToolError when there is no compiler or it does not start, InputError for bad options.
    """
    from edgeopt.compile.compiler_host import LocalHost, find_host
    from edgeopt.compile.edgetpu_flags import settled

    host = find_host(settled(options))
    return json.dumps(
        {
            "where": host.name,
            "version": " ".join(host.version().split()),
            "bytes": hashes_of(host.path) if isinstance(host, LocalHost) else None,
        }
    )


def hashes_of(program: Path) -> list[str]:
    """Of the file itself and, where that is Google's wrapper of three lines, of the program proper
    in the folder beside it."""
    path = program.resolve()
    inner = path.parent / "edgetpu_compiler_bin" / path.name
    return [hash_path(file) for file in (path, inner) if file.is_file()]


def command(options: CompileOptions) -> str:
    """The template, and the bytes of its program and of every file that its words name."""
    words = list(options.command) or shlex.split(options.extra.get("command", ""))
    program = shutil.which(words[0]) if words else None
    files = [Path(word) for word in words[1:] if "{" not in word and Path(word).is_file()]
    if program:
        files.insert(0, Path(program))
    return json.dumps({"words": words, "files": [hash_path(file) for file in files]})
