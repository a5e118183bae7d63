#!/usr/bin/env python3
"""CPU time of predicting where each operation of a model runs on the Edge TPU.

    benchmarks/placement.py [MODEL.tflite ...] [--target NAME] [--operations N] [--repeats N]
                            [--json FILE]

Without models: every source model of the shared Edge TPU pairs that is there (in `shared` beside
the clone, or EDGEOPT_SHARED), and always a synthetic one of --operations operations (250), half of
them convolutions with weights, of which some lie inside a bracket: the graph is then divided many
times. Times are those of the processor, not of the clock, so a busy machine changes them little;
each is the median over --repeats. `read` is reading the file's structure, `predict` the prediction,
`start` what is paid once: importing edgeopt's modules and reading the profile.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_BEGAN = time.process_time()
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from edgeopt.model.read import structure  # noqa: E402
from edgeopt.target import load_target  # noqa: E402
from edgeopt.verify import predict  # noqa: E402

SIDE, CHANNELS = 32, 64


class _Chain:
    """A model of one subgraph in the making; every tensor has one scale."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema, self.graph, self.model = schema, schema.SubGraphT(), schema.ModelT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.version, self.model.subgraphs = 3, [self.graph]
        self.model.buffers, self.model.operatorCodes = [schema.BufferT()], []
        for name, version in (("CONV_2D", 3), ("ADD", 2), ("RESHAPE", 1)):
            code = schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
            code.version = version
            self.model.operatorCodes.append(code)

    def tensor(self, name: str, shape: list[int], kind: int, data: Any = None) -> int:
        import numpy as np

        made, scale = self.schema.TensorT(), self.schema.QuantizationParametersT()
        scale.scale, scale.zeroPoint = [0.1], [0]
        made.name, made.shape, made.type, made.buffer = name.encode(), shape, kind, 0
        made.quantization = scale
        if data is not None:
            stored = self.schema.BufferT()
            stored.data = np.frombuffer(data.tobytes(), np.uint8)
            made.buffer = len(self.model.buffers)
            self.model.buffers.append(stored)
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def operator(self, code: int, inputs: list[int], output: int, kind: str) -> int:
        """`kind` names its options, "Conv2D"; strides are 1."""
        made = self.schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = code, inputs, [output]
        made.builtinOptionsType = getattr(self.schema.BuiltinOptions, f"{kind}Options")
        made.builtinOptions = getattr(self.schema, f"{kind}OptionsT")()
        if kind == "Conv2D":
            made.builtinOptions.strideH = made.builtinOptions.strideW = 1
        self.graph.operators.append(made)
        return output


def synthetic(path: Path, operations: int) -> Path:
    """A chain of int8 convolutions and additions, now and then a RESHAPE inside its bracket."""
    import flatbuffers
    import numpy as np

    rng, made = np.random.default_rng(0), _Chain()
    int8, int32 = made.schema.TensorType.INT8, made.schema.TensorType.INT32
    shape = [1, SIDE, SIDE * 3, CHANNELS]  # 196,608 elements: neither known mapped nor refused
    last = made.tensor("image", shape, int8)
    made.graph.inputs = [last]
    for index in range(operations):
        out = made.tensor(f"model/layer_{index}/Node", shape, int8)
        if index % 50 == 49:
            wanted = made.tensor(f"shape_{index}", [4], int32, np.array(shape, np.int32))
            last = made.operator(2, [last, wanted], out, "Reshape")
        elif index % 2:
            last = made.operator(1, [last, last], out, "Add")
        else:
            weights = rng.integers(-127, 127, (CHANNELS, 3, 3, CHANNELS), np.int8)
            w = made.tensor(f"weights_{index}", list(weights.shape), int8, weights)
            b = made.tensor(f"bias_{index}", [CHANNELS], int32, np.zeros(CHANNELS, np.int32))
            last = made.operator(0, [last, w, b], out, "Conv2D")
    made.graph.outputs = [last]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(made.model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(builder.Output())
    return path


def shared_models() -> list[Path]:
    folder = Path(os.environ.get("EDGEOPT_SHARED", ROOT.parent / "shared")) / "edgetpu"
    if not (folder / "pairs.json").is_file():
        return []
    sources = {pair["source"] for pair in json.loads((folder / "pairs.json").read_text())}
    return sorted(folder / "models" / source for source in sources)


def median_s(repeats: int, work: Callable[[], object]) -> float:
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return statistics.median(times)


def measure(path: Path, target: str, repeats: int) -> dict[str, Any]:
    profile = load_target(target).profile
    facts = structure(path)
    found = predict(facts, profile)
    assert found is not None
    return {
        "model": path.name,
        "operations": found.ops_total,
        "mapped": found.ops_mapped,
        "uncertain": found.ops_uncertain,
        "read_s": median_s(repeats, lambda: structure(path)),
        "predict_s": median_s(repeats, lambda: predict(facts, profile)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--target", default="edgetpu")
    parser.add_argument("--operations", type=int, default=250)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    load_target(given.target)
    start_s = time.process_time() - _BEGAN
    print(f"start {start_s * 1e3:.0f} ms, once")
    print(f"{'model':<58}{'ops':>5}{'mapped':>8}{'unsure':>8}{'read':>9}{'predict':>9}{'sum':>9}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        made = synthetic(Path(folder) / f"synthetic_{given.operations}.tflite", given.operations)
        for path in [*(given.models or shared_models()), made]:
            row = measure(path, given.target, given.repeats)
            rows.append(row)
            times = (row["read_s"], row["predict_s"], row["read_s"] + row["predict_s"])
            shown = "".join(f"{t * 1e3:>6.1f} ms" for t in times)
            counts = f"{row['operations']:>5}{row['mapped']:>8}{row['uncertain']:>8}"
            print(f"{row['model'][:57]:<58}{counts}{shown}")
    if given.json:
        given.json.write_text(json.dumps({"start_s": start_s, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
