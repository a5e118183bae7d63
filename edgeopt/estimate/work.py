"""What one operation asks of the accelerator: products, values read, bytes written."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from edgeopt.estimate.layout import ceil_to, padded_outputs, parameter_bytes, weights_of
from edgeopt.facts import Operator

__all__ = ["Work", "elements", "tensor_bytes", "work_of"]

_FREE = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")  # the same bytes under another shape
_BYTES = {"int8": 1, "uint8": 1, "bool": 1, "int16": 2, "float16": 2, "int64": 8, "float64": 8}


@dataclass(frozen=True, kw_only=True)
class Work:
    """`macs` are multiply-accumulates with the channels padded as on the chip, `plain_macs` not
    padded; `reads` counts the input values of a layer with weights as often as a kernel position
    needs them (once where a kernel has one channel), `values` those of any other operation;
    `parameters` and `outputs` are bytes, with one byte a value."""

    macs: int
    plain_macs: int
    reads: int
    values: int
    parameters: int
    outputs: int


def work_of(op: Operator) -> Work:
    """The work of one operation with static shapes; zeros for what its file does not say."""
    outputs = sum(elements(t.shape) for t in op.outputs)
    macs, plain, reads = _products(op, outputs)
    return Work(
        macs=macs,
        plain_macs=plain,
        reads=reads,
        values=0 if macs or op.op in _FREE else max(outputs, _read(op)),
        parameters=parameter_bytes(op),
        outputs=outputs,
    )


def _products(op: Operator, outputs: int) -> tuple[int, int, int]:
    weights = weights_of(op)
    if weights is None or weights.shape is None or not op.outputs or not op.outputs[0].shape:
        if op.op == "UNIDIRECTIONAL_SEQUENCE_LSTM":
            return _lstm(op)
        return 0, 0, 0
    if op.op == "DEPTHWISE_CONV_2D":
        taps, channels = prod(weights.shape[:-1]), weights.shape[-1]
        pixels = outputs // max(channels, 1)
        values = pixels * ceil_to(
            channels, 4
        )  # each is read once: MobileNet would be twice as slow
        return 4 * taps * values, outputs * taps, values  # three of a lane's four inputs are zeros
    channels, taps, inputs = weights.shape[0], prod(weights.shape[1:-1]), weights.shape[-1]
    pixels = outputs // max(channels, 1)
    if op.op == "TRANSPOSE_CONV":  # each input value goes to every kernel position
        source = op.inputs[2] if len(op.inputs) > 2 else None
        pixels = elements(source.shape) // max(inputs, 1) if source is not None else pixels
    reads = pixels * taps * ceil_to(inputs, 4)
    return padded_outputs(channels) * reads, channels * taps * inputs * pixels, reads


def _lstm(op: Operator) -> tuple[int, int, int]:
    shape = op.outputs[0].shape if op.outputs else None
    steps = shape[-2] if shape and len(shape) > 1 else 1
    gates = [t.shape for t in op.inputs[1:9] if t is not None and t.shape and len(t.shape) == 2]
    macs = steps * sum(padded_outputs(g[0]) * ceil_to(g[1], 4) for g in gates)
    plain = steps * sum(prod(g) for g in gates)
    return macs, plain, steps * sum(g[1] for g in gates)


def _read(op: Operator) -> int:
    return sum(elements(t.shape) for t in op.inputs if t is not None and not t.constant)


def elements(shape: tuple[int, ...] | None) -> int:
    """Values of a tensor; an open dimension counts as 1."""
    return 0 if shape is None else prod(max(d, 1) for d in shape)


def tensor_bytes(shape: tuple[int, ...] | None, dtype: str) -> int:
    """Bytes of a tensor of that numpy type; four a value where the type is not known."""
    return elements(shape) * _BYTES.get(dtype, 4)
