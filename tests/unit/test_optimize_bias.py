"""Bias correction: the mean of each channel comes back, at the edges of an image too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tflite_models as models
from ai_edge_litert.interpreter import Interpreter

from edgeopt.facts import Operator, Tensor
from edgeopt.model.tflite import parse
from edgeopt.optimize.bias import correct_biases, rounded, taps
from edgeopt.optimize.equalize_graph import floats
from edgeopt.optimize.statistics import Activation
from edgeopt.paths import demo_dir


def measured(mean: np.ndarray) -> Activation:
    none = np.zeros(0)
    return Activation(low=mean, high=mean, mean=mean, picked=none, channels=none.astype(int))


def run(data: bytes, sample: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.mark.parametrize("axis", [0, 3, None])
def test_rounded_weights_are_those_of_the_quantizer(axis: int | None) -> None:
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 5))
    made = rounded(weights, axis)
    others = tuple(i for i in range(4) if i != axis)
    step = np.abs(weights).max(axis=others if axis is not None else None, keepdims=True) / 127
    np.testing.assert_allclose(made / step, np.rint(made / step), atol=1e-9)
    assert (np.abs(made - weights) <= step / 2 + 1e-12).all()


def test_zero_weights_stay_zero() -> None:
    weights = np.zeros((2, 3))
    weights[0] = [0.5, 0, -0.2]
    np.testing.assert_array_equal(rounded(weights, 0) == 0, weights == 0)


@pytest.mark.parametrize("bias", [True, False])
def test_the_mean_input_gives_the_float_answer_with_rounded_weights(bias: bool) -> None:
    data = models.fully_connected(bias=bias)
    mean = np.array([0.3, -1.7, 2.1, 0.9])
    made, changed = correct_biases(data, {"x": measured(mean)}, per_channel=False)
    assert changed == 1
    op = parse(made).subgraphs[0].operators[0]
    weights, offset = op.inputs[1], op.inputs[2]
    assert weights is not None
    assert offset is not None
    quantized = rounded(floats(weights).astype(float), None) @ mean + floats(offset)
    np.testing.assert_allclose(quantized, run(data, mean[None].astype(np.float32))[0], rtol=1e-5)
    assert run(made, mean[None].astype(np.float32)).shape == (1, 2)  # it loads and runs


def test_a_layer_whose_input_was_not_measured_stays() -> None:
    data = models.fully_connected()
    assert correct_biases(data, {}) == (data, 0)


def operation(padding: str, stride: int = 1, dilation: int = 1) -> Operator:
    options = {"padding": padding}
    for axis in "hw":
        options |= {f"stride_{axis}": stride, f"dilation_{axis}_factor": dilation}  # type: ignore[dict-item]
    return Operator(
        index=0, subgraph=0, op="CONV_2D", version=1, inputs=(), outputs=(), options=options
    )


@pytest.mark.parametrize(("side", "kernel", "stride", "dilation"), [
    (5, 3, 1, 1), (6, 3, 2, 1), (7, 5, 2, 1), (9, 3, 1, 2), (4, 4, 1, 1), (3, 1, 1, 1),
])  # fmt: skip
def test_taps_count_places_on_the_image(side: int, kernel: int, stride: int, dilation: int) -> None:
    """Against a convolution of ones, written out."""
    source = Tensor(index=0, name="x", dtype="float32", shape=(1, side, side, 1))
    rows, columns = taps(operation("SAME", stride, dilation), source, (kernel, kernel))
    places = -(-side // stride)
    total = max((places - 1) * stride + (kernel - 1) * dilation + 1 - side, 0)
    image = np.zeros(side + total + kernel * dilation)
    image[total // 2 : total // 2 + side] = 1
    counted = [
        np.mean([image[o * stride + k * dilation] for o in range(places)]) for k in range(kernel)
    ]
    np.testing.assert_allclose(rows, counted)
    np.testing.assert_allclose(columns, counted)


def test_valid_padding_always_lies_on_the_image() -> None:
    source = Tensor(index=0, name="x", dtype="float32", shape=(1, 9, 9, 1))
    assert (taps(operation("VALID"), source, (3, 3))[0] == 1).all()


def test_every_layer_of_a_real_model_is_corrected_and_it_runs() -> None:
    path: Path = demo_dir() / "fashion.tflite"
    data = path.read_bytes()
    graph = parse(data).subgraphs[0]
    weighed = [
        op for op in graph.operators if op.op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    ]
    rng = np.random.default_rng(0)
    seen = {
        op.inputs[0].name: measured(rng.random(op.inputs[0].shape[-1]))
        for op in weighed
        if op.inputs[0] is not None and op.inputs[0].shape
    }
    made, changed = correct_biases(data, seen)
    assert changed == len(weighed)
    assert run(made, np.zeros((1, 28, 28, 1), np.float32)).shape == (1, 10)
