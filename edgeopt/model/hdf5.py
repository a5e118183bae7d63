"""What an HDF5 file holds, listed in a process of its own: libhdf5 trusts its file.

Only names, shapes, types and the model's configuration are read, no array. Links that leave the
file are not followed (h5py's visit goes along hard links alone).
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.errors import ModelError, ToolError
from edgeopt.model.child import limit_memory, run_child
from edgeopt.model.flatbuffer import CorruptFile

__all__ = ["Dataset", "Survey", "survey"]

_MAX_OBJECTS = 200_000
_MAX_CONFIG_BYTES = 64 << 20
_TIMEOUT_S = 30.0
_MISSING = 4


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One stored array: its path in the file, shape and numpy type."""

    path: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Survey:
    """`config` is the attribute model_config; `names` the attribute "name" of groups, by path."""

    config: str | None
    datasets: tuple[Dataset, ...]
    names: dict[str, str]


def survey(path: Path) -> Survey:
    """Raises CorruptFile when libhdf5 cannot read the file, crashes or hangs on it."""
    try:
        done = run_child(__name__, path, _TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise CorruptFile(f"libhdf5 found no end in it within {_TIMEOUT_S:g} s") from error
    if done.returncode == _MISSING:
        reason = done.stderr.decode("utf-8", "replace").strip()
        raise ToolError(f"h5py cannot be used: {reason}", "pip install h5py")
    if done.returncode < 0:
        raise CorruptFile(f"libhdf5 crashed on it (signal {-done.returncode})")
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise CorruptFile(lines[-1][:500] if lines else "libhdf5 cannot read it")
    found = json.loads(done.stdout)
    return Survey(
        config=found["config"],
        datasets=tuple(Dataset(path=p, shape=tuple(s), dtype=d) for p, s, d in found["datasets"]),
        names=found["names"],
    )


def main(path: str) -> int:
    """The child: one JSON document on stdout."""
    limit_memory()
    try:
        import h5py
    except ImportError as error:
        print(error, file=sys.stderr)
        return _MISSING
    try:
        with h5py.File(path, "r") as file:
            json.dump(_list(file, h5py.Dataset), sys.stdout)
    except Exception as error:  # noqa: BLE001  h5py turns damage into many types of error
        print(f"HDF5: {error}".replace("\n", " "), file=sys.stderr)
        return 1
    return 0


def _list(file: Any, dataset_type: type) -> dict[str, Any]:
    datasets: list[tuple[str, list[int], str]] = []
    names: dict[str, str] = {}
    visited = 0

    def visit(path: str, node: Any) -> None:
        nonlocal visited
        visited += 1
        if visited > _MAX_OBJECTS:
            raise ModelError(f"more than {_MAX_OBJECTS} objects")
        if isinstance(node, dataset_type):
            datasets.append((path, [int(d) for d in node.shape or ()], str(node.dtype)))  # type: ignore[attr-defined]
        elif "name" in node.attrs:
            names[path] = _text(node.attrs["name"])

    file.visititems(visit)
    config = _text(file.attrs["model_config"]) if "model_config" in file.attrs else None
    if config is not None and len(config) > _MAX_CONFIG_BYTES:
        raise ModelError("its configuration is larger than any model's")
    return {"config": config, "datasets": datasets, "names": names}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
