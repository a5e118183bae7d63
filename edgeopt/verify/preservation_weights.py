"""The weights of a .tflite as its file stores them: zeros and distinct values, channel by channel.

Nothing is scaled back to real numbers: a quantized weight is zero where its code is the zero
point, and two weights are equal where their codes are, so nothing here can be a rounding error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeopt.errors import ModelError
from edgeopt.facts import ModelFacts, Operator, Quantization, Tensor
from edgeopt.verify.graph import Graph

__all__ = ["Weights", "model_weights"]

# Which inputs are weights, and their axis of output channels (kernels of TensorFlow Lite 2.21 and
# the layouts that schema.fbs and the converter give them). A negative axis counts from the end.
_WEIGHTS: dict[str, tuple[tuple[int, ...], int]] = {
    "CONV_2D": ((1,), 0),  # OHWI
    "DEPTHWISE_CONV_2D": ((1,), -1),  # 1HWC
    "FULLY_CONNECTED": ((1,), 0),  # OI
    "TRANSPOSE_CONV": ((1,), 0),  # OHWI
    "CONV_3D": ((1,), -1),  # DHWIO
    "CONV_3D_TRANSPOSE": ((1,), -2),  # DHWOI
    "EMBEDDING_LOOKUP": ((1,), 0),
    "RNN": ((1, 2), 0),
    "UNIDIRECTIONAL_SEQUENCE_RNN": ((1, 2), 0),
    "LSTM": (tuple(range(1, 9)), 0),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (tuple(range(1, 9)), 0),
    "BIDIRECTIONAL_SEQUENCE_LSTM": ((*range(1, 9), *range(18, 26)), 0),
    "SVDF": ((1, 2), 0),
    "BATCH_MATMUL": ((1,), -1),
}
# Between a constant and its user: the same values, at most moved.
_PASSES = {"DEQUANTIZE", "DENSIFY", "RESHAPE", "TRANSPOSE"}
_TYPES = {"float16": "<f2", "float32": "<f4", "float64": "<f8", "int8": "i1", "uint8": "u1",
          "int16": "<i2", "int32": "<i4"}  # fmt: skip
_PACKED_BITS = {"int4": 4, "uint4": 4, "int2": 2}
_CHUNK = 1 << 22  # elements that are sorted at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """One constant kernel. `layer` is for people, `result` names what it computes, `names` are all
    that the file knows it by. `codes` is (channels, weights per channel), `zero` the code of zero,
    one for all or of the same shape. `ordered` is False where the file leaves zeros out, so that
    positions are not known.
    """

    layer: str
    result: str
    op: str
    names: tuple[str, ...]
    codes: NDArray[Any]
    zero: NDArray[Any] = field(repr=False)
    ordered: bool
    identity: int

    @property
    def size(self) -> int:
        return int(self.codes.size)

    @cached_property
    def zeros(self) -> NDArray[np.bool_]:
        """True where a weight is exactly zero."""
        return np.asarray(self.codes == self.zero)

    @property
    def sparsity(self) -> float:
        return float(np.count_nonzero(self.zeros)) / self.size if self.size else 0.0

    @cached_property
    def distinct(self) -> int:
        """Distinct stored values in the whole layer."""
        return int(np.unique(_sortable(self.codes)).size)

    @cached_property
    def distinct_per_channel(self) -> int:
        """Distinct stored values of the channel that has most of them."""
        most, (channels, width) = 0, self.codes.shape
        step = max(1, _CHUNK // max(1, width))
        for first in range(0, channels, step):
            part = np.sort(_sortable(self.codes[first : first + step]), axis=1)
            changes = np.count_nonzero(part[:, 1:] != part[:, :-1], axis=1)
            most = max(most, int(changes.max(initial=0)) + min(1, width))
        return most

    def weights_of_channel(self) -> int:
        return int(self.codes.shape[1])


def _sortable(codes: NDArray[Any]) -> NDArray[Any]:
    """Widened, where they are float16: numpy 2.4's sort of those leaves some arrays unsorted on
    processors with AVX-512 (seen: 16 values of a 96x96 kernel counted as 31)."""
    return codes.astype(np.float32) if codes.dtype == np.float16 else codes


def model_weights(facts: ModelFacts) -> tuple[Weights, ...]:
    """The constant kernels of every weighted operation, in the file's order.

    Raises ModelError for weights of a type that cannot be read.
    """
    found: list[Weights] = []
    for subgraph in facts.subgraphs:
        graph = Graph(subgraph)
        for operator in subgraph.operators:
            found += _of_operator(operator, graph)
    return tuple(found)


def _of_operator(operator: Operator, graph: Graph) -> Iterator[Weights]:
    if operator.op not in _WEIGHTS:
        return
    positions, axis = _WEIGHTS[operator.op]
    if operator.options.get("adj_y"):  # a transposed right-hand side: its rows are the outputs
        axis = -2
    for position in positions:
        tensor = operator.inputs[position] if position < len(operator.inputs) else None
        if tensor is None:
            continue
        source, moves = _constant_behind(tensor, graph)
        if source is None or source.data is None or not source.shape or not prod(source.shape):
            continue
        yield _read(operator, tensor, source, moves, axis, alone=len(positions) == 1)


def _constant_behind(tensor: Tensor, graph: Graph) -> tuple[Tensor | None, list[Operator]]:
    """The constant that reaches an input unchanged, and the operations it passes on the way."""
    moves: list[Operator] = []
    while not tensor.constant:
        maker = graph.producer.get(tensor.index)
        if maker is None or maker.op not in _PASSES or not maker.inputs or not maker.inputs[0]:
            return None, []
        moves.insert(0, maker)
        tensor = maker.inputs[0]
    return tensor, moves


def _read(
    operator: Operator,
    tensor: Tensor,
    source: Tensor,
    moves: list[Operator],
    axis: int,
    alone: bool,
) -> Weights:
    codes = _codes(source, operator)
    zero = _zero_codes(source.quantization, codes)
    for move in moves:
        codes, zero = _moved(codes, move), zero if zero.ndim == 0 else _moved(zero, move)
    output = operator.outputs[0].name if operator.outputs else ""
    result = (output or tensor.name).split(";")[0] or f"{operator.op} #{operator.index}"
    which = "" if alone else f" [{tensor.name.split(';')[0]}]"
    return Weights(
        layer=(_layer_of(source.name) or result) + which,
        result=result + which,
        op=operator.op,
        names=tuple(n for n in (output, tensor.name, source.name) if n),
        codes=_by_channel(codes, axis),
        zero=zero if zero.ndim == 0 else _by_channel(zero, axis),
        ordered=not source.sparse,
        identity=id(source.data),
    )


def _layer_of(kernel: str) -> str:
    """`model/conv2d/Conv2D;...` belongs to the layer `model/conv2d`; "" for a numbered name."""
    return kernel.split(";")[0].rpartition("/")[0]


def _by_channel(array: NDArray[Any], axis: int) -> NDArray[Any]:
    axis = min(max(axis + array.ndim if axis < 0 else axis, 0), array.ndim - 1)
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _codes(tensor: Tensor, operator: Operator) -> NDArray[Any]:
    """The stored values in the tensor's shape. A sparse one (schema.fbs SparsityParameters) keeps
    only some of its values: they stand in front, and what is left out is zero."""
    assert tensor.data is not None and tensor.shape is not None
    count = prod(tensor.shape)
    if tensor.dtype in _PACKED_BITS:
        values = _unpacked(tensor.data, tensor.dtype)
    elif tensor.dtype in _TYPES:
        values = np.frombuffer(tensor.data, _TYPES[tensor.dtype])
    else:
        raise ModelError(
            f"{operator.where} has {tensor.dtype} weights, whose zeros cannot be counted.",
            "Use one of the schemes float32, float16, dynamic_int8, int8 or int16x8.",
        )
    if tensor.sparse and len(values) < count:
        zero = tensor.quantization.zero_points[0] if tensor.quantization else 0
        values = np.concatenate([values, np.full(count - len(values), zero, values.dtype)])
    return values[:count].reshape(tensor.shape)


def _unpacked(data: memoryview, dtype: str) -> NDArray[Any]:
    """Two or four values a byte, the first in the lowest bits (tflite's UnpackPackedIntToInt8)."""
    bits = _PACKED_BITS[dtype]
    packed = np.frombuffer(data, np.uint8)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    values = ((packed[:, np.newaxis] >> shifts) & ((1 << bits) - 1)).reshape(-1).astype(np.int8)
    if dtype.startswith("int"):
        values = np.where(values >= 1 << (bits - 1), values - (1 << bits), values).astype(np.int8)
    return values


def _zero_codes(quantization: Quantization | None, codes: NDArray[Any]) -> NDArray[Any]:
    """The code of zero: one for the tensor, or of its shape where channels differ."""
    if codes.dtype.kind == "f" or quantization is None:
        return np.array(0)
    points = np.array(quantization.zero_points, np.int64)
    if (points == points[0]).all():
        return np.array(points[0])
    shape = [1] * codes.ndim
    shape[quantization.axis] = len(points)
    return np.broadcast_to(points.reshape(shape), codes.shape)


def _moved(array: NDArray[Any], move: Operator) -> NDArray[Any]:
    if move.op == "TRANSPOSE":
        order = move.inputs[1].data if len(move.inputs) > 1 and move.inputs[1] else None
        return array if order is None else np.transpose(array, np.frombuffer(order, "<i4").tolist())
    shape = move.outputs[0].shape if move.outputs else None
    if move.op == "RESHAPE" and shape is not None and prod(shape) == array.size:
        return array.reshape(shape)
    return array
