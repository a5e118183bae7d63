"""Range estimators for activations: from values seen to the two ends that quantization keeps.

Every estimate lies within the true minimum and maximum and takes zero in. Clipping a few large
values makes the steps of all others finer; which loses least depends on the model, so `selection`
measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeopt.optimize.statistics import Activation

__all__ = ["ESTIMATORS", "estimate", "estimated", "kept_exact"]

_SHARE = 0.9999  # of the values, from either end
_GRID = 80  # trial ends each side
_LEAST = 0.15  # of the true end: clipping below lost in every trial
_ROUNDS = 30
Range = tuple[float, float]


def estimated(
    activations: Mapping[str, Activation], method: str, *, exact: Collection[str], bits: int = 8
) -> dict[str, tuple[list[float], list[float]]]:
    """Ranges by tensor name. Tensors in `exact` keep minimum and maximum: model inputs are exact
    pixels, and the largest logits are the answer itself."""
    found = {}
    for name, seen in activations.items():
        chosen = "minmax" if name in exact else method
        low, high = estimate(
            chosen, seen.picked, float(seen.low.min()), float(seen.high.max()), bits=bits
        )
        found[name] = ([low], [high])
    return found


def kept_exact(float_path: Path) -> frozenset[str]:
    """The names of the model's inputs, its outputs, and what a softmax reads."""
    from edgeopt.model.tflite import parse

    graph = parse(float_path.read_bytes()).subgraphs[0]
    read = [op.inputs[0] for op in graph.operators if op.op in ("SOFTMAX", "LOG_SOFTMAX")]
    return frozenset(t.name for t in (*graph.inputs, *graph.outputs, *read) if t is not None)


def estimate(method: str, values: NDArray[Any], low: float, high: float, *, bits: int = 8) -> Range:
    """The ends to quantize between, for `values` drawn from a tensor whose true ends are `low` and
    `high`. `method` is one of ESTIMATORS."""
    import numpy as np

    ends = min(low, 0.0), max(high, 0.0)
    finite = np.sort(values[np.isfinite(values)].astype(np.float64))
    if method == "minmax" or not finite.size or ends[0] == ends[1]:
        return low, high
    below, above = ESTIMATORS[method](finite, ends, bits)
    below, above = max(below, ends[0]), min(above, ends[1])
    return (below, above) if below < above else (low, high)


def _minmax(values: NDArray[Any], ends: Range, bits: int) -> Range:
    return ends


def _percentile(values: NDArray[Any], ends: Range, bits: int) -> Range:
    """The 99.99th percentile from either end."""
    import numpy as np

    below, above = np.quantile(values, [1 - _SHARE, _SHARE])
    return min(float(below), 0.0), max(float(above), 0.0)


def _mse(values: NDArray[Any], ends: Range, bits: int) -> Range:
    """The least expected squared error: rounding within, step squared over 12 for each value that
    is not exactly zero (zero always is a step), and clipping outside, summed exactly."""
    import numpy as np

    shrink = np.linspace(_LEAST, 1.0, _GRID)
    highs = ends[1] * shrink if ends[1] > 0 else np.zeros(1)
    lows = ends[0] * shrink if ends[0] < 0 else np.zeros(1)
    outside_high = _clipped(values, highs)
    outside_low = _clipped(-values[::-1], -lows)
    inexact = np.count_nonzero(values)
    step = (highs[None, :] - lows[:, None]) / (2**bits - 1)
    error = inexact * step**2 / 12 + outside_high[None, :] + outside_low[:, None]
    row, column = np.unravel_index(int(error.argmin()), error.shape)
    return float(lows[row]), float(highs[column])


def _clipped(values: NDArray[Any], ends: NDArray[Any]) -> NDArray[Any]:
    """For each end, the sum of (v - end)^2 over the sorted values above it."""
    import numpy as np

    above = np.searchsorted(values, ends, side="right")
    # Sums from the top, so that value k and all larger ones are at place k.
    once = np.append(np.cumsum(values[::-1])[::-1], 0.0)[above]
    squares = np.append(np.cumsum(values[::-1] ** 2)[::-1], 0.0)[above]
    count = len(values) - above
    lost: NDArray[Any] = np.maximum(squares - 2 * ends * once + count * ends**2, 0.0)
    return lost


def _octav(values: NDArray[Any], ends: Range, bits: int) -> Range:
    """Optimally clipped scalars by Newton's iteration: Sakr et al., "Optimal Clipping and
    Magnitude-aware Differentiation for Improved Quantization-aware Training", ICML 2022, eq. 7."""
    import numpy as np

    size = np.abs(values[values != 0])
    if not size.size:
        return ends
    # One-sided values have all steps on one side: half the step, a quarter of the error.
    share = 4.0**-bits / (3.0 if ends[0] < 0 < ends[1] else 12.0)
    clip = float(size.mean())
    for _ in range(_ROUNDS):
        over = size > clip
        above = int(np.count_nonzero(over))
        if not above:
            break
        new = float(size[over].sum() / (share * (size.size - above) + above))
        if abs(new - clip) <= 1e-6 * clip:
            break
        clip = new
    return -clip if ends[0] < 0 else 0.0, clip if ends[1] > 0 else 0.0


ESTIMATORS: dict[str, Callable[[NDArray[Any], Range, int], Range]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "mse": _mse,
    "octav": _octav,
}
