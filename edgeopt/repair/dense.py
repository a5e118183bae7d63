"""Dense layers over several positions ([1, 49, 64]) as what the accelerator maps.

Every position is multiplied by the same weights, which is a 1 x 1 convolution over the positions;
of one position, it is a dense layer of a vector. A convolution also has a scale for each output
channel where old kernels of dense layers have one for all. Only RESHAPEs are added, which move no
number.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from edgeopt.facts import Operator, Tensor
from edgeopt.model.edit_graph import GraphEdit
from edgeopt.profile import HardwareProfile
from edgeopt.repair.repair import Need, Repaired

__all__ = ["reshape", "scaled_by_channel", "suits_dense", "wrap_dense"]


def wrap_dense(data: bytes, need: Need) -> Repaired | None:
    """Rewrite each refused FULLY_CONNECTED that is wide or has no bias; None when there is none."""
    edit = GraphEdit(data)
    changes, touched = [], []
    for op in edit.facts.operators:
        if op.op != "FULLY_CONNECTED" or not need.wants(op) or not suits_dense(op):
            continue
        how = _rewrite(edit, op, scaled_by_channel(op, need.profile))
        if how:
            changes.append(f"{edit.named(op)}: {how}.")
            touched.append(op.index)
    if not changes:
        return None
    return Repaired(data=edit.finish(), changes=tuple(changes), operators=tuple(touched))


def suits_dense(op: Operator) -> bool:
    """8-bit data and dense constant weights, shapes known, symmetric where a convolution asks."""
    first, weights = op.inputs[:2] if len(op.inputs) > 1 else (None, None)
    if first is None or weights is None or not weights.constant or weights.sparse:
        return False
    if first.dtype not in ("int8", "uint8") or weights.dtype != first.dtype or not op.outputs:
        return False
    shapes = [first.shape, weights.shape, op.outputs[0].shape]
    if any(not s or any(d < 1 for d in s) for s in shapes) or first.quantization is None:
        return False
    return str(op.options.get("weights_format", "DEFAULT")) == "DEFAULT"


def scaled_by_channel(op: Operator, profile: HardwareProfile) -> bool:
    """A dense layer with several scales, where the profile allows them to convolutions alone."""
    weights = op.inputs[1] if len(op.inputs) > 1 else None
    axes = profile.channel_axis
    return (
        op.op == "FULLY_CONNECTED"
        and op.op not in axes
        and axes.get("CONV_2D") == 0
        and weights is not None
        and weights.quantization is not None
        and weights.quantization.per_channel
        and weights.quantization.axis == 0
    )


def _rewrite(edit: GraphEdit, op: Operator, by_channel: bool) -> str:
    """Put the new operations in place; what they are, or "" where it does not fit."""
    first, weights, result = op.inputs[0], op.inputs[1], op.outputs[0]
    if first is None or weights is None or not weights.shape or len(weights.shape) != 2:
        return ""
    units, depth = weights.shape
    rows = prod(first.shape or ()) // depth
    if rows * depth != prod(first.shape or ()) or rows * units != prod(result.shape or ()):
        return ""
    bias = _bias(edit, op, first, weights, units)
    if rows == 1 and not by_channel:
        wide, narrow = _around(edit, first, result, (1, depth), (1, units))
        core = _vector(edit, op, [wide, weights.index, bias], narrow, first.dtype)
        how = "a dense layer of a vector, between RESHAPEs"
    else:
        zero = weights.quantization is not None and not any(weights.quantization.zero_points)
        if first.dtype == "int8" and not zero:
            return ""  # a convolution has no offset for its int8 weights
        shapes = (1, 1, rows, depth), (1, 1, rows, units)
        wide, narrow = _around(edit, first, result, *shapes)
        kernel = _as_kernel(edit, weights, units, depth)
        core = _convolution(edit, op, [wide, kernel, bias], narrow, first.dtype)
        where = f" over its {rows} positions" if rows > 1 else ""
        scales = ", which keeps a scale for each channel" if by_channel else ""
        how = f"a 1 x 1 convolution{where}, between RESHAPEs{scales}"
    made = [core]
    if wide != first.index:
        made.insert(0, reshape(edit, first.index, wide, _shape(edit, wide)))
    if narrow != result.index:
        made.append(reshape(edit, narrow, result.index, result.shape or ()))
    edit.replace(op, made)
    return how


def _vector(edit: GraphEdit, op: Operator, inputs: list[int], output: int, dtype: str) -> Any:
    fused = edit.operators[op.index].builtinOptions.fusedActivationFunction
    return edit.operator(
        "FULLY_CONNECTED",
        4 if dtype == "int8" else 1,
        inputs,
        [output],
        "FullyConnected",
        fusedActivationFunction=fused,
    )


def _convolution(edit: GraphEdit, op: Operator, inputs: list[int], output: int, dtype: str) -> Any:
    fused = edit.operators[op.index].builtinOptions.fusedActivationFunction
    return edit.operator(
        "CONV_2D",
        3 if dtype == "int8" else 1,
        inputs,
        [output],
        "Conv2D",
        padding=1,  # VALID
        strideW=1,
        strideH=1,
        fusedActivationFunction=fused,
    )


def _around(
    edit: GraphEdit, first: Tensor, result: Tensor, wide: Sequence[int], narrow: Sequence[int]
) -> tuple[int, int]:
    """The tensors that the new operation reads and makes: new ones where the shape is another."""
    source, target = first.index, result.index
    if first.shape != tuple(wide):
        source = edit.tensor(f"{first.name}_flat", wide, like=first.index)
    if result.shape != tuple(narrow):
        target = edit.tensor(f"{result.name}_flat", narrow, like=result.index)
    return source, target


def _shape(edit: GraphEdit, index: int) -> list[int]:
    return [int(side) for side in edit.graph.tensors[index].shape]


def reshape(edit: GraphEdit, source: int, target: int, shape: Sequence[int]) -> Any:
    """A RESHAPE of version 1, its shape a constant input and an option."""
    name = (edit.graph.tensors[target].name or b"").decode("utf-8", "replace")
    wanted = edit.integers(f"{name}_shape", list(shape))
    return edit.operator("RESHAPE", 1, [source, wanted], [target], "Reshape", newShape=list(shape))


def _bias(edit: GraphEdit, op: Operator, first: Tensor, weights: Tensor, units: int) -> int:
    """The bias, or zeros at the scale of the products: leaving it out asks for version 6."""
    if len(op.inputs) > 2 and op.inputs[2] is not None:
        return op.inputs[2].index
    assert first.quantization is not None and weights.quantization is not None
    scale = first.quantization.scales[0]
    scales = [scale * s for s in weights.quantization.scales]
    name = f"{op.outputs[0].name}_bias"
    zeros = bytes(4 * units)
    quantization = (scales, [0] * len(scales), 0)
    return edit.tensor(name, (units,), dtype="int32", data=zeros, quantization=quantization)


def _as_kernel(edit: GraphEdit, weights: Tensor, units: int, depth: int) -> int:
    """The same weights, laid out as [units, 1, 1, depth]: not one byte moves."""
    made = edit.tensor(f"{weights.name}_1x1", (units, 1, 1, depth), like=weights.index)
    edit.graph.tensors[made].buffer = edit.graph.tensors[weights.index].buffer
    return made
