"""The child that rounds some layers of a float model on samples that it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeopt.child import serve
from edgeopt.facts import Operator
from edgeopt.model import read
from edgeopt.model.packing import unpack
from edgeopt.optimize.copies import load
from edgeopt.optimize.layer_errors_parts import part
from edgeopt.optimize.rounding import ROUNDED, Layer, Moments, patches

__all__ = ["main"]

_PATCHES = 8192  # over all samples; a kernel reads at most a few thousand values
_WIDEST = 2304  # inputs of one output: 256 channels of 3 x 3; the time grows with its cube


def _layers(graph: Any) -> list[Operator]:
    return [
        op
        for op in graph.operators
        if op.op in ROUNDED
        and op.inputs[0] is not None
        and not op.inputs[0].constant
        and op.inputs[1] is not None
        and op.inputs[1].data is not None
        and op.inputs[1].dtype == "float32"
        and _width(op) <= _WIDEST
    ]


def _width(op: Operator) -> int:
    """How many values one output is made of."""
    shape = (op.inputs[1].shape if op.inputs[1] else None) or (1,)
    size = 1
    for side in shape[1:3] if op.op == "DEPTHWISE_CONV_2D" else shape[1:]:
        size *= side
    return size


def answer(message: dict[str, Any], arrays: list[Any]) -> dict[str, Any]:
    """Every `step`-th layer from `first`, widest first, into the .npz `output` of each of the ways:
    as the `model` is, or with the `copies` (a file) that it is to be held with. `arrays`: one an
    input of the model, the first axis counting samples."""
    import numpy as np

    path = Path(message["model"])
    graph = read(path).subgraphs[0]
    ordered = sorted(_layers(graph), key=lambda op: (-_width(op), op.index))
    mine = ordered[message["first"] :: message["step"]]
    seen = _seen(path, graph, mine, arrays)
    ways = [load(Path(way["copies"])) if way["copies"] else {} for way in message["ways"]]
    stored: list[dict[str, Any]] = [{} for _ in ways]
    for op in mine:
        single = not message["per_channel"] or (
            message["dense_per_tensor"] and op.op == "FULLY_CONNECTED"
        )
        try:
            layer = Layer(op, seen.pop(op.index), one_scale=single)
        except ValueError:
            continue  # it is rounded to the nearest steps
        assert op.inputs[0] is not None
        for copies, out in zip(ways, stored, strict=True):
            made = layer.rounded(copies.get(op.inputs[0].name), copies.get(op.outputs[0].name))
            if np.isfinite(made.weights).all() and np.isfinite(made.shift).all():
                out[f"weights_{op.index}"], out[f"shift_{op.index}"] = made.weights, made.shift
    for way, out in zip(message["ways"], stored, strict=True):
        np.savez(way["output"], **out)
    return {"layers": [len(out) // 2 for out in stored]}


def _seen(path: Path, graph: Any, mine: list[Operator], arrays: list[Any]) -> dict[int, Moments]:
    """What these layers read while the model runs, by their number."""
    wanted = sorted({op.inputs[0].index for op in mine if op.inputs[0]})
    inputs = [t.index for t in graph.inputs]
    everything = [op.index for op in graph.operators]
    content = part(unpack(path.read_bytes()), everything, inputs, wanted)
    moments = {op.index: Moments(op) for op in mine}
    most = max(1, _PATCHES // len(arrays[0]))
    for number, found in enumerate(_runs(content, arrays)):
        values = dict(zip(wanted, found, strict=True))
        for op in mine:
            assert op.inputs[0] is not None
            for value in values[op.inputs[0].index]:
                moments[op.index].add(patches(value, op, most, number))
    return moments


def _runs(content: bytes, arrays: list[Any]) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    from edgeopt.optimize.calibration_worker import batched

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    outputs = [detail["index"] for detail in interpreter.get_output_details()]
    for sample in zip(*arrays, strict=True):
        for detail, value in zip(details, sample, strict=True):
            batch = int(detail["shape"][0]) if len(detail["shape"]) else None
            interpreter.set_tensor(detail["index"], batched(value, batch))
        interpreter.invoke()
        yield [interpreter.get_tensor(index) for index in outputs]


def main() -> None:
    serve(answer, what="Rounding the weights", package="ai-edge-litert")
