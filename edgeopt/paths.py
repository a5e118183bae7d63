"""Where shipped data and the user's own files are. Imports nothing heavy and creates nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cache_dir", "config_dir", "data_dir", "demo_dir", "make_private", "state_dir"]

_PACKAGE = Path(__file__).resolve().parent


def data_dir(kind: str) -> Path:
    """The folder of shipped TOML files, `kind` being "targets" or "hardware_profiles".

    A wheel holds them inside the package; a clone, an editable install and an unpacked sdist hold
    them beside it.
    """
    packaged = _PACKAGE / kind
    return packaged if packaged.is_dir() else _PACKAGE.parent / kind


def demo_dir() -> Path:
    """The folder of the shipped example model and its labelled samples."""
    return _PACKAGE / "demo"


def _home(variable: str, fallback: str, mac: str) -> Path:
    if value := os.environ.get(variable):
        return Path(value) / "edgeopt"
    if sys.platform == "darwin":
        return Path.home() / "Library" / mac / "edgeopt"
    return Path.home() / fallback / "edgeopt"


def cache_dir() -> Path:
    """Converted and compiled artifacts; safe to delete. `EDGEOPT_CACHE` overrides."""
    if value := os.environ.get("EDGEOPT_CACHE"):
        return Path(value)
    return _home("XDG_CACHE_HOME", ".cache", "Caches")


def config_dir() -> Path:
    """The user's devices.toml, known_hosts and targets. `EDGEOPT_CONFIG` overrides."""
    if value := os.environ.get("EDGEOPT_CONFIG"):
        return Path(value)
    return _home("XDG_CONFIG_HOME", ".config", "Application Support")


def state_dir() -> Path:
    """Tools fetched for the user and their recorded hashes. `EDGEOPT_STATE` overrides."""
    if value := os.environ.get("EDGEOPT_STATE"):
        return Path(value)
    return _home("XDG_DATA_HOME", ".local/share", "Application Support")


def make_private(folder: Path) -> None:
    """Make `folder` and what is missing above it, for the user alone (0700, whatever the umask).

    One that is there stays as it is. Raises OSError.
    """
    if not folder.is_dir():
        if not folder.parent.is_dir():
            make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
