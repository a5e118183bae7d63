"""The native runner as a program for one device: built there, or here for its processor.

Nothing is fetched: the compiler is the device's own, this machine's, or Debian's for another
processor. What was built is kept by the hash of its sources, its compiler and its C library.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from edgeopt.artifact import hash_path, tree_files
from edgeopt.device.printable import tail
from edgeopt.errors import ToolError
from edgeopt.store import Store

if TYPE_CHECKING:
    from edgeopt.device.device import Device
    from edgeopt.progress import Progress

__all__ = ["FLAGS", "LIBRARIES", "Runner", "build", "sources"]

FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra")
LIBRARIES = ("-ldl", "-lpthread", "-lm")
_SOURCE = Path(__file__).with_name("source")
_LIMIT_S = 180.0
# By `uname -m`: the compilers on this machine for such a device, and Debian's package of the last.
_CROSS = {
    "aarch64": ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
    "x86_64": ("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu libc6-dev-amd64-cross"),
}
# Prints the device's compiler, what it says of itself, and its C library; nothing without one.
_LOOK = r"""for c in cc gcc clang; do
  if command -v "$c" >/dev/null 2>&1; then
    echo "$c"; "$c" --version 2>/dev/null | head -n 1; getconf GNU_LIBC_VERSION 2>/dev/null; exit 0
  fi
done; exit 0"""


@dataclass(frozen=True, kw_only=True)
class Runner:
    """The program, on this machine. `built_by` names the compiler and where it ran."""

    path: Path
    sha256: str
    built_by: str


def sources() -> list[Path]:
    """The C files, in the order in which they are compiled."""
    return [path for path in tree_files(_SOURCE) if path.suffix == ".c"]


def build(device: Device, progress: Progress) -> Runner:
    """The runner for `device`, from the cache or built now.

    Raises ToolError when there is no compiler for it, here or there, or when it fails.
    """
    facts = device.facts()
    arch = str(facts.get("arch"))
    if facts.get("os") != "Linux" or facts.get("android") or arch not in _CROSS:
        raise ToolError(
            f"The native runner is for Linux on {' and '.join(_CROSS)}, and"
            f" {device.transport.name} is {(facts.get('android') and 'Android') or facts.get('os')}"
            f" on {arch}.",
            "Use another --runtime there.",
        )
    if "compiler" not in device.known:
        answer = device.transport.run(["sh", "-c", _LOOK], timeout_s=30)
        device.known["compiler"] = answer.stdout.decode(errors="replace").splitlines()
    words: list[str] = device.known["compiler"]
    if words:
        return _built_there(device, arch, words, progress)
    return _built_here(device, arch, progress)


def _built_there(device: Device, arch: str, words: list[str], progress: Progress) -> Runner:
    compiler, said = words[0], [tail(word.encode()) for word in words[1:]]

    def make(path: Path) -> Mapping[str, str]:
        progress.stage(f"Building the native runner on {device.transport.name}")
        with device.workspace.discarding():
            folder = device.workspace.put_tree(_SOURCE, keep=False).path
            with device.workspace.run_dir() as run_dir:
                program = f"{run_dir}/runner"
                files = [f"{folder}/{source.name}" for source in sources()]
                argv = [compiler, *FLAGS, "-o", program, *files, *LIBRARIES]
                done = device.transport.run(argv, timeout_s=_LIMIT_S)
                if done.exit_code:
                    raise _failed(f"{compiler} on {device.transport.name}", done.stderr)
                device.transport.pull(program, path, timeout_s=_LIMIT_S)
        return {"built_by": f"{said[0] if said else compiler}, on the device"}

    # Only that board gets it back: what one device made must never run on another.
    return _kept(make, arch=arch, compiler=[compiler, *said], where=device.transport.name)


def _built_here(device: Device, arch: str, progress: Progress) -> Runner:
    compiler = _compiler_here(device, arch)

    def make(path: Path) -> Mapping[str, str]:
        progress.stage(f"Building the native runner for {arch}")
        files = [str(source) for source in sources()]
        argv = [compiler, *FLAGS, "-o", str(path), *files, *LIBRARIES]
        try:
            done = subprocess.run(argv, capture_output=True, timeout=_LIMIT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ToolError(f"{compiler} does not work: {error}.", "Reinstall it.") from error
        if done.returncode:
            raise _failed(compiler, done.stderr)
        return {"built_by": f"{_version(compiler)}, on this machine"}

    said = [compiler, _version(compiler), "-".join(platform.libc_ver())]
    return _kept(make, arch=arch, compiler=said, where="this machine")


def _compiler_here(device: Device, arch: str) -> str:
    cross, packages = _CROSS[arch]
    native = sys.platform == "linux" and platform.machine() == arch
    for name in ("cc", "gcc", cross) if native else (cross,):
        if found := shutil.which(name):
            return found
    raise ToolError(
        f"The native runner cannot be built: {device.transport.name} has no C compiler, and this"
        f" machine has no {cross}.",
        f"Install one there (Debian: gcc libc6-dev) or here (Debian: {packages}).",
    )


@cache
def _version(compiler: str) -> str:
    done = subprocess.run([compiler, "--version"], capture_output=True, timeout=30, check=False)
    return (done.stdout.decode(errors="replace").splitlines() or [compiler])[0]


def _kept(
    make: Callable[[Path], Mapping[str, str]], *, arch: str, compiler: list[str], where: str
) -> Runner:
    key = Store.key(
        what="native runner",
        sources=_sources_sha256(),
        flags=[*FLAGS, *LIBRARIES],
        arch=arch,
        compiler=compiler,
        where=where,
    )
    entry = Store().build(key, "runner", make)
    return Runner(
        path=entry.path, sha256=hash_path(entry.path), built_by=str(entry.meta["built_by"])
    )


@cache
def _sources_sha256() -> str:
    digest = hashlib.sha256()
    for path in tree_files(_SOURCE):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _failed(compiler: str, stderr: bytes) -> ToolError:
    return ToolError(
        f"{compiler} could not build the native runner: {tail(stderr) or 'it said nothing'}.",
        "Install the C library's headers too (Debian: libc6-dev), or a newer compiler.",
    )
