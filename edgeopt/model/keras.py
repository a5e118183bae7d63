"""Read a .keras file: a zip with the configuration as JSON and the weights as HDF5."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from edgeopt.errors import ModelError
from edgeopt.model.contents import Contents
from edgeopt.model.flatbuffer import CorruptFile
from edgeopt.model.h5 import parse_config, subgraph_of
from edgeopt.model.hdf5 import Survey, survey
from edgeopt.model.keras_weights import StoredWeights, count_values
from edgeopt.model.source import MAX_FILE_BYTES

__all__ = ["read"]

_MAX_JSON_BYTES = 64 << 20
_MAX_RATIO = 100  # Keras stores weights uncompressed; a bomb of zeros reaches 1000
_WEIGHTS = "model.weights.h5"
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def read(path: Path) -> Contents:
    """Raises CorruptFile for a damaged archive, ModelError for one that unpacks beyond reason."""
    with _archive(path) as archive:
        model = parse_config(_bytes(archive, "config.json"))
        metadata = _bytes(archive, "metadata.json")
        found = _weights(archive)
    subgraph = subgraph_of(model, lambda: StoredWeights.of(found or _NONE))
    return Contents(
        subgraphs=(subgraph,),
        parameters=None if found is None else count_values(found.datasets),
        description=_version(metadata),
    )


_NONE = Survey(config=None, datasets=(), names={})


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (*_BROKEN, OSError, OverflowError) as error:
        raise CorruptFile(f"the archive cannot be unpacked ({error})") from error


def _open(archive: zipfile.ZipFile, name: str, limit: int) -> IO[bytes]:
    info = archive.getinfo(name)
    if info.file_size > min(limit, (64 << 20) + _MAX_RATIO * info.compress_size):
        raise ModelError(
            f"{name} in the .keras file unpacks to {info.file_size} bytes, beyond reason.",
            "Save the model again from Keras.",
        )
    return archive.open(info)


def _bytes(archive: zipfile.ZipFile, name: str) -> bytes:
    with _open(archive, name, _MAX_JSON_BYTES) as stream:
        return stream.read(_MAX_JSON_BYTES)  # zipfile stops at the size that it declares


def _weights(archive: zipfile.ZipFile) -> Survey | None:
    """The weights' list, through a file of its own: libhdf5 reads no zip."""
    if _WEIGHTS not in archive.namelist():
        return None
    with (
        _open(archive, _WEIGHTS, MAX_FILE_BYTES) as source,
        tempfile.TemporaryDirectory() as folder,
    ):
        copy = Path(folder) / _WEIGHTS
        with copy.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        return survey(copy)


def _version(metadata: bytes) -> str:
    try:
        found = json.loads(metadata)
    except (ValueError, RecursionError):
        return "Keras"  # only a description: the model does not depend on it
    version = found.get("keras_version") if isinstance(found, dict) else None
    return f"Keras {version}" if isinstance(version, str) else "Keras"
