"""A chain of equal convolutions: so many percent more of them are so many percent more work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

__all__ = ["chain"]

_SIDE, _CHANNELS = 8, 32  # 0.6 million multiplications a layer: tens of microseconds


def chain(path: Path, *, layers: int) -> Path:
    """Write a float32 .tflite of `layers` 3x3 convolutions, each with weights of its own."""
    source = np.random.default_rng(0)
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version, model.operatorCodes = 1, [code]
    graph.tensors, graph.operators = [], []
    shape = [1, _SIDE, _SIDE, _CHANNELS]
    last = _tensor(model, "input", shape)
    graph.inputs = [last]
    scale = (9 * _CHANNELS) ** -0.5
    for layer in range(layers):
        values = source.standard_normal((_CHANNELS, 3, 3, _CHANNELS)).astype(np.float32) * scale
        weights = _tensor(model, f"weights{layer}", [_CHANNELS, 3, 3, _CHANNELS], values)
        bias = _tensor(model, f"bias{layer}", [_CHANNELS], np.zeros(_CHANNELS, np.float32))
        operator, options = schema.OperatorT(), schema.Conv2DOptionsT()
        options.padding, options.strideW, options.strideH = schema.Padding.SAME, 1, 1
        options.dilationWFactor = options.dilationHFactor = 1
        options.fusedActivationFunction = schema.ActivationFunctionType.RELU
        operator.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
        operator.builtinOptions = options
        operator.inputs, operator.opcodeIndex = [last, weights, bias], 0
        last = _tensor(model, f"layer{layer}", shape)
        operator.outputs = [last]
        graph.operators.append(operator)
    graph.outputs = [last]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(builder.Output()))
    return path


def _tensor(model: Any, name: str, shape: list[int], values: Any = None) -> int:
    """The index of a new tensor of the only graph; constant where it has values."""
    tensors = model.subgraphs[0].tensors
    made = schema.TensorT()
    made.buffer, made.name, made.shape, made.type = (
        0,
        name.encode(),
        shape,
        schema.TensorType.FLOAT32,
    )
    if values is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        model.buffers.append(buffer)
        made.buffer = len(model.buffers) - 1
    tensors.append(made)
    return len(tensors) - 1
