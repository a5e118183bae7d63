"""Small real .tflite models, built with the schema's own generated writer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


def pack(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def edited(data: bytes, edit: Callable[[Any], None]) -> bytes:
    model = schema.ModelT.InitFromPackedBuf(data)
    edit(model)
    return pack(model)


def options_table(name: str) -> bytes:
    """A FlatBuffer whose root is an options table with every field left out."""
    builder = flatbuffers.Builder(64)
    getattr(schema, f"{name}Start")(builder)
    builder.Finish(getattr(schema, f"{name}End")(builder))
    return bytes(builder.Output())


def tensor(name: str, shape: list[int], dtype: int = schema.TensorType.FLOAT32) -> Any:
    made = schema.TensorT()
    made.name, made.shape, made.type = name.encode(), shape, dtype
    made.buffer = 0
    return made


def quantize(model: Any, index: int, scales: list[float], zero_points: list[int]) -> None:
    parameters = schema.QuantizationParametersT()
    parameters.scale, parameters.zeroPoint = scales, zero_points
    model.subgraphs[0].tensors[index].quantization = parameters


def buffer(values: np.ndarray | None = None) -> Any:
    made = schema.BufferT()
    if values is not None:
        made.data = np.frombuffer(values.tobytes(), np.uint8)
    return made


def signature(inputs: dict[str, int], outputs: dict[str, int], key: str) -> Any:
    def maps(entries: dict[str, int]) -> list[Any]:
        made = []
        for name, index in entries.items():
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name.encode(), index
            made.append(entry)
        return made

    found = schema.SignatureDefT()
    found.inputs, found.outputs = maps(inputs), maps(outputs)
    found.signatureKey, found.subgraphIndex = key.encode(), 0
    return found


def model_of(graph: Any, operator_code: int, buffers: list[Any], version: int = 1) -> Any:
    model = schema.ModelT()
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode = operator_code, min(operator_code, 127)
    code.version = version
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = buffers
    return model


def fully_connected(*, bias: bool = True, batch: int = 1, signed: bool = True) -> bytes:
    """y[batch, 2] = x[batch, 4] @ W.T + b in float32."""
    weights = np.arange(8, dtype=np.float32).reshape(2, 4)
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.outputs = 0, [3]
    operator.inputs = [0, 1, 2 if bias else -1]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("x", [batch, 4]),
        tensor("w", [2, 4]),
        tensor("b", [2]),
        tensor("y", [batch, 2]),
    ]
    graph.tensors[1].buffer, graph.tensors[2].buffer = 1, 2
    graph.inputs, graph.outputs, graph.operators = [0], [3], [operator]
    buffers = [buffer(), buffer(weights), buffer(np.array([1, -1], np.float32))]
    model = model_of(graph, schema.BuiltinOperator.FULLY_CONNECTED, buffers)
    if signed:
        model.signatureDefs = [signature({"x": 0}, {"y": 3}, "serving_default")]
    return pack(model)


def out_of_line(data: bytes) -> bytes:
    """The same model with its weights behind the FlatBuffer, as files over 2 GB have them."""
    model = schema.ModelT.InitFromPackedBuf(data)
    blobs = {i: bytes(b.data) for i, b in enumerate(model.buffers) if b.data is not None}
    for index, blob in blobs.items():
        model.buffers[index].data = None
        model.buffers[index].offset, model.buffers[index].size = 2**40, len(blob)
    end = -(-len(pack(model)) // 16) * 16
    for index, blob in blobs.items():
        model.buffers[index].offset = end
        end += -(-len(blob) // 16) * 16
    packed = pack(model)
    for index, blob in blobs.items():
        packed = packed.ljust(model.buffers[index].offset, b"\0") + blob
    return packed
