"""Bytes that the Edge TPU compiler lays out for one operation's parameters, padding included.

Read off the payloads of compiled files (google-coral/test_data): the stored weights were found byte
for byte in the parameter blobs, and so the distance from each layer to the next. Weights stand in
groups of 64 output channels by 4 input channels, each group behind its channels' own numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from edgeopt.facts import Operator, Tensor

__all__ = ["ceil_to", "padded_outputs", "parameter_bytes", "parameter_bytes_most", "weights_of"]

_GROUP = 64  # output channels of a group, one for each lane of the array
_SMALL = 16  # what fewer output channels are padded to
_TINY = 4  # up to so many stay alone: one output channel of movenet takes 4
_INPUTS = 4  # input channels of a group
_BIAS = 4  # an int32 for each output channel
_SCALE = 4  # a multiplier for each, where there is one for each channel
_DEPTHWISE_SCALE = 12  # the same of a depthwise layer, over all tiles
_UNIT = 64  # elementwise operations and joins keep one unit each
# One file each: 1001 classes add 48,256 bytes after the compiler 2.1, 10 classes about 1,152.
_SOFTMAX_EACH, _SOFTMAX = 48, 208
# keras_lstm_mnist: 27,712 bytes for 28 unrolled steps beside the gates' weights.
_LSTM_STEP = 992
_WEIGHTED = ("CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
_LSTM_WEIGHTS = range(1, 9)  # input-to-gate and recurrent-to-gate, of which two may be left out
_KEEPS_A_UNIT = ("CONCATENATION", "SPLIT", "SPLIT_V", "SUB", "MUL", "MAXIMUM", "MINIMUM", "PACK")


def ceil_to(value: int, multiple: int) -> int:
    """The least multiple that is not below `value`."""
    return -(-value // multiple) * multiple


def padded_outputs(channels: int) -> int:
    """How many output channels the compiler reserves for so many."""
    if channels <= _TINY:
        return _TINY
    return ceil_to(channels, _SMALL if channels < _GROUP else _GROUP)


def weights_of(op: Operator) -> Tensor | None:
    """The constant weights of a layer that has them, None of any other operation."""
    if op.op in (*_WEIGHTED, "DEPTHWISE_CONV_2D") and len(op.inputs) > 1:
        tensor = op.inputs[1]
        if tensor is not None and tensor.constant and tensor.shape and not tensor.dynamic:
            return tensor
    return None


def parameter_bytes(op: Operator) -> int:
    """Bytes of one mapped operation: exact for the convolutions and dense layers of the compiled
    files known, within a few per cent for depthwise layers with a scale for each channel."""
    return _bytes(op, padded_outputs)


def parameter_bytes_most(op: Operator) -> int:
    """The same where the compiler pads every layer to 64 output channels, as its version 16.0 was
    seen to do in a published sweep (FC and CONV nets of github.com/Jorgitou98)."""
    return _bytes(op, lambda channels: ceil_to(channels, _GROUP))


def _bytes(op: Operator, padded: Callable[[int], int]) -> int:
    weights = weights_of(op)
    if weights is not None and weights.shape is not None:
        each = bool(weights.quantization and weights.quantization.per_channel)
        bias = _BIAS * (len(op.inputs) > 2 and op.inputs[2] is not None)
        if op.op == "DEPTHWISE_CONV_2D":
            taps, channels = prod(weights.shape[:-1]), weights.shape[-1]
            own = bias + _DEPTHWISE_SCALE * each
            return ceil_to(channels, _INPUTS) * (_INPUTS * taps + own)
        outputs, taps, inputs = weights.shape[0], prod(weights.shape[1:-1]), weights.shape[-1]
        own = bias + _SCALE * each
        return padded(outputs) * (taps * ceil_to(inputs, _INPUTS) + own)
    if op.op == "UNIDIRECTIONAL_SEQUENCE_LSTM":
        return _lstm(op, padded)
    if op.op == "SOFTMAX" and op.outputs and op.outputs[0].shape:
        return _SOFTMAX_EACH * op.outputs[0].shape[-1] + _SOFTMAX
    return _of_elementwise(op)


def _lstm(op: Operator, padded: Callable[[int], int]) -> int:
    """Gates with their weights, and what every unrolled step keeps."""
    gates = [op.inputs[i] for i in _LSTM_WEIGHTS if i < len(op.inputs)]
    found = 0
    for index, tensor in enumerate(gates):
        if tensor is not None and tensor.shape and len(tensor.shape) == 2:
            own = _BIAS if index < 4 else 0  # one bias for a gate's two matrices
            found += padded(tensor.shape[0]) * (ceil_to(tensor.shape[1], _INPUTS) + own)
    shape = op.outputs[0].shape if op.outputs else None
    steps = shape[-2] if shape and len(shape) > 1 else 1
    return found + _LSTM_STEP * steps


def _of_elementwise(op: Operator) -> int:
    """The constant operand with a unit of its own; nothing of pools, reshapes and additions."""
    if op.op not in _KEEPS_A_UNIT:
        return 0
    constants = [
        prod(t.shape)
        for t in op.inputs
        if t is not None and t.constant and t.shape and t.dtype in ("int8", "uint8")
    ]
    return _UNIT + sum(ceil_to(n, _UNIT) for n in constants if n > _INPUTS)
