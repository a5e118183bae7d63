"""Unpack a Debian package into a folder, trusting nothing in it (deb(5): an ar of three members).

Only plain files, folders and links that stay inside are made; device nodes, absolute names, `..`
and links that lead outside are refused, and so is more than any compiler needs. Owners, set-id bits
and the package's scripts are ignored: nothing of the package runs while it is unpacked.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import lzma
import posixpath
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from edgeopt.errors import ToolError

__all__ = ["fields_of_deb", "unpack_deb"]

_MAX_UNPACKED_BYTES = 2 << 30
_MAX_CONTROL_BYTES = 1 << 20
_MAX_MEMBERS = 20_000
_BLOCK = 1 << 18
_BROKEN = (OSError, EOFError, MemoryError, ValueError, lzma.LZMAError, zlib.error, tarfile.TarError)
_OPENERS: Mapping[str, Callable[[IO[bytes]], Any]] = {
    "": lambda stream: stream,
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".bz2": bz2.open,
}


def fields_of_deb(package: Path) -> dict[str, str]:
    """The control file's fields ("Package", "Version", "Architecture" ...).

    Raises ToolError for a file that is no Debian package.
    """
    with _tar_of(package, "control.tar") as archive:
        for member in _bounded(archive, package):
            if member.isreg() and posixpath.normpath(member.name) == "control":
                if member.size > _MAX_CONTROL_BYTES:
                    break
                stream = archive.extractfile(member)
                text = stream.read().decode("utf-8", "replace") if stream else ""
                lines = [line for line in text.splitlines() if line[:1] not in ("", " ", "\t", "#")]
                return {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    raise _refused(package, "it has no control file")


def unpack_deb(package: Path, folder: Path) -> int:
    """Unpack the files of `package` into the existing, empty `folder`; their bytes in all.

    Raises ToolError for a package that is damaged, too large or that reaches outside `folder`.
    """
    total, links = 0, []
    with _tar_of(package, "data.tar") as archive:
        for member in _bounded(archive, package):
            target = folder / _inside(member.name, package)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            elif member.isreg():
                total += member.size
                if total > _MAX_UNPACKED_BYTES:
                    raise _refused(package, f"it unpacks to more than {_MAX_UNPACKED_BYTES} bytes")
                _write(archive, member, target)
            elif member.issym() or member.islnk():
                links.append((member, target))
            else:
                raise _refused(package, f"{member.name} is neither a file, a folder nor a link")
        for member, target in links:  # last, so that no file is ever written through one
            _link(member, target, folder, package)
    return total


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    stream = archive.extractfile(member)
    assert stream is not None  # a regular member has one
    with stream, target.open("xb") as out:
        shutil.copyfileobj(stream, out, _BLOCK)
    target.chmod(0o755 if member.mode & 0o111 else 0o644)


def _link(member: tarfile.TarInfo, target: Path, folder: Path, package: Path) -> None:
    """A symbolic link is relative to its own folder, a hard one to the package's root.

    Where both ends really are is asked of the file system, since links may lead through links.
    """
    root, place = folder.resolve(), target.parent.resolve() / target.name
    hard = member.islnk()
    end = folder / _inside(member.linkname, package) if hard else place.parent / member.linkname
    if not (place.is_relative_to(root) and end.resolve().is_relative_to(root)):
        raise _refused(package, f"the link {member.name} leads outside ({member.linkname})")
    target.parent.mkdir(parents=True, exist_ok=True)
    if hard:
        shutil.copyfile(end, target)
    elif member.linkname.startswith("/"):
        raise _refused(package, f"the link {member.name} is absolute ({member.linkname})")
    else:
        target.symlink_to(member.linkname)


def _inside(name: str, package: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise _refused(package, f"{name!r} leads outside the package's folder")
    return path


@contextlib.contextmanager
def _tar_of(package: Path, stem: str) -> Iterator[tarfile.TarFile]:
    """The tar of `stem` inside the ar; whatever is wrong with the bytes becomes a ToolError."""
    try:
        with package.open("rb") as file:
            name, stream = _ar_member(file, package, stem)
            ending = name.removeprefix(stem)
            if ending == ".zst":
                with (
                    _unzstd(stream, package) as plain,
                    tarfile.open(fileobj=plain, mode="r|") as archive,
                ):
                    yield archive
            elif ending in _OPENERS:
                with tarfile.open(fileobj=_OPENERS[ending](stream), mode="r|") as archive:
                    yield archive
            else:
                raise _refused(package, f"{name} is compressed in an unknown way")
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise ToolError(
                f"{package.name} cannot be unpacked: {error.strerror}.",
                "Free some space, or give another folder with EDGEOPT_STATE.",
            ) from error
        raise _refused(package, f"{stem} cannot be read ({error})") from error


def _bounded(archive: tarfile.TarFile, package: Path) -> Iterator[tarfile.TarInfo]:
    for count, member in enumerate(archive):
        if count >= _MAX_MEMBERS:
            raise _refused(package, f"it has more than {_MAX_MEMBERS} files")
        yield member


class _Slice:
    """The bytes of one ar member as a stream, so that nothing is held in memory whole."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.left = file, size

    def read(self, size: int = -1) -> bytes:
        size = self.left if size < 0 else min(size, self.left)
        data = self.file.read(size)
        if len(data) < size:
            raise EOFError("the file ends too early")
        self.left -= len(data)
        return data


def _ar_member(file: IO[bytes], package: Path, stem: str) -> tuple[str, IO[bytes]]:
    """The member whose name begins with `stem` (System V ar: 60-byte headers, even offsets)."""
    if file.read(8) != b"!<arch>\n":
        raise _refused(package, "it is no Debian package (a login page?)")
    while header := file.read(60):
        if len(header) < 60 or header[58:] != b"`\n" or not header[48:58].strip().isdigit():
            raise _refused(package, "its archive is damaged")
        name, size = header[:16].decode("latin-1").strip().rstrip("/"), int(header[48:58])
        if name.startswith(stem):
            return name, _Slice(file, size)  # type: ignore[return-value]
        file.seek(size + size % 2, 1)
    raise _refused(package, f"it has no {stem}")


@contextlib.contextmanager
def _unzstd(stream: IO[bytes], package: Path) -> Iterator[IO[bytes]]:
    """Python 3.14 reads zstd itself; before it, the program zstd does."""
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        pass
    else:
        yield zstd.ZstdFile(stream)
        return
    program = shutil.which("zstd")
    if program is None:
        raise ToolError(
            f"{package.name} is compressed with zstd, which this Python cannot read.",
            "Install the program zstd (apt install zstd), then run the command again.",
        )
    with tempfile.TemporaryFile() as packed:
        shutil.copyfileobj(stream, packed, _BLOCK)
        packed.seek(0)
        with subprocess.Popen([program, "-dcq"], stdin=packed, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None  # it was asked for
                yield process.stdout
            finally:
                process.kill()


def _refused(package: Path, why: str) -> ToolError:
    return ToolError(
        f"{package.name} was not unpacked: {why}.",
        "Fetch the package again, from Google's own repository.",
    )
