"""Seeded random input for an architecture: enough to convert and to run it, not to judge it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.zoo.builders import Input

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["write_samples"]


def write_samples(inputs: tuple[Input, ...], path: Path, *, count: int, seed: int) -> None:
    """Write `count` samples to the .npz at `path`, one array an input (`x` for a single one)."""
    import numpy as np

    generator = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for one in inputs:
        shape = (count, *one.shape)
        if one.whole:
            values: NDArray[Any] = generator.integers(
                int(one.low), int(one.high), shape, dtype=np.int32
            )
        else:
            values = generator.uniform(one.low, one.high, shape).astype(np.float32)
        arrays[one.name if len(inputs) > 1 else "x"] = values
    with path.open("wb") as stream:  # a name would get .npz at its end
        np.savez(stream, **arrays)
