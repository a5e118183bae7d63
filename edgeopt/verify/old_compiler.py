"""Rules that a compiler as old as TensorFlow 2.5 adds to those of 8-bit quantization.

Its kernels take the first scale of a tensor that has several unless the operation is a convolution,
add a bias as if its scale were input times weights, and never subtract a zero point from signed
weights. Its reader skips what the schema gained later. None of that is an error there, but answers
would be wrong. Each profile says with `[file]` and `[weights]` which of these rules it has.
"""

from __future__ import annotations

from collections import Counter

from edgeopt.facts import ModelFacts, Operator, Tensor
from edgeopt.verify.collector import Collector

__all__ = ["check_arithmetic", "check_old_file"]

_FLATBUFFER_BYTES = 1 << 31  # offsets are signed 32-bit numbers
# Types of the schema of TensorFlow 2.5, by its schema_py_generated.
_LATER_TYPES = ("uint16", "int4", "bfloat16", "int2")
# Options that later schemas added to operations of 2.5, with the value that means nothing new.
_LATER_OPTIONS = {
    "STRIDED_SLICE": ("offset", False),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ("diagonal_recurrent_tensors", False),
    "TRANSPOSE_CONV": ("fused_activation", "NONE"),
}
_BIAS_INPUT = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}
_WEIGHTS_INPUT = 1
# Where the data stands; TRANSPOSE_CONV has its output shape first.
_DATA_INPUT = {"TRANSPOSE_CONV": 2}
_BIAS_TOLERANCE = 0.01  # kernels ignore the bias's own scale: by this share would it be wrong


def check_old_file(facts: ModelFacts, to: Collector) -> None:
    """The file as a whole: its size, and what a reader of TensorFlow 2.5 would skip or refuse."""
    to.require(
        facts.size_bytes < _FLATBUFFER_BYTES,
        "file.size",
        facts.path.name,
        f"{facts.size_bytes} bytes",
        f"under {_FLATBUFFER_BYTES} bytes",
        "Use a smaller model: a FlatBuffer ends at 2 GB.",
    )
    for where, found in facts.extensions:
        to.require(
            False,
            "file.extensions",
            where,
            found,
            "what the schema of TensorFlow 2.5 has",
            "Convert the float model again with edgeopt.",
        )
    for subgraph in facts.subgraphs:
        to.require(
            bool(subgraph.operators and subgraph.tensors),
            "file.empty",
            subgraph.name or f"subgraph {subgraph.index}",
            f"{len(subgraph.operators)} operations and {len(subgraph.tensors)} tensors",
            "at least one of each",
            "Export a model that computes something.",
        )
        for tensor in subgraph.tensors:
            to.require(
                tensor.dtype not in _LATER_TYPES,
                "file.tensor_types",
                f"tensor {tensor.name!r}",
                tensor.dtype,
                "a type of the schema of TensorFlow 2.5",
                "Use --scheme int8.",
            )
    for op in facts.operators():
        _check_options(op, to)
    _check_names(facts, to)


def _check_options(op: Operator, to: Collector) -> None:
    name, plain = _LATER_OPTIONS.get(op.op, ("", None))
    value = op.options.get(name, plain)
    to.require(
        value == plain,
        "file.options",
        op.where,
        f"{name} {value}",
        f"{name} {plain}, as TensorFlow 2.5 takes it for",
        "Write it as an operation of its own in the model.",
    )


def _check_names(facts: ModelFacts, to: Collector) -> None:
    """The compiler's intermediate tensors (-i) are named; it compiles without names too."""
    for subgraph in facts.subgraphs:
        tensors = {t.index: t for op in subgraph.operators for t in op.outputs}
        named = Counter(tensor.name for tensor in tensors.values())
        for tensor in tensors.values():
            to.checked += 1
            if tensor.name and named[tensor.name] == 1:
                continue
            to.warn(
                "file.tensor_names",
                f"tensor {tensor.index}",
                f"the name {tensor.name!r} of {named[tensor.name]} tensors"
                if tensor.name
                else "no name",
                "a name of its own",
                "Convert it again with edgeopt, or do without intermediate tensors.",
            )


