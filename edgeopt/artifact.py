"""Artifact: a file of the chain, known by its hash, pointing at what it was made from."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Artifact", "gzip_size", "hash_path", "tree_files"]

_BLOCK = 1 << 20
_GZIPPED: dict[str, int] = {}  # by content, so it cannot be out of date


def tree_files(path: Path) -> Iterator[Path]:
    """The files of a model: itself, or a folder's regular files in name order."""
    if path.is_dir():
        yield from (p for p in sorted(path.rglob("*")) if p.is_file())
    else:
        yield path


def hash_path(path: Path) -> str:
    """sha256 of a file's bytes; of a folder, over each file's relative name, length and bytes."""
    digest = hashlib.sha256()
    for file in tree_files(path):
        if path.is_dir():
            name = file.relative_to(path).as_posix().encode()
            digest.update(len(name).to_bytes(8, "big") + name)
            digest.update(file.stat().st_size.to_bytes(8, "big"))
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def gzip_size(path: Path, sha256: str = "") -> int:
    """Bytes after gzip -6 (the default of gzip(1)): what a download of it costs.

    With `sha256`, its content's, what this process has compressed before is not compressed again:
    a deploy meets each file several times, and 250 MB take 10 s.
    """
    if sha256 in _GZIPPED:
        return _GZIPPED[sha256]
    total = 0
    for file in tree_files(path):
        squeeze = zlib.compressobj(6, zlib.DEFLATED, 31)
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                total += len(squeeze.compress(block))
        total += len(squeeze.flush())
    if sha256:
        _GZIPPED[sha256] = total
    return total


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One stage's output. `stage` is "source", "trained", "float", "optimized" or "compiled".

    `index` counts the segments of a compiled pipeline from 0; None for a model in one piece.
    """

    stage: str
    path: Path
    sha256: str
    size_bytes: int
    gzip_bytes: int
    parent_sha256: str | None = None
    index: int | None = None

    @classmethod
    def of(cls, path: Path, stage: str, parent: Artifact | None = None) -> Artifact:
        sha256 = hash_path(path)
        return cls(
            stage=stage,
            path=path,
            sha256=sha256,
            size_bytes=sum(f.stat().st_size for f in tree_files(path)),
            gzip_bytes=gzip_size(path, sha256),
            parent_sha256=parent.sha256 if parent else None,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "path": str(self.path),
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
            "gzip_bytes": self.gzip_bytes,
            "parent_sha256": self.parent_sha256,
            **({} if self.index is None else {"index": self.index}),
        }
