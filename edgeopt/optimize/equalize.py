"""Equalization: scale channels against each other until one scale a tensor suits them all.

Cross-layer equalization (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019) with measured activation ranges in place of the producer's weights (as in
Xiao et al., "SmoothQuant", ICML 2023), over whole groups of tensors that share their factors:
residual streams, pooling, concatenation. Only where the function is preserved for all data; a
clamped activation (RELU6) keeps its channels.

In logarithms, the factor s of a channel pulls its activations down and the weights that read it
up. The fixed point sought is the one at which both are equally far from their tensor's mean: it
does not depend on how the model was scaled before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeopt.optimize.equalize_graph import Scales, channel_graph, floats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeopt.optimize.statistics import Activation

__all__ = ["Equalized", "equalize"]

_ROUNDS = 30
_SETTLED = 0.01  # of a natural logarithm: no channel moves by more than 1%
_LIMIT = 16.0  # e^16 = 9e6 either way
_WORTH = 0.1  # a spread of factors below e^0.1 gains nothing
_FLOOR = 1e-9


@dataclass(frozen=True, kw_only=True)
class Equalized:
    """`model` is the scaled .tflite; `factors` by tensor name, what its channels were divided by;
    `spread` the largest ratio between two channels' factors of one tensor."""

    model: bytes
    factors: Mapping[str, NDArray[Any]]
    spread: float
    tensors: int


def equalize(
    data: bytes,
    activations: Mapping[str, Activation],
    *,
    per_channel: bool = True,
    dense_per_tensor: bool = False,
) -> Equalized | None:
    """The same function with its channels evened out; None where nothing may or need be scaled.

    `activations` are the measured statistics by tensor name. `per_channel`: weights will have a
    scale an output channel, dense layers only one if `dense_per_tensor`.
    """
    import numpy as np

    from edgeopt.model.tflite import parse

    contents = parse(data)
    if len(contents.subgraphs) != 1:
        return None  # control flow carries tensors past what one graph shows
    scales = channel_graph(contents.subgraphs[0])
    if not scales.groups:
        return None
    solver = _Solver(scales, activations, per_channel, dense_per_tensor)
    logs = solver.solve()
    places = np.append(logs, 0.0)[scales.group]  # a pinned node's -1 reads the appended zero
    factors = {}
    spread = 0.0
    for index, tensor in scales.tensors.items():
        own = places[scales.nodes(index)]
        if own.any():
            factors[tensor.name] = np.exp(own)
            spread = max(spread, float(own.max() - own.min()))
    if spread < _WORTH:
        return None
    return Equalized(
        model=_apply(data, scales, np.exp(places)),
        factors=factors,
        spread=float(np.exp(spread)),
        tensors=len(factors),
    )


@dataclass
class _Pull:
    """Sums over what pulls a group one way: mean logarithms of its members."""

    sums: NDArray[Any]
    counts: NDArray[Any]

    def add(self, group: NDArray[Any], values: NDArray[Any]) -> None:
        """`values` are logarithms, minus infinity for none; only free nodes count."""
        import numpy as np

        live = np.isfinite(values)
        if not live.any():
            return
        level = values - values[live].mean()
        kept = live & (group >= 0)
        np.add.at(self.sums, group[kept], level[kept])
        np.add.at(self.counts, group[kept], 1)

    def mean(self) -> NDArray[Any]:
        import numpy as np

        means: NDArray[Any] = self.sums / np.maximum(self.counts, 1)
        return means


