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
from typing import TYPE_CHECKING, Any

from edgeopt.facts import Operator

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ROUNDED", "Moments", "patches", "replaced", "rounded_layer"]

ROUNDED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_DAMPING = 0.01  # of the mean second moment, as in the paper
_LIMIT = 127  # symmetric int8
_BLOCK = 128  # columns whose updates are gathered, as in the paper


class Moments:
    """Mean and second moments of what an operation reads: of patches (kernel positions times
    channels), for a depthwise convolution of each channel's own patch."""

    def __init__(self, op: Operator) -> None:
        self.depthwise = op.op == "DEPTHWISE_CONV_2D"
        self.count = 0
        self.first: Any = 0.0
        self.second: Any = 0.0

    def add(self, seen: NDArray[Any]) -> None:
        """`seen`: patches, kernel positions, channels."""
        import numpy as np

        seen = seen.astype(np.float32)
        if self.depthwise:
            each = np.ascontiguousarray(seen.transpose(2, 0, 1))
            self.first = self.first + each.sum(1, dtype=np.float64)
            self.second = self.second + (each.transpose(0, 2, 1) @ each).astype(np.float64)
        else:
            flat = seen.reshape(len(seen), -1)
            self.first = self.first + flat.sum(0, dtype=np.float64)
            self.second = self.second + (flat.T @ flat).astype(np.float64)
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


def rounded_layer(
    op: Operator, moments: Moments, *, one_scale: bool, copied: bool = False
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """The weights of `op` (float32, their shape) on their int8 grid, and what its bias must be
    moved by; None where the operation's shape is not one that is understood.

    `one_scale`: the whole tensor has one scale, instead of each output channel. `copied`: what it
    makes is held several times over, so that equal parts of its outputs count by their mean alone:
    each is rounded to what undoes the error of those before.
    """
    import numpy as np

    held = op.inputs[1]
    if held is None or held.data is None or held.shape is None or not moments.count:
        return None
    weights: Any = np.frombuffer(held.data, "<f4").reshape(held.shape).astype(np.float64)
    second, first = moments.second / moments.count, moments.first / moments.count
    flat = weights.reshape(-1, weights.shape[-1]).T if moments.depthwise else (
        weights.reshape(len(weights), -1))  # fmt: skip
    if second.shape[-1] != flat.shape[1] or (moments.depthwise and len(second) != len(flat)):
        return None  # grouped, or with a channel multiplier
    size = np.abs(flat).max(axis=None if one_scale else 1) / _LIMIT
    scales = np.where(size > 0, size, 1.0) * np.ones(len(flat))
    made = _in_parts(flat, scales, second, moments.depthwise, _parts(flat) if copied else 1)
    change = made - flat
    shift = (change * first).sum(1) if moments.depthwise else change @ first
    shaped = made.T if moments.depthwise else made
    return shaped.reshape(weights.shape).astype(np.float32), -shift.astype(np.float32)


def _parts(flat: NDArray[Any]) -> int:
    """Into how many equal parts the rows divide, by halves."""
    import numpy as np

    parts, rows = 1, len(flat)
    while rows > 1 and rows % 2 == 0 and np.array_equal(flat[: rows // 2], flat[rows // 2 : rows]):
        parts, rows = 2 * parts, rows // 2
    return parts


def _in_parts(
    flat: NDArray[Any], scales: NDArray[Any], second: NDArray[Any], depthwise: bool, parts: int
) -> NDArray[Any]:
    """All rows on their grid; of equal parts, each makes up for the sum of those before."""
    import numpy as np

    if parts == 1:
        return (_each_alone if depthwise else _together)(flat, scales, second, flat)
    rows = len(flat) // parts
    made: list[NDArray[Any]] = []
    for number in range(parts):
        here = slice(number * rows, (number + 1) * rows)
        first = flat[here]
        wanted = first * (number + 1) - sum(made, np.zeros_like(first))
        if depthwise:
            made.append(_each_alone(wanted, scales[here], second[here], first))
        else:
            made.append(_together(wanted, scales[here], second, first))
    return np.concatenate(made)


def _fixed(flat: NDArray[Any], scales: NDArray[Any]) -> NDArray[Any]:
    """The largest weights: they make the scale."""
    import numpy as np

    return np.asarray(np.abs(np.rint(flat / scales[:, None])) >= _LIMIT)


def _on_grid(
    column: NDArray[Any], scales: NDArray[Any], kept: NDArray[Any], first: NDArray[Any]
) -> NDArray[Any]:
    import numpy as np

    steps = np.clip(np.rint(column / scales), -_LIMIT, _LIMIT)
    return np.asarray(np.where(kept, np.sign(first) * _LIMIT, steps) * scales)


def _together(
    flat: NDArray[Any], scales: NDArray[Any], second: NDArray[Any], given: NDArray[Any]
) -> NDArray[Any]:
    """All output channels read the same patches: `second` (inputs, inputs). `given` are the
    model's own weights, whose largest make the scales."""
    import numpy as np

    count = flat.shape[1]
    order = np.argsort(-np.diag(second), kind="stable")
    damped = second[np.ix_(order, order)]
    damped = damped + np.eye(count) * (_DAMPING * np.trace(second) / count + 1e-12)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    work, first = flat[:, order].copy(), given[:, order]
    kept, made = _fixed(first, scales), np.empty_like(first)
    for begin in range(0, count, _BLOCK):
        end = min(count, begin + _BLOCK)
        errors = np.zeros((len(flat), end - begin))
        for i in range(begin, end):
            made[:, i] = _on_grid(work[:, i], scales, kept[:, i], first[:, i])
            error = (work[:, i] - made[:, i]) / upper[i, i]
            errors[:, i - begin] = error
            work[:, i + 1 : end] -= error[:, None] * upper[i, i + 1 : end]
        work[:, end:] -= errors @ upper[begin:end, end:]
    result = np.empty_like(made)
    result[:, order] = made
    return result


def _each_alone(
    flat: NDArray[Any], scales: NDArray[Any], second: NDArray[Any], given: NDArray[Any]
) -> NDArray[Any]:
    """Each channel has its own patch: `second` (channels, positions, positions)."""
    import numpy as np

    count = flat.shape[1]
    damping = _DAMPING * np.trace(second, axis1=1, axis2=2) / count + 1e-12
    damped = second + np.eye(count) * damping[:, None, None]
    upper = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
    work, kept, made = flat.copy(), _fixed(given, scales), np.empty_like(flat)
    for i in range(count):
        made[:, i] = _on_grid(work[:, i], scales, kept[:, i], given[:, i])
        error = (work[:, i] - made[:, i]) / upper[:, i, i]
        work[:, i + 1 :] -= error[:, None] * upper[:, i, i + 1 :]
    return made


def replaced(data: bytes, made: Mapping[int, tuple[NDArray[Any], NDArray[Any]]]) -> bytes:
    """`data` with these operations' weights, and their biases moved (where they have one)."""
    import numpy as np

    from edgeopt.model.packing import pack, unpack
    from edgeopt.model.tflite import parse
    from edgeopt.optimize.constants import replace_constant

    graph, model = parse(data).subgraphs[0], unpack(data)
    for op in graph.operators:
        if op.index not in made or op.inputs[1] is None:
            continue
        weights, shift = made[op.index]
        replace_constant(model, op.index, op.inputs[1].index, weights)
        bias = op.inputs[2] if len(op.inputs) > 2 else None
        if bias is not None and bias.data is not None and bias.dtype == "float32":
            values = np.frombuffer(bias.data, "<f4").astype(np.float64) + shift
            replace_constant(model, op.index, bias.index, values)
    return pack(model)
