"""Open what the user named: exist, be readable, be a plain file, be of a believable size."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgeopt.errors import InputError, ModelError

__all__ = ["MAX_FILE_BYTES", "check", "read_bytes"]

# The formats themselves end near here: a FlatBuffer and a protobuf message hold at most 2 GiB.
MAX_FILE_BYTES = 4 << 30


def check(path: Path) -> os.stat_result:
    """The file's or folder's status. Raises InputError when it cannot be opened at all."""
    try:
        status = path.stat()
        is_folder = stat.S_ISDIR(status.st_mode)
        if not is_folder and not stat.S_ISREG(status.st_mode):  # a pipe would block forever
            raise InputError(f"{path} is neither a file nor a folder.", "Name a model file.")
        if is_folder:
            os.scandir(path).close()
        else:
            path.open("rb").close()
    except FileNotFoundError as error:
        raise InputError(f"There is no {path}.", "Check the path of the model.") from error
    except PermissionError as error:
        raise InputError(
            f"{path} may not be read by this user.", "Change its permissions or copy it."
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path} cannot be opened: {error}.", "Check the path.") from error
    return status


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """A whole file; raises InputError, or ModelError when it has more than `limit` bytes."""
    size = check(path).st_size
    if size > limit:
        raise ModelError(
            f"{path} is larger than {limit >> 20} MiB.", "Models for edge devices are far smaller."
        )
    try:
        with path.open("rb") as stream:
            data = stream.read(size)  # what is asked for is allocated, be the file far smaller
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.", "Check the disk.") from error
    return data
