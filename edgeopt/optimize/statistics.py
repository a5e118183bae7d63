"""What calibration saw of every float activation: range and mean of each channel, and a sample of
its values, from which ranges are estimated.

A channel is a place on a tensor's last axis. Values are picked at fixed places that move with the
sample's number, so the result is the same for any number of processes. Numbers of samples decide
which are held out: ranges are fitted on the others while candidates are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeopt.dataset import Dataset

__all__ = [
    "FEWEST",
    "Activation",
    "Statistics",
    "fitted_samples",
    "held_out",
    "load",
    "mean_every",
    "places",
]

FEWEST = 20  # with fewer samples nothing can be held out and still be measured with
_HOLD = 3  # every third
_PICKED = 1 << 16  # values of a tensor over all samples
_PICKED_LEAST = 64
_MEANS_BYTES = 128 << 20
_STEP = 104729  # a prime: shifts share no divisor with the sides of tensors


def held_out(number: int, total: int) -> bool:
    """Whether the sample of this number is kept from fitting while candidates are compared."""
    return total >= FEWEST and number % _HOLD == _HOLD - 1


def fitted_samples(dataset: Dataset, limit: int, total: int, most: int) -> list[NDArray[Any]]:
    """Up to `most` samples that are not held out, evenly spread, as an array an input. `total` is
    how many of the set's first `limit` (as `Dataset.spread` draws them) there are."""
    import numpy as np

    free = [number for number in range(total) if not held_out(number, total)]
    count = min(most, len(free))
    chosen = {free[i * len(free) // count] for i in range(count)}
    drawn = [s for number, s in enumerate(dataset.spread(limit)) if number in chosen]
    return [np.stack(each) for each in zip(*drawn, strict=True)]


def places(size: int, number: int, total: int, seed: int) -> NDArray[Any]:
    """Where to pick a tensor of `size` elements in sample `number` of `total`: flat positions."""
    import numpy as np

    count = max(_PICKED // max(total, 1), _PICKED_LEAST)
    if size <= count:
        return np.arange(size)
    base = np.random.default_rng(seed).integers(0, size, count)
    return (base + number * _STEP) % size


def mean_every(channels: int, total: int) -> int:
    """Of how many samples one gives its means, so that they stay within 128 MB."""
    return max(1, -(-channels * total * 4 // _MEANS_BYTES))


@dataclass(frozen=True, kw_only=True)
class Activation:
    """One tensor's statistics in real units. `low`, `high` and `mean` have an entry a channel;
    `picked` are values from everywhere in the tensor and `channels` the channel of each."""

    low: NDArray[Any]
    high: NDArray[Any]
    mean: NDArray[Any]
    picked: NDArray[Any]
    channels: NDArray[Any]

    def scaled(self, factor: NDArray[Any]) -> Activation:
        """The statistics of the tensor with each channel divided by its positive factor."""
        return Activation(
            low=self.low / factor,
            high=self.high / factor,
            mean=self.mean / factor,
            picked=self.picked / factor[self.channels],
            channels=self.channels,
        )


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """By tensor name. `tensors` are of the samples to fit on, or of all."""

    tensors: Mapping[str, Activation]
    samples: int

    def ranges(self) -> dict[str, tuple[list[float], list[float]]]:
        return {n: ([float(a.low.min())], [float(a.high.max())]) for n, a in self.tensors.items()}


def load(files: Sequence[Path], total: int, *, fitted: bool) -> Statistics:
    """What the processes wrote, of all samples or (`fitted`) of those that are not held out.

    Each file holds `names`, `sizes` and `numbers`, and per tensor its row of `low_I`, `high_I`
    (2, channels: fitted and held out), `mean_I` (samples, channels), `pick_I` (samples, places).
    """
    import numpy as np

    parts = [np.load(file) for file in files]
    try:
        parts = [part for part in parts if len(part["numbers"])]
        names = [str(name) for name in parts[0]["names"]]
        numbers = np.concatenate([part["numbers"] for part in parts])
        order = np.argsort(numbers, kind="stable")
        order = order[[not (fitted and held_out(int(n), total)) for n in numbers[order]]]
        numbers = numbers[order]
        sizes = parts[0]["sizes"]
        tensors = {
            name: _activation(parts, index, int(sizes[index]), numbers, order, total, fitted)
            for index, name in enumerate(names)
        }
    finally:
        for part in parts:
            part.close()
    return Statistics(tensors=tensors, samples=len(order))


def _activation(
    parts: Sequence[Mapping[str, NDArray[Any]]],
    index: int,
    size: int,
    numbers: NDArray[Any],
    order: NDArray[Any],
    total: int,
    fitted: bool,
) -> Activation:
    import numpy as np

    low = np.min([part[f"low_{index}"] for part in parts], axis=0)
    high = np.max([part[f"high_{index}"] for part in parts], axis=0)
    means = np.concatenate([part[f"mean_{index}"] for part in parts])[order].astype(np.float64)
    picked = np.concatenate([part[f"pick_{index}"] for part in parts])[order]
    known = ~np.isnan(means).all(axis=1)
    channels = low.shape[1]
    spots = np.stack([places(size, int(n), total, index) for n in numbers]) % channels
    return Activation(
        low=low[0] if fitted else low.min(axis=0),
        high=high[0] if fitted else high.max(axis=0),
        mean=means[known].mean(axis=0) if known.any() else np.zeros(channels),
        picked=picked.ravel(),
        channels=spots.ravel(),
    )
