"""Pooling over a whole map: as a MEAN its result has a scale of its own.

Integer AVERAGE_POOL_2D must give its output its input's scale (TensorFlow Lite 8-bit quantization
specification), though averages of many values spread far less than the values: bits are lost just
before the classifier. MEAN has no such rule, computes the same and is as fast.
"""

from __future__ import annotations

from typing import Any

__all__ = ["mean_of_pools"]


def mean_of_pools(data: bytes, *, multiple: int = 1) -> tuple[bytes, int]:
    """The float .tflite with a MEAN for each AVERAGE_POOL_2D whose window is the whole map, and how
    many there were. `multiple` is what height and width must be a multiple of (the Edge TPU: 4).

    Names, shapes, and the order of operations stay.
    """
    from ai_edge_litert import schema_py_generated as schema

    from edgeopt.model.packing import pack, unpack

    model = unpack(data)
    pool = schema.BuiltinOperator.AVERAGE_POOL_2D
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    found = [
        (graph, op)
        for graph in model.subgraphs
        for op in graph.operators
        if codes[op.opcodeIndex] == pool and _whole(graph, op, multiple, schema)
    ]
    if not found:
        return data, 0
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MEAN
    code.version = 1
    model.operatorCodes.append(code)
    for graph, op in found:
        op.opcodeIndex = len(model.operatorCodes) - 1
        op.inputs = [int(op.inputs[0]), _axes(model, graph, schema)]
        op.builtinOptions = schema.ReducerOptionsT()
        op.builtinOptions.keepDims = True
        op.builtinOptionsType = schema.BuiltinOptions.ReducerOptions
    return pack(model), len(found)


def _whole(graph: Any, op: Any, multiple: int, schema: Any) -> bool:
    """Whether the window of `op` is its whole input, and nothing else is done there."""
    given = [int(side) for side in graph.tensors[op.inputs[0]].shape]
    made = [int(side) for side in graph.tensors[op.outputs[0]].shape]
    options = op.builtinOptions
    if len(given) != 4 or made[1:3] != [1, 1] or options is None:
        return False
    if options.fusedActivationFunction != schema.ActivationFunctionType.NONE:
        return False
    window = [options.filterHeight, options.filterWidth]
    return window == given[1:3] and not any(side % multiple for side in window)


def _axes(model: Any, graph: Any, schema: Any) -> int:
    """The index of a new constant that says height and width."""
    import numpy as np

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.array([1, 2], "<i4").tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor = schema.TensorT()
    tensor.name = f"edgeopt/axes_{len(graph.tensors)}".encode()
    tensor.shape, tensor.type = [2], schema.TensorType.INT32
    tensor.buffer = len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1
