"""Rounding of weights that makes their errors cancel: up or down is decided one input after the
other, each time moving the weights still to come by what undoes the error just made.

The method is GPTQ (Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers", ICLR 2023; the update is that of Optimal Brain Surgeon), here for 8-bit
convolutions with the second moments of the patches that they read. What is left of the mean error
goes into the bias. Scales stay: a channel's largest weight is never moved, so the quantizer finds
the same grid and rounds each weight to where it is put.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeopt.facts import Operator
from edgeopt.optimize.copies import Copies, places_among_equals

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ROUNDED", "Layer", "Moments", "Rounded", "patches", "replaced"]

ROUNDED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_DAMPING = 0.01  # of the mean second moment, as in the paper
_LIMIT = 127  # symmetric int8
_BLOCK = 128  # columns whose updates are gathered, as in the paper


class Moments:
    """Mean and second moments of what an operation reads: of patches (kernel positions times
    channels), for a depthwise convolution of each channel's own patch. `live` is how often a value
    is none of those that a RELU or padding leaves, whose copies do not lie apart."""

    def __init__(self, op: Operator) -> None:
        self.depthwise = op.op == "DEPTHWISE_CONV_2D"
        self.count = 0
        self.first: Any = 0.0
        self.second: Any = 0.0
        self.live: Any = 0.0

    def add(self, seen: NDArray[Any]) -> None:
        """`seen`: patches, kernel positions, channels."""
        import numpy as np

        seen = seen.astype(np.float32)
        live = ((seen != 0) & (seen != 6)).sum(0)
        if self.depthwise:
            each = np.ascontiguousarray(seen.transpose(2, 0, 1))
            self.first = self.first + each.sum(1, dtype=np.float64)
            self.second = self.second + (each.transpose(0, 2, 1) @ each).astype(np.float64)
            self.live = self.live + live.T
        else:
            flat = seen.reshape(len(seen), -1)
            self.first = self.first + flat.sum(0, dtype=np.float64)
            self.second = self.second + (flat.T @ flat).astype(np.float64)
            self.live = self.live + live.reshape(-1)
        self.count += len(seen)


def patches(values: NDArray[Any], op: Operator, most: int, seed: int) -> NDArray[Any]:
    """Up to `most` patches (patches, kernel positions, channels) that `op` reads in one sample,
    `values` its input without the batch; seeded places. Zeros where the kernel reaches outside."""
    import numpy as np

    assert op.inputs[1] is not None
    if op.op == "FULLY_CONNECTED":
        return values.reshape(-1, 1, (op.inputs[1].shape or (1,))[-1])
    kernel = (op.inputs[1].shape or ())[1:3]
    rows, columns = (op.outputs[0].shape or (1, 1, 1, 1))[1:3]
    steps = [op.options["stride_h"], op.options["stride_w"]]
    apart = [op.options.get("dilation_h_factor") or 1, op.options.get("dilation_w_factor") or 1]
    padding = [(0, 0), (0, 0), (0, 0)]
    if op.options["padding"] == "SAME":
        for axis, made in enumerate((rows, columns)):
            reach = (made - 1) * steps[axis] + (kernel[axis] - 1) * apart[axis] + 1
            lacking = max(0, reach - values.shape[axis])
            padding[axis] = (lacking // 2, lacking - lacking // 2)
    padded = np.pad(values, padding)
    places = np.arange(rows * columns)
    if len(places) > most:
        places = np.random.default_rng(seed).choice(len(places), most, replace=False)
    top, left = places // columns * steps[0], places % columns * steps[1]
    taps = [(i * apart[0], j * apart[1]) for i in range(kernel[0]) for j in range(kernel[1])]
    return np.stack([padded[top + i, left + j] for i, j in taps], axis=1)


@dataclass(frozen=True)
class Rounded:
    """A layer's weights on their int8 grid (float32, the shape of what holds them), and what its
    bias must be moved by."""

    weights: NDArray[Any]
    shift: NDArray[Any]


class Layer:
    """A layer of a float model, to be rounded in one or several ways. `one_scale`: the whole tensor
    has one scale, instead of each output channel."""

    def __init__(self, op: Operator, moments: Moments, *, one_scale: bool) -> None:
        """Raises ValueError where the operation's shape is not one that is understood."""
        import numpy as np

        held = op.inputs[1]
        if held is None or held.data is None or held.shape is None or not moments.count:
            raise ValueError("no weights, or nothing seen")
        self.shape, self.depthwise = held.shape, moments.depthwise
        weights: Any = np.frombuffer(held.data, "<f4").reshape(self.shape).astype(np.float64)
        self.flat = weights.reshape(-1, self.shape[-1]).T if self.depthwise else (
            weights.reshape(len(weights), -1))  # fmt: skip
        self.mean = moments.first / moments.count
        self.live = moments.live / moments.count
        second = moments.second / moments.count
        if second.shape[-1] != self.flat.shape[1] or len(second) != (
            len(self.flat) if self.depthwise else second.shape[-1]
        ):
            raise ValueError("grouped, or with a channel multiplier")
        size = np.abs(self.flat).max(axis=None if one_scale else 1) / _LIMIT
        self.scales = np.where(size > 0, size, 1.0) * np.ones(len(self.flat))
        self.order, self.upper = _factor(second, self.depthwise)

    def rounded(self, read: Copies | None = None, made: Copies | None = None) -> Rounded:
        """Where `read` (what the layer reads) is held k times over, its copies get a k-th of the
        weights each, which together are rounded to a k-th of a step. Of what is `made` several
        times only the mean counts: each copy is rounded to what undoes the error of those before.
        """
        import numpy as np

        count = read.count if read is not None and not self.depthwise else 1
        parts = made.count if made is not None else 1
        levels: list[NDArray[Any]] = []
        for number in range(parts):
            wanted = self.flat * (number + 1) - sum(levels, np.zeros_like(self.flat)) * (
                self.scales[:, None] / count)  # fmt: skip
            levels.append(self._levels(wanted, count))
        if made is None:
            rows, part = np.arange(len(self.flat)), np.zeros(len(self.flat), np.int64)
        else:
            rows, part = made.channel, places_among_equals(made.channel)
        steps = np.stack(levels)[part, rows]
        if self.depthwise:
            return self._depthwise(steps, rows, read)
        return self._mixing(steps, rows, read if count > 1 else None)

    def _levels(self, wanted: NDArray[Any], count: int) -> NDArray[Any]:
        """`wanted` in steps of a `count`-th of the scales. The layer's largest weights stay, as
        they make the scales."""
        import numpy as np

        scales, limit = self.scales[:, None] / count, _LIMIT * count
        ends = np.sign(self.flat) * limit
        kept = np.abs(np.rint(self.flat / scales)) >= limit
        return _solved(wanted, scales, ends, kept, self.order, self.upper)

    def _mixing(self, steps: NDArray[Any], rows: NDArray[Any], read: Copies | None) -> Rounded:
        import numpy as np

        scales = self.scales[rows, None]
        if read is None:
            change = steps * scales - self.flat[rows]
            return self._done(steps * scales, -change @ self.mean, self.shape[1:-1])
        positions = self.flat.shape[1] // read.originals
        within = read.originals * np.arange(positions)[:, None]
        columns = (within + read.channel).reshape(-1)
        number = np.tile(places_among_equals(read.channel), positions)
        each = (steps[:, columns] + number) // read.count  # Hermite's identity: their sum is it
        weights = each * scales / read.count
        change = weights - self.flat[rows][:, columns] / read.count
        offset = np.tile(read.offset, positions) * self.live[columns]
        return self._done(weights, -change @ (self.mean[columns] + offset), self.shape[1:-1])

    def _depthwise(self, steps: NDArray[Any], rows: NDArray[Any], read: Copies | None) -> Rounded:
        import numpy as np

        weights = steps * self.scales[rows, None]
        seen = self.mean[rows]
        if read is not None:
            seen = seen + read.offset[:, None] * self.live[rows]
        shift = -((weights - self.flat[rows]) * seen).sum(1)
        shaped = weights.T.reshape(*self.shape[:-1], len(rows))
        return Rounded(shaped.astype(np.float32), shift.astype(np.float32))

    def _done(self, weights: NDArray[Any], shift: NDArray[Any], kernel: tuple[int, ...]) -> Rounded:
        import numpy as np

        shaped = weights.reshape(len(weights), *kernel, -1)
        return Rounded(shaped.astype(np.float32), shift.astype(np.float32))


