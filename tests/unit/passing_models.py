"""Models that answer with their inputs, so that a test knows what comes out: y = x + 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from tflite_models import buffer, model_of, pack, signature, tensor


def passing(path: Path, **shapes: list[int]) -> Path:
    """A file whose inputs in_NAME go to outputs NAME, each of the given shape, as float32."""
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [tensor("zero", [1])], [], [], []
    graph.tensors[0].buffer = 1
    for name, shape in shapes.items():
        start = len(graph.tensors)
        graph.tensors += [tensor(f"in_{name}", shape), tensor(name, shape)]
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, [start, 0], [start + 1]
        operator.builtinOptionsType = schema.BuiltinOptions.AddOptions
        operator.builtinOptions = schema.AddOptionsT()
        graph.operators.append(operator)
        graph.inputs.append(start)
        graph.outputs.append(start + 1)
    model = model_of(graph, schema.BuiltinOperator.ADD, [buffer(), buffer(np.zeros(1, np.float32))])
    inputs = {f"in_{n}": i for n, i in zip(shapes, graph.inputs, strict=True)}
    outputs = dict(zip(shapes, graph.outputs, strict=True))
    model.signatureDefs = [signature(inputs, outputs, "serving_default")]
    path.write_bytes(pack(model))
    return path
