"""Checkpoints: a training's state after each epoch, in one file that appears whole or not at all.

A file that cannot be read, or is another format's, is as if it were not there.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["forget_abandoned", "has_state", "load_state", "save_state"]

_FORMAT = 1
_NAME = "state.npz"
_ABANDONED_S = 30 * 86_400  # who has not gone on by then will not


def save_state(folder: Path, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Replace the state in `folder`. `facts` are plain JSON values. Raises OSError."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": _FORMAT, **facts}).encode()
    handle, name = tempfile.mkstemp(prefix=".edgeopt-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            packed: dict[str, Any] = {**arrays, "facts": np.frombuffer(text, np.uint8)}
            np.savez(stream, **packed)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(folder / _NAME)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_state(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """The state that was saved last, None when there is none that can be used."""
    import numpy as np

    for stray in folder.glob(".edgeopt-*"):  # of a process that was killed while it wrote
        with suppress(OSError):
            stray.unlink()
    try:
        with (folder / _NAME).open("rb") as stream, np.load(stream) as stored:
            arrays = {name: stored[name] for name in stored.files}
        facts = json.loads(arrays.pop("facts").tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return (facts, arrays) if facts.get("format") == _FORMAT else None


def has_state(folder: Path) -> bool:
    """True when a training was interrupted after its first epoch, or is not over."""
    return (folder / _NAME).is_file()


def forget_abandoned(root: Path) -> None:
    """Remove the states below `root`, a folder each, that nothing was saved to for a month."""
    for folder in root.glob("*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(folder)
