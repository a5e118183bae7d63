"""Analytic bias correction: take off each bias what rounding the weights adds on average.

Rounding a weight by e shifts its output by e times the mean of what it multiplies; the mean of
every input channel was measured, so b -= sum(Wq - W) E[x] (Nagel et al., ICCV 2019, section 4.2,
with measured means). All layers are corrected at once on the float model: measuring again after
each layer was seen to be worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeopt.facts import Operator, Tensor
from edgeopt.optimize.equalize_graph import floats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeopt.optimize.statistics import Activation

__all__ = ["correct_biases", "rounded", "taps"]

_STEPS = 127  # symmetric int8 without -128, as the LiteRT quantizer has weights
_LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def correct_biases(
    data: bytes,
    activations: Mapping[str, Activation],
    *,
    per_channel: bool = True,
    dense_per_tensor: bool = False,
    keep: Sequence[str] = (),
) -> tuple[bytes, int]:
    """The float model whose biases make up for int8 weights, and how many layers changed.

    Dense layers and convolutions without a bias get one: all runtimes take it. Layers whose input
    was not measured, or whose weights are shared, stay. `keep` is the request's: it makes scales
    coarser.
    """
    import numpy as np

    from edgeopt.model.packing import pack, unpack
    from edgeopt.model.tflite import parse

    contents = parse(data)
    if len(contents.subgraphs) != 1:
        return data, 0
    model, changed = unpack(data), 0
    for op in contents.subgraphs[0].operators:
        grained = per_channel and not (dense_per_tensor and op.op == "FULLY_CONNECTED")
        shift = _shift(op, activations, grained, keep)
        if shift is not None and np.isfinite(shift).all() and shift.any():
            changed += _move_bias(model, op, -shift)
    return (pack(model), changed) if changed else (data, 0)


def rounded(weights: NDArray[Any], axis: int | None, *, keep: Sequence[str] = ()) -> NDArray[Any]:
    """The weights after symmetric int8 quantization, with a scale for each place on `axis`."""
    import numpy as np

    from edgeopt.optimize.coarse_scales import coarser

    size = np.abs(weights)
    if axis is None:
        scale = size.max(keepdims=True)
    else:
        others = tuple(i for i in range(weights.ndim) if i != axis % weights.ndim)
        scale = size.max(axis=others, keepdims=True)
    scale = np.where(scale > 0, scale, 1.0) / _STEPS
    if keep and axis is not None and scale.size > 1:
        scale = coarser(weights, scale, clustered="clusters" in keep)
    made: NDArray[Any] = np.clip(np.rint(weights / scale), -_STEPS, _STEPS) * scale
    return made


def _shift(
    op: Operator, activations: Mapping[str, Activation], grained: bool, keep: Sequence[str]
) -> NDArray[Any] | None:
    """The mean error of each output channel, None for an operation that is not corrected."""
    import numpy as np

    if op.op not in _LAYERS or op.inputs[0] is None or op.inputs[1] is None:
        return None
    source, weights = op.inputs[0], op.inputs[1]
    seen = activations.get(source.name)
    if seen is None or weights.data is None or weights.dtype != "float32" or weights.sparse:
        return None
    values = floats(weights).astype(np.float64)
    depthwise = op.op == "DEPTHWISE_CONV_2D"
    axis = (values.ndim - 1 if depthwise else 0) if grained else None
    error = rounded(values, axis, keep=keep) - values
    if op.op != "FULLY_CONNECTED":
        rows, columns = taps(op, source, values.shape[1:3])
        error = (error * rows[:, None, None] * columns[:, None]).sum(axis=(1, 2))
    width = len(seen.mean)
    if error.shape[-1] % width:
        return None  # grouped
    if depthwise:
        shift: NDArray[Any] = error[0] * np.repeat(seen.mean, error.shape[-1] // width)
        return shift
    if op.op == "CONV_2D" and error.shape[-1] != width:
        return None
    across: NDArray[Any] = error @ np.tile(seen.mean, error.shape[-1] // width)
    return across


def taps(
    op: Operator, source: Tensor, kernel: tuple[int, ...]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """For each row and column of the kernel, the share of output places at which it lies on the
    image rather than on padding (SAME: TensorFlow's rule, more after than before)."""
    sides = (source.shape or (1, 1, 1, 1))[1:3]
    found = [
        _inside(
            side,
            reach,
            int(op.options.get(f"stride_{axis}", 1) or 1),
            int(op.options.get(f"dilation_{axis}_factor", 1) or 1),
            same=op.options.get("padding") == "SAME",
        )
        for side, reach, axis in zip(sides, kernel, "hw", strict=True)
    ]
    return found[0], found[1]


def _inside(side: int, reach: int, stride: int, dilation: int, *, same: bool) -> NDArray[Any]:
    import numpy as np

    if not same or side < 1:
        return np.ones(reach)
    places = -(-side // stride)
    before = max((places - 1) * stride + (reach - 1) * dilation + 1 - side, 0) // 2
    at = np.arange(places)[:, None] * stride + np.arange(reach) * dilation - before
    share: NDArray[Any] = ((at >= 0) & (at < side)).mean(axis=0)
    return share


def _move_bias(model: Any, op: Operator, by: NDArray[Any]) -> bool:
    """Add `by` to the operation's bias; True when it could be done."""
    import numpy as np

    from edgeopt.optimize.constants import add_constant, replace_constant

    bias = op.inputs[2] if len(op.inputs) > 2 else None
    if bias is not None:
        if bias.data is None or bias.dtype != "float32":
            return False
        values = floats(bias).astype(np.float64).reshape(-1) + by
        replace_constant(model, op.index, bias.index, values)
        return True
    weights = op.inputs[1]
    assert weights is not None
    name = f"{op.outputs[0].name}/corrected_bias"
    made = add_constant(model, weights.index, [len(by)], by, name)
    operator = model.subgraphs[0].operators[op.index]
    operator.inputs = [*(int(i) for i in operator.inputs[:2]), made]
    return True
