"""Coarser weight scales change what a file compresses to, and not what it computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.dataset import Preprocess, load_dataset
from edgeopt.model import read
from edgeopt.model.packing import pack, unpack
from edgeopt.optimize import ConversionRequest, quantize
from edgeopt.optimize.coarse_scales import coarsen
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent
from edgeopt.quality import QualityRequest

FLOATS = (demo_dir() / "fashion.tflite").read_bytes()
PLAIN = QualityRequest(ranges="minmax", equalization="off", bias_correction="off")


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The demo model in plain int8."""
    path = tmp_path_factory.mktemp("dense") / "int8.tflite"
    data = load_dataset(
        f"{demo_dir() / 'samples.npz'}:x_calib", preprocess=Preprocess.parse("scale=1/255")
    )
    request = ConversionRequest(scheme="int8", quality=PLAIN)
    quantize(demo_dir() / "fashion.tflite", request, path, dataset=data, progress=Silent())
    return path.read_bytes()


def kernels(data: bytes) -> list[tuple[Any, Any, Any]]:
    """Input, weight and bias tensors of each weighted operation."""
    graph = unpack(data).subgraphs[0]
    found = [[graph.tensors[int(i)] for i in op.inputs[:3]] for op in graph.operators]
    return [(f[0], f[1], f[2]) for f in found if len(f) == 3 and f[1].type == 9]


def test_scales_are_few_and_never_finer_than_before(dense: bytes) -> None:
    before, after = kernels(dense), kernels(coarsen(FLOATS, dense, clustered=False))
    assert len(after) == len(before) > 5
    for (_, old, _), (given, new, bias) in zip(before, after, strict=True):
        if len(old.quantization.scale) == 1:
            continue
        steps = 4 * np.log2(np.asarray(new.quantization.scale, np.float64))
        assert np.abs(steps - np.round(steps)).max() < 1e-4
        ratio = np.asarray(new.quantization.scale) / np.asarray(old.quantization.scale)
        assert ratio.min() > 0.9999 and ratio.max() < 2**0.25 * 1.0001
        wanted = given.quantization.scale[0] * np.asarray(new.quantization.scale)
        assert np.allclose(bias.quantization.scale, wanted, rtol=1e-5)


def test_a_clustered_layer_has_one_scale_and_as_few_integers_as_clusters(dense: bytes) -> None:
    model = unpack(FLOATS)
    graph, few = model.subgraphs[0], []
    for op in graph.operators:
        weights = graph.tensors[int(op.inputs[1])] if len(op.inputs) > 2 else None
        if weights is None or len(weights.shape) != 4 or weights.shape[1] != 1:
            continue
        buffer = model.buffers[weights.buffer]
        values = np.frombuffer(bytes(buffer.data), "<f4")
        step = np.abs(values).max() / 7
        buffer.data = (np.round(values / step) * step).astype("<f4").tobytes()  # 15 values
        few.append(weights.name)
    made = unpack(coarsen(pack(model), dense, clustered=True))
    checked = 0
    for tensor in made.subgraphs[0].tensors:
        if tensor.name in few:
            integers = np.frombuffer(bytes(made.buffers[tensor.buffer].data), np.int8)
            assert len(np.unique(integers)) <= 15
            assert len(set(tensor.quantization.scale.tolist())) == 1
            checked += 1
    assert checked == len(few) > 2


def test_the_outputs_stay_within_rounding(dense: bytes, tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    def run(data: bytes) -> np.ndarray:
        (tmp_path / "model.tflite").write_bytes(data)
        facts = read(tmp_path / "model.tflite")
        quantization = facts.inputs[0].quantization
        assert quantization is not None
        interpreter = Interpreter(model_content=data)
        interpreter.allocate_tensors()
        place, out = (d[0]["index"] for d in (interpreter.get_input_details(),
                                              interpreter.get_output_details()))  # fmt: skip
        answers = []
        with np.load(demo_dir() / "samples.npz") as stored:
            x = stored["x"] / 255 / quantization.scales[0] + quantization.zero_points[0]
        for sample in np.clip(np.round(x), -128, 127).astype(np.int8):
            interpreter.set_tensor(place, sample[None])
            interpreter.invoke()
            answers.append(interpreter.get_tensor(out)[0].astype(int))
        return np.array(answers)

    before, after = run(dense), run(coarsen(FLOATS, dense, clustered=False))
    assert (before.argmax(1) == after.argmax(1)).mean() >= 0.95
    assert np.abs(before - after).mean() < 4  # of 256 steps


def test_what_cannot_be_matched_is_left_as_it_is(dense: bytes) -> None:
    other = unpack(FLOATS)
    for tensor in other.subgraphs[0].tensors:
        tensor.name = b"another " + tensor.name
    assert coarsen(pack(other), dense, clustered=True) == dense
