"""Store: the content-addressed cache of stage outputs, and the only way files reach users.

A key is the sha256 of everything an output depends on; an entry is a folder with the file and a
sidecar that holds its sha256. An entry appears whole or not at all, and one that no longer matches
its sidecar is thrown away. Measurements are never stored.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edgeopt.artifact import hash_path
from edgeopt.errors import InputError
from edgeopt.paths import cache_dir, make_private

__all__ = ["Entry", "Store", "check_place", "publish", "publish_text", "scratch"]

_SIDECAR = "entry.json"
_LIMIT_BYTES = 10 << 30
_ABANDONED_S = 2 * 86_400  # no conversion takes so long


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A cached file and what its maker wanted remembered; `fresh` when it was made just now."""

    path: Path
    meta: Mapping[str, Any]
    fresh: bool


class Store:
    """One folder, safe for several processes at once."""

    def __init__(self, root: Path | None = None, *, limit_bytes: int = _LIMIT_BYTES) -> None:
        self.root = (root or cache_dir()) / "artifacts"
        self.limit_bytes = limit_bytes

    @staticmethod
    def key(**parts: Any) -> str:
        """The name of an output: sha256 over the canonical JSON of what it depends on."""
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, key: str) -> Entry | None:
        """The entry, or None when it is missing or damaged (a damaged one is removed)."""
        folder = self.root / key
        try:
            sidecar = json.loads((folder / _SIDECAR).read_text())
            path = folder / str(sidecar["name"])
            if path.parent == folder and hash_path(path) == sidecar["sha256"]:
                with suppress(OSError):
                    os.utime(folder)
                return Entry(path=path, meta=sidecar["meta"], fresh=False)
        except FileNotFoundError:
            if not folder.exists():
                return None
        except (OSError, ValueError, KeyError, TypeError):
            pass
        shutil.rmtree(folder, ignore_errors=True)
        return None

    def build(
        self,
        key: str,
        name: str,
        make: Callable[[Path], Mapping[str, Any]],
        keep: tuple[str, ...] = (),
    ) -> Entry:
        """The entry of `key`, made by `make(path)` in a temporary folder when it is not there.

        Of what else the maker leaves in that folder only the files named in `keep` stay.
        """
        if found := self.get(key):
            return found
        self._sweep()
        with scratch(self.root) as folder, self._full_disk_explained():
            path = folder / name
            meta = dict(make(path))
            sidecar = {"name": name, "sha256": hash_path(path), "meta": meta}
            (folder / _SIDECAR).write_text(json.dumps(sidecar, sort_keys=True))
            for stray in folder.iterdir():
                if stray.name not in (name, _SIDECAR, *keep):
                    shutil.rmtree(stray) if stray.is_dir() else stray.unlink()
                elif stray.is_file():
                    stray.chmod(0o600)
            with suppress(OSError):  # someone else was first: theirs is the same
                folder.rename(self.root / key)
        self._evict(keep=key)
        found = self.get(key)
        if found is None:
            raise InputError(
                f"The cache {self.root} loses what is written to it.", "Check the disk."
            )
        return Entry(path=found.path, meta=found.meta, fresh=True)

    def _sweep(self) -> None:
        """Remove the temporary folders of processes that were killed: those nobody has touched."""
        for folder in self.root.glob(".edgeopt-*"):
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > _ABANDONED_S:
                    shutil.rmtree(folder)

    @contextmanager
    def _full_disk_explained(self) -> Iterator[None]:
        """Whoever wrote there: a full disk under the cache is the user's to empty."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise
            raise InputError(
                f"The cache {self.root} cannot be written: {error.strerror}.",
                "Free some space or give another folder with EDGEOPT_CACHE.",
            ) from error

    def _evict(self, keep: str) -> None:
        """Remove the entries unused for longest until the rest fits the limit."""
        entries = []
        for folder in self.root.iterdir():
            with suppress(OSError):
                size = sum(f.stat().st_size for f in folder.iterdir() if f.is_file())
                entries.append((folder.stat().st_mtime, size, folder))
        total = sum(size for _, size, _ in entries)
        for _, size, folder in sorted(entries, key=lambda e: e[0]):
            if total <= self.limit_bytes:
                break
            if folder.name != keep and not folder.name.startswith("."):
                shutil.rmtree(folder, ignore_errors=True)
                total -= size


@contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    """A private folder (mode 0700) that is gone afterwards, however the block ends.

    Raises InputError when `parent` cannot be written.
    """
    try:
        if parent is not None:
            make_private(parent)
        folder = Path(tempfile.mkdtemp(prefix=".edgeopt-", dir=parent))
    except OSError as error:
        raise InputError(
            f"Cannot write to {parent or tempfile.gettempdir()}: {error.strerror}.",
            "Free some space or give another folder (EDGEOPT_CACHE, TMPDIR).",
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(source: Path, target: Path) -> Path:
    """Copy a finished file to where the user picks it up: whole, or not at all.

    Raises InputError when the place cannot be written; nothing is left half-written.
    """

    def copy(out: IO[bytes]) -> None:
        with source.open("rb") as stream:
            shutil.copyfileobj(stream, out, 1 << 20)

    return _placed(copy, target)


def publish_text(text: str, target: Path) -> Path:
    """The same with a text, in UTF-8; it needs no other space on the way."""
    return _placed(lambda out: out.write(text.encode()), target)


def check_place(target: Path) -> None:
    """Raises InputError where `publish` would fail whatever was to be written."""
    folder = next(p for p in target.absolute().parents if p.exists())
    if target.is_dir():
        raise InputError(f"{target} is a folder.", "Name a file in it.")
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        what = "may not be written to" if folder.is_dir() else "is no folder"
        raise InputError(f"Cannot write {target}: {folder} {what}.", "Choose another place.")


def _placed(write: Callable[[IO[bytes]], object], target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        name = str(target.parent / f".edgeopt-{secrets.token_hex(8)}")
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # the user's umask
        try:
            with os.fdopen(handle, "wb") as out:
                write(out)
                out.flush()
                os.fsync(out.fileno())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(
            f"Cannot write {target}: {error.strerror or error}.",
            "Check that its folder can be written and has space, or choose another place.",
        ) from error
    return target
