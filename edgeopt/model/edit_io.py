"""Give a quantized .tflite other input and output types, by QUANTIZE and DEQUANTIZE at its edges.

int8 and uint8 hold the same 256 steps: real = scale * (q - zero_point), so the uint8 tensor has
the same scale and a zero point 128 higher, and every value is the int8 one + 128. That is also
what TFLiteConverter emits for inference_input_type=tf.uint8.
"""

from __future__ import annotations

import copy
from typing import Any

from edgeopt.errors import InputError, ModelError
from edgeopt.facts import Tensor
from edgeopt.model.packing import add_buffer, operator_code, pack, unpack
from edgeopt.model.schema import TENSOR_TYPES
from edgeopt.model.tflite import parse

__all__ = ["with_io"]

_ASKED = ("int8", "uint8", "float32")
_ZERO_POINT_SHIFT = {("int8", "uint8"): 128, ("uint8", "int8"): -128}
_FLOATS = ("float32", "float16", "float64", "bfloat16")
# Operator versions by the quantized side's type: tensorflow/compiler/mlir/lite/tools/versioning/
# op_version.cc, QUANTIZE (by output) and DEQUANTIZE (by input).
_VERSIONS = {
    "QUANTIZE": {"int8": 1, "uint8": 1, "int16": 2},
    "DEQUANTIZE": {"uint8": 1, "int8": 2, "int16": 3},
}


def with_io(data: bytes, io: str) -> bytes:
    """The same model with its quantized inputs and outputs of type `io`; `data` if they are.

    `io` is "int8", "uint8" or "float32". Tensors that hold no quantized numbers (indices, masks)
    stay. Raises InputError for another `io`, ModelError when a tensor cannot be given that type.
    """
    if io not in _ASKED:
        raise InputError(
            f"There is no input and output type {io!r}.", f"Known: {', '.join(_ASKED)}."
        )
    graph = parse(data).subgraphs[0]
    edges = [_needs_change(t, io) for t in (*graph.inputs, *graph.outputs)]
    if not any(edges):
        return data
    model = unpack(data)
    if any(signature.subgraphIndex for signature in model.signatureDefs or []):
        raise ModelError(
            "The model has signatures on several subgraphs: their types would differ.",
            "Convert it again with the input and output types that you need.",
        )
    _Edges(model, io).change()
    return pack(model)


def _needs_change(tensor: Tensor, io: str) -> bool:
    """Whether an adapter is needed. Raises ModelError where none can be made."""
    if tensor.dtype == io:
        return False
    if tensor.dtype in _FLOATS:
        raise ModelError(
            f"{tensor.name or 'A tensor'} is {tensor.dtype}, not quantized: it cannot become {io}.",
            "Quantize the model to full int8 first (--scheme int8 with --calibration).",
        )
    if tensor.dtype not in ("int8", "uint8", "int16"):
        return False
    if tensor.quantization is None:
        return False  # an integer that counts or selects
    if tensor.quantization.per_channel or (tensor.dtype == "int16" and io != "float32"):
        raise ModelError(
            f"{tensor.name or 'A tensor'} ({tensor.dtype}) cannot be turned into {io}.",
            "Use --io float32, or the scheme int8.",
        )
    return True


class _Edges:
    """Works on the main subgraph of one unpacked model."""

    def __init__(self, model: Any, io: str) -> None:
        self.model = model
        self.graph = model.subgraphs[0]
        self.io = io

    def change(self) -> None:
        """QUANTIZE operators go first and in input order, those of the outputs last."""
        graph = self.graph
        before: list[Any] = []
        after: list[Any] = []
        inputs = {int(i): self._outer(int(i)) for i in graph.inputs if self._quantized(int(i))}
        outputs = {int(i): self._outer(int(i)) for i in graph.outputs if self._quantized(int(i))}
        for inner, outer in inputs.items():
            before.append(self._adapter(outer, inner))
        for inner, outer in outputs.items():
            after.append(self._adapter(inner, outer))
        for inner in {*inputs, *outputs}:
            graph.tensors[inner].name += b"_" + self._dtype(inner).encode()
        graph.inputs = [inputs.get(int(i), int(i)) for i in graph.inputs]
        graph.outputs = [outputs.get(int(i), int(i)) for i in graph.outputs]
        graph.operators = [*before, *(graph.operators or []), *after]
        for signature in self.model.signatureDefs or []:
            for entries, moved in ((signature.inputs, inputs), (signature.outputs, outputs)):
                for entry in entries or []:
                    entry.tensorIndex = moved.get(entry.tensorIndex, entry.tensorIndex)

    def _dtype(self, index: int) -> str:
        return TENSOR_TYPES[int(self.graph.tensors[index].type)]

    def _quantized(self, index: int) -> bool:
        tensor = self.graph.tensors[index]
        scales = tensor.quantization.scale if tensor.quantization else None
        known = self._dtype(index) in ("int8", "uint8", "int16")
        return known and self._dtype(index) != self.io and scales is not None and len(scales) == 1

    def _outer(self, index: int) -> int:
        """A tensor of the wanted type, under the name that the model's users know."""
        inner = self.graph.tensors[index]
        outer = copy.copy(inner)
        outer.buffer = add_buffer(self.model)
        outer.type = TENSOR_TYPES.index(self.io)
        outer.name = inner.name or b""
        inner.name = outer.name
        shift = _ZERO_POINT_SHIFT.get((self._dtype(index), self.io))
        outer.quantization = None if shift is None else copy.copy(inner.quantization)
        if shift is not None:
            outer.quantization.zeroPoint = [int(inner.quantization.zeroPoint[0]) + shift]
        self.graph.tensors.append(outer)
        return len(self.graph.tensors) - 1

    def _adapter(self, source: int, result: int) -> Any:
        from ai_edge_litert import schema_py_generated as schema

        to_float = self._dtype(result) == "float32"
        op = "DEQUANTIZE" if to_float else "QUANTIZE"
        made = schema.OperatorT()
        version = _VERSIONS[op][self._dtype(source if to_float else result)]
        made.opcodeIndex = operator_code(self.model, op, version)
        made.inputs, made.outputs = [source], [result]
        kind = "DequantizeOptions" if to_float else "QuantizeOptions"
        made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        made.builtinOptions = getattr(schema, f"{kind}T")()
        return made
