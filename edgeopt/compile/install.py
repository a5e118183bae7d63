"""Bring Google's edgetpu_compiler to this user: fetch, check, unpack, try, and only then record.

Nothing of it is shipped with edgeopt, whose licence does not cover it: the user agrees with Google.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeopt.artifact import hash_path
from edgeopt.compile.apt_index import BY_HAND, PACKAGE, find_package
from edgeopt.compile.compiler_host import LocalHost
from edgeopt.compile.compiler_output import parse_output, says_double
from edgeopt.compile.deb import fields_of_deb, unpack_deb
from edgeopt.compile.identity import hashes_of
from edgeopt.compile.installed import RECORD, InstalledCompiler, home, installed
from edgeopt.errors import InputError, ToolError
from edgeopt.fetch import download
from edgeopt.paths import make_private
from edgeopt.progress import Progress, Silent
from edgeopt.store import publish, scratch

__all__ = ["LICENCE", "Installation", "install", "remove"]

LICENCE = (
    "edgetpu_compiler is Google's own program, not open source and not part of edgeopt. Google "
    "offers it at https://coral.ai/docs/edgetpu/compiler; its terms are those linked there, and "
    "the copyright file in the package itself (usr/share/doc/edgetpu-compiler)."
)
_MAX_PACKAGE_BYTES = 512 << 20  # the compiler's own packages are some tens of MB
_LOCK = ".lock"
_LOCK_TIMEOUT_S = 900.0
_LOCK_PAUSE_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What is installed now; `fresh` when this call did it. `notes` are what was not checked."""

    compiler: InstalledCompiler
    fresh: bool
    notes: tuple[str, ...] = ()


def install(
    progress: Progress, *, index: str, deb: Path | None = None, keyring: Path | None = None
) -> Installation:
    """Install the newest compiler of the apt repository `index`, or the package `deb`.

    Raises InputError for arguments that make no sense, ToolError when this machine cannot run it,
    the repository cannot be read, a hash or signature is wrong, or the program does not start.
    Whatever goes wrong, what was installed before stays.
    """
    _refuse_other_machines()
    if deb is not None and not deb.is_file():
        raise InputError(f"{deb} is not a file.", "Name the .deb to install.")
    with _locked(progress), scratch(home()) as folder:
        package = folder / (deb.name if deb else f"{PACKAGE}.deb")
        if deb is not None:
            shutil.copyfile(deb, package)
            source, signature = str(deb.absolute()), "not checked: the file was given by hand"
            notes: tuple[str, ...] = ("Neither hash nor signature of the file was checked.",)
        else:
            source, signature, notes = _download(index, package, keyring, progress)
        sha256 = hash_path(package)
        present = installed()
        if present is not None and present.package_sha256 == sha256 and _intact(present):
            return Installation(compiler=present, fresh=False, notes=notes)
        return Installation(
            compiler=_unpack(package, sha256, source, signature, progress), fresh=True, notes=notes
        )


def _intact(present: InstalledCompiler) -> bool:
    return hashes_of(present.path)[-1] == present.program_sha256


def remove() -> InstalledCompiler | None:
    """Delete what `install` brought; what it was, None where there was nothing."""
    present = installed()
    if home().is_dir():
        with _locked(Silent()):
            (home() / RECORD).unlink(missing_ok=True)  # first: from here on it is not found
            shutil.rmtree(home(), ignore_errors=True)
    return present


def _refuse_other_machines() -> None:
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in ("x86_64", "AMD64"):
        raise ToolError(
            f"edgetpu_compiler runs on x86-64 Linux only; this is {system} on {machine}.",
            "Use one elsewhere: --compiler container:IMAGE or ssh://user@host.",
        )


