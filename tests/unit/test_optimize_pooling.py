"""Pooling over a whole map becomes a MEAN: the same numbers, and a scale of its own in int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tflite_models as models
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgeopt.dataset import load_dataset
from edgeopt.model import read
from edgeopt.optimize import ConversionRequest, quantize
from edgeopt.optimize.pooling import mean_of_pools
from edgeopt.progress import Silent
from edgeopt.quality import QualityRequest


def pool(side: int, window: int, activation: int = schema.ActivationFunctionType.NONE) -> bytes:
    """y = AVERAGE_POOL_2D(x), x of 1 x side x side x 3."""
    left = side - window + 1
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    operator.builtinOptionsType = schema.BuiltinOptions.Pool2DOptions
    options = schema.Pool2DOptionsT()
    options.padding = schema.Padding.VALID
    options.strideW = options.strideH = 1
    options.filterHeight = options.filterWidth = window
    options.fusedActivationFunction = activation
    operator.builtinOptions = options
    graph = schema.SubGraphT()
    graph.tensors = [
        models.tensor("x", [1, side, side, 3]),
        models.tensor("y", [1, left, left, 3]),
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [1], [operator]
    model = models.model_of(graph, schema.BuiltinOperator.AVERAGE_POOL_2D, [models.buffer()])
    model.signatureDefs = [models.signature({"x": 0}, {"y": 1}, "serving_default")]
    return models.pack(model)


def answer(data: bytes, value: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], value)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_the_mean_computes_what_the_pool_did() -> None:
    value = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    data, count = mean_of_pools(pool(8, 8))
    assert count == 1
    before, after = answer(pool(8, 8), value), answer(data, value)
    assert before.shape == after.shape == (1, 1, 1, 3)
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "data",
    [pool(8, 4), pool(8, 8, schema.ActivationFunctionType.RELU)],
    ids=["a part of the map", "an activation"],
)
def test_other_pools_stay(data: bytes) -> None:
    assert mean_of_pools(data) == (data, 0)


def test_sides_that_the_edge_tpu_does_not_reduce_stay_pools() -> None:
    assert mean_of_pools(pool(7, 7), multiple=4)[1] == 0
    assert mean_of_pools(pool(8, 8), multiple=4)[1] == 1
    assert mean_of_pools(pool(7, 7))[1] == 1


def test_int8_keeps_the_digits_of_averages(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    np.save(tmp_path / "x.npy", rng.normal(size=(60, 8, 8, 3)).astype(np.float32))
    source = tmp_path / "pool.tflite"
    source.write_bytes(pool(8, 8))
    scales = {}
    for name, quality in (
        ("auto", QualityRequest()),
        ("plain", QualityRequest(ranges="minmax", equalization="off", bias_correction="off")),
    ):
        made = quantize(
            source,
            ConversionRequest(scheme="int8", quality=quality, processes=1),
            tmp_path / f"{name}.tflite",
            dataset=load_dataset(str(tmp_path / "x.npy")),
            progress=Silent(),
        )
        facts = read(made.path)
        assert facts.outputs[0].quantization is not None
        scales[name] = facts.outputs[0].quantization.scales[0]
        assert {op.op for op in facts.operators()} == {
            "MEAN" if name == "auto" else "AVERAGE_POOL_2D"
        }
    assert scales["auto"] < scales["plain"] / 4  # 64 values average to an eighth of their spread
