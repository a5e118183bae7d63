"""A chain of int8 RELUs as a .tflite, or a piece of it, and what the compiler double makes of it.

The tensors are t0, t1 and so on: a piece that begins at 2 takes t2.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import compiled_models
import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_models import buffer, model_of, pack, quantize, tensor

SUCCESS = "Model compiled successfully in 5 ms.\n\n"
ENDED = "Compilation child process completed within timeout period.\nCompilation succeeded! \n"


def chain(first: int, last: int, *, prefix: str = "t", width: int = 8, scale: float = 0.5) -> bytes:
    """RELUs from t<first> to t<last>, each int8 of [1, width]."""
    graph = schema.SubGraphT()
    names = [f"{prefix}{number}" for number in range(first, last + 1)]
    graph.tensors = [tensor(name, [1, width], schema.TensorType.INT8) for name in names]
    graph.operators = []
    for place in range(len(names) - 1):
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, [place], [place + 1]
        graph.operators.append(operator)
    graph.inputs, graph.outputs = [0], [len(names) - 1]
    model = model_of(graph, schema.BuiltinOperator.RELU, [buffer()])
    for place in range(len(names)):
        quantize(model, place, [scale], [3])
    return pack(model)


def compiled(data: bytes, *, kept: int = 0, token: int = 77) -> bytes:
    """A compiled double of `data` with its last `kept` operations on the CPU."""
    count = len(schema.ModelT.InitFromPackedBuf(data).subgraphs[0].operators)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            compiled_models,
            "executable",
            functools.partial(compiled_models.executable, token=token),
        )
        return compiled_models.compiled_double(data, [set(range(count - kept))])


def block(name: str, total: int, *, on_cpu: int = 0, subgraphs: int = 1) -> str:
    """What the compiler prints of one model, with its table."""
    rows = [("RELU", total - on_cpu, "Mapped to Edge TPU")]
    rows += [("RELU", on_cpu, "More than one subgraph is not supported")] * bool(on_cpu)
    table = "".join(f"{op:<31}{count:<11}{status}\n" for op, count, status in rows)
    return (
        f"Input model: {name}.tflite\nOutput model: {name}_edgetpu.tflite\n"
        f"Number of Edge TPU subgraphs: {subgraphs}\nTotal number of operations: {total}\n"
        f"Operation log: {name}_edgetpu.log\n\n{'Operator':<31}{'Count':<11}Status\n\n{table}\n"
    )


def written(folder: Path, **files: bytes) -> dict[str, Path]:
    """NAME.tflite of each."""
    paths = {name: folder / f"{name}.tflite" for name in files}
    for name, data in files.items():
        paths[name].write_bytes(data)
    return paths


def script(path: Path, **content: Any) -> Path:
    """What the double of the compiler plays."""
    path.write_text(json.dumps(content))
    return path