@contextlib.contextmanager
def _locked(progress: Progress) -> Iterator[None]:
    """One installation at a time; what a killed one left behind is removed."""
    import fcntl

    try:
        make_private(home())
        handle = os.open(home() / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InputError(
            f"{home()} cannot be written: {error.strerror}.",
            "Give another folder with EDGEOPT_STATE.",
        ) from error
    try:
        deadline, told = time.monotonic() + _LOCK_TIMEOUT_S, False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ToolError(
                        "Another `edgeopt compiler install` does not come to its end.",
                        "End it, then try again.",
                    ) from None
                if not told:
                    progress.note("Another `edgeopt compiler install` is running: waiting for it.")
                told = True
                time.sleep(_LOCK_PAUSE_S)
        for left in home().glob(".edgeopt-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(handle)


def _download(
    index: str, package: Path, keyring: Path | None, progress: Progress
) -> tuple[str, str, tuple[str, ...]]:
    progress.stage("Reading the package index")
    found = find_package(index, package.parent, keyring)
    if found.size_bytes > _MAX_PACKAGE_BYTES:
        raise ToolError(f"{found.url} would be {found.size_bytes} bytes.", BY_HAND)
    progress.stage(f"Downloading {PACKAGE} {found.version}", found.size_bytes, "B")
    download(
        found.url,
        package,
        what=PACKAGE,
        by_hand=BY_HAND,
        max_bytes=found.size_bytes,
        on_bytes=lambda done, total: progress.advance(done, found.size_bytes),
    )
    size, sha256 = package.stat().st_size, hash_path(package)
    if (size, sha256) != (found.size_bytes, found.sha256):
        raise ToolError(
            f"{found.url} is not the package that the index lists: {size} bytes with sha256 "
            f"{sha256}, listed are {found.size_bytes} bytes with {found.sha256}. It was not used.",
            f"Try again later; if it stays so, the mirror is broken or tampered with. {BY_HAND}",
        )
    return found.url, found.signature, found.notes


def _unpack(
    package: Path, sha256: str, source: str, signature: str, progress: Progress
) -> InstalledCompiler:
    progress.stage("Unpacking and trying the compiler")
    fields = fields_of_deb(package)
    if fields.get("Package") != PACKAGE or fields.get("Architecture") not in ("amd64", "all"):
        raise ToolError(
            f"{source} is the package {fields.get('Package')} for {fields.get('Architecture')}, "
            f"not {PACKAGE} for amd64.",
            BY_HAND,
        )
    tree = package.parent / "tree"
    tree.mkdir(mode=0o755)
    unpack_deb(package, tree)
    version, double = _tried(tree / "usr/bin/edgetpu_compiler", source)
    folder = home() / f"{version}-{sha256[:12]}"
    if folder.exists():
        shutil.rmtree(folder)
    tree.rename(folder)
    record = {
        "folder": folder.name,
        "version": version,
        "package_version": fields.get("Version", ""),
        "package_sha256": sha256,
        "program_sha256": hashes_of(folder / "usr/bin/edgetpu_compiler")[-1],
        "source": source,
        "signature": signature,
        "is_double": double,
    }
    written = package.with_name(RECORD)
    written.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", "utf-8")
    publish(written, home() / RECORD)
    for old in home().iterdir():
        if old.is_dir() and old not in (folder, package.parent):
            shutil.rmtree(old, ignore_errors=True)
    present = installed()
    assert present is not None  # it was written a moment ago
    return present


def _tried(program: Path, source: str) -> tuple[str, bool]:
    """Its version, and whether it is a stand-in. Raises ToolError when it does not answer."""
    if not program.is_file():
        raise ToolError(f"{source} holds no usr/bin/edgetpu_compiler.", BY_HAND)
    host = LocalHost.of(program)
    said = host.version()
    version = parse_output(said).version
    if version is None:
        raise ToolError(
            f"The compiler of {source} does not start on this machine. It says: "
            f"{said.strip()[:200] or 'nothing'}",
            "Nothing was installed. " + BY_HAND,
        )
    return version, host.is_stand_in or says_double(said)
