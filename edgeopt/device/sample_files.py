"""Samples and outputs as raw little-endian files: no pickle, no numpy format, checked by hash."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.device.python_runner.answer import OutputFile
from edgeopt.errors import DeviceError, InputError

if TYPE_CHECKING:
    from edgeopt.device.run import Array

__all__ = ["read_outputs", "write_inputs"]


def write_inputs(samples: Sequence[Sequence[Array]], target: Path) -> tuple[str, list[Any]]:
    """Write the arrays one after the other. Returns the sha256 and, per sample, their layout."""
    import numpy as np

    digest, layout = hashlib.sha256(), []
    with target.open("wb") as stream:
        for sample in samples:
            row = []
            for array in sample:
                if array.dtype.kind not in "biufc":
                    raise InputError(
                        f"Samples of type {array.dtype} cannot be sent to a device.",
                        "Give numbers of the model's input type.",
                    )
                little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
                content = little.tobytes()
                digest.update(content)
                stream.write(content)
                row.append({"dtype": array.dtype.name, "shape": list(array.shape)})
            layout.append(row)
    return digest.hexdigest(), layout


def read_outputs(file: Path, layout: OutputFile, name: str) -> tuple[tuple[Array, ...], ...]:
    """The arrays that device `name` wrote. Raises DeviceError when a byte is not as it said."""
    import numpy as np

    content = file.read_bytes()
    if len(content) != layout.size_bytes or hashlib.sha256(content).hexdigest() != layout.sha256:
        raise DeviceError(
            f"The outputs fetched from {name} are not those that it wrote.", "Try again."
        )
    samples, offset = [], 0
    for row in layout.layout:
        arrays = []
        for kind, shape in row:
            dtype = np.dtype(kind).newbyteorder("<")
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(content, dtype, count, offset).reshape(shape)
            arrays.append(array.astype(np.dtype(kind)))
            offset += count * dtype.itemsize
        samples.append(tuple(arrays))
    return tuple(samples)