@dataclass
class _Solver:
    scales: Scales
    activations: Mapping[str, Activation]
    per_channel: bool
    dense_per_tensor: bool
    sizes: list[tuple[NDArray[Any], NDArray[Any]]] = field(default_factory=list)
    weights: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any], bool]] = field(
        default_factory=list
    )
    constants: list[tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any]]] = field(
        default_factory=list
    )

    def __post_init__(self) -> None:
        import numpy as np

        for index, tensor in self.scales.tensors.items():
            seen = self.activations.get(tensor.name)
            nodes = self.scales.nodes(index)
            if seen is not None and len(seen.low) == len(nodes):
                size = np.maximum(np.abs(seen.low), np.abs(seen.high))
                self.sizes.append((nodes, _log(size)))
        for layer in self.scales.layers:
            grained = self.per_channel and not (
                self.dense_per_tensor and layer.op == "FULLY_CONNECTED"
            )
            size = np.abs(floats(layer.weights))
            if not layer.depthwise:
                matrix = size.max(axis=tuple(range(1, size.ndim - 1))) if size.ndim > 2 else size
                self.weights.append((layer.rows, layer.columns, _log(matrix), grained))
            elif not grained:
                own = size.max(axis=tuple(range(size.ndim - 1)))
                self.constants.append((layer.rows, layer.columns, _log(own)))
        for vector in self.scales.vectors:
            size = np.abs(floats(vector.constant))
            own = size.reshape(-1, size.shape[-1] if size.ndim else 1).max(axis=0)
            self.constants.append((vector.rows, vector.columns, _log(own)))

    def solve(self) -> NDArray[Any]:
        """The logarithm of each group's factor."""
        import numpy as np

        count = self.scales.groups
        logs = np.zeros(count)
        for _ in range(_ROUNDS):
            step = self._step(np.append(logs, 0.0)[self.scales.group], count)
            moved = np.clip(logs + step, -_LIMIT, _LIMIT)
            change, logs = np.abs(moved - logs).max(), moved
            if change < _SETTLED:
                break
        return logs

    def _step(self, places: NDArray[Any], count: int) -> NDArray[Any]:
        import numpy as np

        group = self.scales.group
        down = _Pull(np.zeros(count), np.zeros(count))
        up = _Pull(np.zeros(count), np.zeros(count))
        for nodes, size in self.sizes:
            down.add(group[nodes], size - places[nodes])
        for rows, columns, matrix, grained in self.weights:
            scaled = matrix + places[columns] - places[rows][:, None]
            largest = scaled.max(axis=1)
            if grained:
                scaled = scaled - np.where(np.isfinite(largest), largest, 0)[:, None]
            else:
                down.add(group[rows], largest)
            up.add(group[columns], scaled.max(axis=0))
        for rows, multiplied, size in self.constants:
            if multiplied is None:
                down.add(group[rows], size - places[rows])
            else:
                scaled = size + places[multiplied] - places[rows]
                down.add(group[rows], scaled)
                up.add(group[multiplied], scaled)
        both = np.where((down.counts > 0) & (up.counts > 0), 0.5, 1.0)
        step: NDArray[Any] = both * (down.mean() - up.mean())
        return step


def _log(size: NDArray[Any]) -> NDArray[Any]:
    """Natural logarithms; minus infinity for what is nothing beside the largest."""
    import numpy as np

    least = _FLOOR * float(size.max(initial=0.0))
    with np.errstate(divide="ignore"):
        return np.where(size > least, np.log(size), -np.inf)


def _apply(data: bytes, scales: Scales, factors: NDArray[Any]) -> bytes:
    """The model with each node divided by its factor, weights and constants taking it up."""
    import numpy as np

    from edgeopt.model.packing import pack, unpack
    from edgeopt.optimize.constants import replace_constant

    model = unpack(data)
    for layer in scales.layers:
        rows, columns = factors[layer.rows], factors[layer.columns]
        if (rows == 1).all() and (columns == 1).all():
            continue
        values = floats(layer.weights).astype(np.float64)
        if layer.depthwise:
            values = values * (columns / rows)
        else:
            across = (-1, *[1] * (values.ndim - 1))
            values = values * columns / rows.reshape(across)
        replace_constant(model, layer.operator, layer.weights.index, values)
        if layer.bias is not None:
            bias = floats(layer.bias).astype(np.float64) / rows
            replace_constant(model, layer.operator, layer.bias.index, bias)
    for vector in scales.vectors:
        rows = factors[vector.rows]
        over = 1 / rows if vector.columns is None else factors[vector.columns] / rows
        if not (over == 1).all():
            values = floats(vector.constant).astype(np.float64) * over
            replace_constant(model, None, vector.constant.index, values)
    return pack(model)
