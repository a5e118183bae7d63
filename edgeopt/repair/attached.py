"""Files packed behind a .tflite: TensorFlow Lite metadata keeps labels there, as a zip."""

from __future__ import annotations

import io
import zipfile

from edgeopt.errors import ModelError

__all__ = ["keep_attached"]

_LARGEST = 256 << 20


def keep_attached(original: bytes, made: bytes) -> bytes:
    """`made` with the files that stand behind `original`; `made` itself where there are none.

    Raises ModelError where they are damaged: they would be lost.
    """
    stream = io.BytesIO(original)
    if not zipfile.is_zipfile(stream):
        return made
    try:
        with zipfile.ZipFile(stream) as old:
            if sum(entry.file_size for entry in old.infolist()) > _LARGEST:
                raise ModelError("The files packed behind the model are larger than 256 MiB.")
            packed = io.BytesIO(made)
            with zipfile.ZipFile(packed, "a") as new:
                for entry in old.infolist():
                    new.writestr(entry, old.read(entry.filename))
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, NotImplementedError) as error:
        raise ModelError(
            f"The files packed behind the model cannot be read: {error}.",
            "Remove them, or copy the model again.",
        ) from error
    return packed.getvalue()
