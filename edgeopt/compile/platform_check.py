"""Why a compiler does not start on this machine, and where it would.

edgetpu_compiler is a program for x86-64 Linux: Google's wrapper brings its own loader and C
library, so any such kernel runs it (also under musl); the program proper, started by itself, needs
the system's glibc loader.
"""

from __future__ import annotations

import errno
import platform
import struct
from pathlib import Path

__all__ = ["explained", "install_hint", "why_not_started"]

# ELF header (elf.h): e_ident[4] is the class, e_machine the processor at byte 18.
_CLASSES = {1: "32-bit", 2: "64-bit"}
_MACHINES = {
    3: "x86",
    8: "MIPS",
    21: "PowerPC",
    40: "ARM",
    62: "x86-64",
    183: "ARM64",
    243: "RISC-V",
}
_PT_INTERP = 3
_MAX_HEADERS = 64
_SIGNS = ("exec format error", "cannot execute", "no such file or directory", "not found")


def install_hint() -> str:
    """How to come to a compiler, for the machine that this is."""
    elsewhere = (
        "name one elsewhere: --compiler PATH, container:IMAGE or ssh://user@host, or set "
        "EDGEOPT_EDGETPU_COMPILER to the same."
    )
    if platform.system() == "Linux" and platform.machine() in ("x86_64", "AMD64"):
        return (
            "Bring Google's edgetpu_compiler here with `edgeopt compiler install` (or its package "
            "edgetpu-compiler with apt; it runs on x86-64 Linux only), or " + elsewhere
        )
    return (
        "Google's edgetpu_compiler (package edgetpu-compiler) runs on x86-64 Linux only, so this "
        f"machine cannot run it itself: {elsewhere} A container runs it here under emulation."
    )


def why_not_started(path: Path, error: OSError) -> str:
    """The kernel's terse refusal in words; empty where it says enough itself."""
    try:
        with path.open("rb") as stream:
            head = stream.read(1 << 16)
    except OSError:
        return ""
    if error.errno == errno.ENOENT and head.startswith(b"#!"):
        interpreter = head[2:].split(b"\n")[0].decode("utf-8", "replace").strip()
        return f"its interpreter {interpreter} is not on this machine"
    if error.errno == errno.ENOENT and head.startswith(b"\x7fELF"):
        return _no_loader(head)
    if error.errno == errno.ENOEXEC and head.startswith(b"\x7fELF"):
        return f"it is a program for {_built_for(head)}, and this machine is {_here()}"
    return ""


def explained(said: str, host: str) -> str:
    """What a wrapper's complaint means; empty where it shows no platform trouble.

    The wrapper starts, being a script, but the program inside may be for another processor. `host`
    is the compiler's place: a path, `container:IMAGE` or `ssh://host`.
    """
    if not any(sign in said.lower() for sign in _SIGNS):
        return ""
    if host.startswith("ssh://"):
        return (
            f"{host} must be x86-64 Linux, with the folder edgetpu_compiler_bin beside the wrapper."
        )
    here = platform.machine() in ("x86_64", "AMD64")
    if host.startswith("container:"):
        emulation = "" if here else " This machine runs it only with qemu-user-static (binfmt)."
        return f"The image must be x86-64 Linux with the package edgetpu-compiler.{emulation}"
    if here and platform.system() == "Linux":
        return (
            "Its parts are missing or for another system: it needs edgetpu_compiler_bin beside it."
        )
    return f"It is for x86-64 Linux, and this machine is {_here()}."


def _here() -> str:
    return f"{platform.system()} on {platform.machine()}"


def _built_for(head: bytes) -> str:
    if len(head) < 20:
        return "an unknown processor"
    order = "<" if head[5] == 1 else ">"
    (machine,) = struct.unpack_from(f"{order}H", head, 18)
    return f"{_CLASSES.get(head[4], 'unknown')} {_MACHINES.get(machine, f'processor {machine}')}"


def _no_loader(head: bytes) -> str:
    loader = _loader(head)
    name = f"its loader {loader}" if loader else "its loader"
    musl = " (this system has musl's instead of glibc's)" if _musl() else ""
    return (
        f"{name} for {_built_for(head)} programs is not on this machine{musl}; Google's wrapper "
        "script, which stands beside the folder edgetpu_compiler_bin, brings its own"
    )


def _loader(head: bytes) -> str:
    """PT_INTERP of the program headers (elf.h), read with every offset checked."""
    try:
        order, wide = ("<" if head[5] == 1 else ">"), head[4] == 2
        (table,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, 32 if wide else 28)
        size, count = struct.unpack_from(f"{order}HH", head, 54 if wide else 42)
        for index in range(min(count, _MAX_HEADERS)):
            at = table + index * size
            (kind,) = struct.unpack_from(f"{order}I", head, at)
            if kind == _PT_INTERP:
                place = at + (8 if wide else 4)
                (offset,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, place)
                return head[offset : offset + 256].split(b"\0")[0].decode("utf-8", "replace")
    except (struct.error, IndexError):
        pass
    return ""


def _musl() -> bool:
    return any(Path("/lib").glob("ld-musl-*"))