def _factor(second: NDArray[Any], depthwise: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """In which order the inputs are rounded, and the upper Cholesky factor of the inverse of their
    damped second moments: one for all output channels (inputs, inputs), or each channel's own of
    a depthwise layer (channels, positions, positions)."""
    import numpy as np

    count = second.shape[-1]
    if depthwise:
        damping = _DAMPING * np.trace(second, axis1=1, axis2=2) / count + 1e-12
        damped = second + np.eye(count) * damping[:, None, None]
        return np.arange(count), np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
    order = np.argsort(-np.diag(second), kind="stable")
    damped = second[np.ix_(order, order)]
    damped = damped + np.eye(count) * (_DAMPING * np.trace(second) / count + 1e-12)
    return order, np.linalg.cholesky(np.linalg.inv(damped)).T


def _solved(
    wanted: NDArray[Any],
    scales: NDArray[Any],
    ends: NDArray[Any],
    kept: NDArray[Any],
    order: NDArray[Any],
    upper: NDArray[Any],
) -> NDArray[Any]:
    """Each weight in whole steps (rows, inputs): one input after the other, the error of each moved
    to those to come; those that are `kept` at the `ends`."""
    import numpy as np

    work, ends, kept = wanted[:, order], ends[:, order], kept[:, order]
    count, limit, own = work.shape[1], np.abs(ends).max(), upper.ndim == 3
    steps = np.empty_like(work)
    for begin in range(0, count, _BLOCK):
        end = min(count, begin + _BLOCK)
        errors = np.zeros((len(work), end - begin))
        for i in range(begin, end):
            near = np.clip(np.rint(work[:, i] / scales[:, 0]), -limit, limit)
            steps[:, i] = np.where(kept[:, i], ends[:, i], near)
            error = (work[:, i] - steps[:, i] * scales[:, 0]) / upper[..., i, i]
            errors[:, i - begin] = error
            work[:, i + 1 : end] -= error[:, None] * upper[..., i, i + 1 : end]
        if end < count:
            rest = upper[..., begin:end, end:]
            work[:, end:] -= np.einsum("rb,rbe->re", errors, rest) if own else errors @ rest
    found = np.empty_like(steps)
    found[:, order] = steps
    return found


def replaced(data: bytes, made: Mapping[int, Rounded]) -> bytes:
    """`data` with these operations' weights, and their biases moved (where they have one)."""
    import numpy as np

    from edgeopt.model.packing import pack, unpack
    from edgeopt.model.tflite import parse
    from edgeopt.optimize.constants import replace_constant

    graph, model = parse(data).subgraphs[0], unpack(data)
    for op in graph.operators:
        if op.index not in made or op.inputs[1] is None:
            continue
        found = made[op.index]
        replace_constant(model, op.index, op.inputs[1].index, found.weights)
        bias = op.inputs[2] if len(op.inputs) > 2 else None
        if bias is not None and bias.data is not None and bias.dtype == "float32":
            values = np.frombuffer(bias.data, "<f4").astype(np.float64) + found.shift
            replace_constant(model, op.index, bias.index, values)
    return pack(model)
