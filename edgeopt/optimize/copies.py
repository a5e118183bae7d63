"""Where the copies of tensors that are held several times over stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Copies", "load", "places_among_equals", "write"]


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Of each channel of a tensor held several times over (its last axis): which `channel` of the
    original it holds, and the `offset` from it, in real units; those of one channel sum to zero."""

    channel: NDArray[Any]
    offset: NDArray[Any]

    @property
    def count(self) -> int:
        """How many times over every channel is held."""
        return len(self.channel) // self.originals

    @property
    def originals(self) -> int:
        return int(self.channel.max()) + 1

    def again(self, channel: NDArray[Any], offset: NDArray[Any]) -> Copies:
        """These copies held several times once more: `channel` counts theirs."""
        return Copies(channel=self.channel[channel], offset=self.offset[channel] + offset)


def places_among_equals(values: NDArray[Any]) -> NDArray[Any]:
    """How often each value came before, along the array."""
    import numpy as np

    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.searchsorted(ordered, ordered)
    found = np.empty(len(values), np.int64)
    found[order] = np.arange(len(values)) - first
    return found


def write(path: Path, copies: Mapping[str, Copies]) -> None:
    """By tensor name, as an .npz."""
    import numpy as np

    stored: dict[str, Any] = {"names": np.array(list(copies))}
    for number, each in enumerate(copies.values()):
        stored |= {f"channel_{number}": each.channel, f"offset_{number}": each.offset}
    np.savez(path, **stored)


def load(path: Path) -> dict[str, Copies]:
    """What `write` wrote."""
    import numpy as np

    with np.load(path) as stored:
        return {
            str(name): Copies(channel=stored[f"channel_{i}"], offset=stored[f"offset_{i}"])
            for i, name in enumerate(stored["names"])
        }