def check_arithmetic(facts: ModelFacts, to: Collector) -> None:
    """Scales and zero points that the kernels assume rather than read. They are those of int8
    models: uint8 weights have one scale, and a zero point of their own."""
    for op in facts.operators():
        for position, tensor in enumerate(op.inputs):
            if tensor is not None and tensor.quantization is not None:
                _check_scales(op, position, tensor, to)
        for tensor in op.outputs:
            _check_positive(op, tensor, to)
        if op.op in _BIAS_INPUT:
            _check_weights(op, to)
            _check_bias(op, to)


def _at(op: Operator, position: int) -> Tensor | None:
    return op.inputs[position] if position < len(op.inputs) else None


def _check_positive(op: Operator, tensor: Tensor, to: Collector) -> None:
    quantization = tensor.quantization
    if quantization is None:
        return
    bad = [scale for scale in quantization.scales if not scale > 0]
    to.require(
        not bad,
        "activations.scale" if not tensor.constant else "weights.scale",
        f"tensor {tensor.name!r} of {op.where}",
        f"the scale {bad[0] if bad else 0}",
        "a scale above 0",
        "Convert it again with calibration data that reaches this tensor.",
    )


def _check_scales(op: Operator, position: int, tensor: Tensor, to: Collector) -> None:
    """Several scales only where the kernel has them: the output channels of convolutions."""
    _check_positive(op, tensor, to)
    quantization = tensor.quantization
    if quantization is None or not quantization.per_channel or not tensor.constant:
        return
    axis = to.profile.channel_axis.get(op.op)
    if position == _BIAS_INPUT.get(op.op) and axis is not None:
        axis = 0  # a bias has no other
    elif position != _WEIGHTS_INPUT:
        axis = None
    to.require(
        axis == quantization.axis,
        "weights.channel_axis",
        op.where,
        f"{len(quantization.scales)} scales along axis {quantization.axis} ({tensor.name})",
        "one scale" if axis is None else f"scales along axis {axis}",
        "edgeopt fix keeps a dense layer's in a 1 x 1 convolution; or convert the float model with "
        "edgeopt, which gives it one scale.",
    )


def _check_weights(op: Operator, to: Collector) -> None:
    weights = _at(op, _WEIGHTS_INPUT)
    if weights is None or weights.dtype != "int8" or not weights.constant:
        return
    quantization = weights.quantization
    if not to.require(
        quantization is not None,
        "weights.quantization",
        op.where,
        f"int8 weights without a scale ({weights.name})",
        "quantization parameters",
        "Convert it again: full integer quantization stores them.",
    ):
        return
    assert quantization is not None
    shifted = [zero for zero in quantization.zero_points if zero]
    to.require(
        not shifted,
        "weights.zero_point",
        op.where,
        f"zero point {shifted[0] if shifted else 0} of int8 weights ({weights.name})",
        "zero point 0",
        "Quantize it again symmetrically, as edgeopt convert does.",
    )


def _check_bias(op: Operator, to: Collector) -> None:
    """TensorFlow Lite 8-bit quantization specification: scale input * weights, zero point 0."""
    data, weights = _at(op, _DATA_INPUT.get(op.op, 0)), _at(op, _WEIGHTS_INPUT)
    bias = _at(op, _BIAS_INPUT[op.op])
    if bias is None or bias.dtype != "int32" or data is None or weights is None:
        return
    if bias.quantization is None or data.quantization is None or weights.quantization is None:
        return  # no scale of its own: it has the one that the kernel assumes
    scales = bias.quantization.scales
    many = max(len(scales), len(weights.quantization.scales))
    found = scales * many if len(scales) == 1 else scales
    along = weights.quantization.scales
    along = along * many if len(along) == 1 else along
    step = data.quantization.scales[0]
    if len(found) != len(along):
        off: list[tuple[float, float]] = [(found[0], step * along[0])]
    else:
        pairs = [(own, step * scale) for own, scale in zip(found, along, strict=True)]
        off = [pair for pair in pairs if not abs(pair[0] - pair[1]) <= _BIAS_TOLERANCE * pair[1]]
    shown = off[0] if off else (0.0, 0.0)
    hint = "Convert the float model again with edgeopt."
    to.require(
        not off,
        "bias.scale",
        op.where,
        f"bias scale {shown[0]:.6g} in {len(off)} of {many} channels ({bias.name})",
        f"{shown[1]:.6g}, input scale times weight scale",
        hint,
    )
    to.require(
        not any(bias.quantization.zero_points),
        "bias.zero_point",
        op.where,
        f"zero point {max(bias.quantization.zero_points, key=abs)} ({bias.name})",
        "zero point 0",
        hint,
    )
