"""The facts of a model file in any of the four formats."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from edgeopt.artifact import gzip_size, hash_path, tree_files
from edgeopt.errors import InputError, ModelError
from edgeopt.facts import ModelFacts
from edgeopt.model.contents import Contents
from edgeopt.model.detect import detect
from edgeopt.model.source import MAX_FILE_BYTES, read_bytes

__all__ = ["read", "structure"]

# Imported when needed: each brings a library of its own (h5py, protobuf).
_READERS = {
    "keras": "edgeopt.model.keras",
    "h5": "edgeopt.model.h5",
    "savedmodel": "edgeopt.model.savedmodel",
}
_MAX_FILES = 10_000


def read(path: Path) -> ModelFacts:
    """What the file says about itself. TensorFlow is not needed and nothing in it is executed.

    Raises InputError when it cannot be opened, ModelError (CorruptFile) when it cannot be read.
    """
    kind = detect(path)
    contents = _reader(kind)(path)
    files = _files(path)
    try:
        sha256 = hash_path(path)
        return ModelFacts(
            path=path,
            format=kind,
            sha256=sha256,
            size_bytes=sum(file.stat().st_size for file in files),
            gzip_bytes=gzip_size(path, sha256),
            parameters=contents.parameters,
            subgraphs=contents.subgraphs,
            description=contents.description,
            out_of_line_buffers=contents.out_of_line_buffers,
            signatures=contents.signatures,
            extensions=contents.extensions,
        )
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.", "Check its permissions.") from error


def structure(path: Path) -> ModelFacts:
    """The facts of a .tflite that running it takes: `sha256` is empty and the sizes are 0, since
    hashing and compressing take far longer than reading. Raises what `read` raises."""
    contents = _read_tflite(path)
    return ModelFacts(
        path=path,
        format="tflite",
        sha256="",
        size_bytes=0,
        gzip_bytes=0,
        parameters=contents.parameters,
        subgraphs=contents.subgraphs,
        signatures=contents.signatures,
    )


def _reader(kind: str) -> Callable[[Path], Contents]:
    if kind == "tflite":
        return _read_tflite
    reader: Callable[[Path], Contents] = importlib.import_module(_READERS[kind]).read
    return reader


def _read_tflite(path: Path) -> Contents:
    from edgeopt.model import tflite

    return tflite.parse(read_bytes(path))


def _files(path: Path) -> list[Path]:
    """The model's files, refused when they lead outside its folder or are beyond reason."""
    files = []
    for file in tree_files(path):
        files.append(file)
        if len(files) > _MAX_FILES:
            raise ModelError(f"{path} holds over {_MAX_FILES} files.", "Name the model's folder.")
        if path.is_dir() and not file.resolve().is_relative_to(path.resolve()):
            raise ModelError(
                f"{file} is a link that leaves the model's folder.", "Copy the file into it."
            )
    if sum(file.stat().st_size for file in files) > MAX_FILE_BYTES:
        raise ModelError(f"{path} holds over {MAX_FILE_BYTES >> 30} GiB.", "Name a smaller model.")
    return files
