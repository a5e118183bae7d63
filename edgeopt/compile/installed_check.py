"""What `edgeopt doctor` says of each compiler: its name, if it is there, what was found, a hint."""

from __future__ import annotations

from edgeopt.compile.contract import CompileOptions
from edgeopt.errors import EdgeoptError

__all__ = ["edgetpu", "vela"]

Check = tuple[str, bool, str, str]


def edgetpu() -> Check:
    from edgeopt.compile.compiler_host import locate

    try:
        found = locate(CompileOptions())
    except EdgeoptError as error:
        said = f"{error.message.rstrip('.')}  (for --target edgetpu: edgeopt compiler install)"
        return "edgetpu_compiler", False, said, error.hint
    where = f"{found.host.name}  ({found.host.kind}, chosen by {found.origin})"
    return "edgetpu_compiler", True, where, ""


def vela() -> Check:
    from edgeopt.compile.vela import find_program

    try:
        return "vela", True, f"{find_program(CompileOptions())}  (for Ethos-U targets)", ""
    except EdgeoptError as error:
        said = "not installed  (for Ethos-U targets: pip install 'edgeopt[ethos-u]')"
        return "vela", False, said, error.hint
