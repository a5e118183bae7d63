"""The range search: ends are drawn in where the answers do not need what lies outside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_models as models
from ai_edge_litert import schema_py_generated as schema

from edgeopt.dataset import Preprocess, load_dataset
from edgeopt.model import read
from edgeopt.optimize import ConversionRequest, quantize
from edgeopt.optimize.ranges_search import descend, quantized, search
from edgeopt.optimize.statistics import fitted_samples, held_out
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent
from edgeopt.quality import QualityRequest

VALUES = np.linspace(-3, 5, 1001, dtype=np.float32)


def far_and_near(*, relu: bool) -> bytes:
    """z = x * 1, then y = RELU(z) or z * 1: x of 1 x 8."""
    operators = []
    for place in range(2):
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, [place, 3], [place + 1]
        operator.builtinOptionsType = schema.BuiltinOptions.MulOptions
        operator.builtinOptions = schema.MulOptionsT()
        operators.append(operator)
    if relu:
        operators[1].builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU
    graph = schema.SubGraphT()
    graph.tensors = [models.tensor(name, [1, 8]) for name in ("x", "z", "y")]
    graph.tensors.append(models.tensor("one", [8]))
    graph.tensors[3].buffer = 1
    graph.inputs, graph.outputs, graph.operators = [0], [2], operators
    held = [models.buffer(), models.buffer(np.ones(8, np.float32))]
    return models.pack(models.model_of(graph, schema.BuiltinOperator.MUL, held))


def found(folder: Path, data: bytes, samples: np.ndarray, **more: Any) -> Any:
    path = folder / "float.tflite"
    path.write_bytes(data)
    graph = read(path).subgraphs[0]
    low, high = float(samples.min()), float(samples.max())
    ranges = {t.name: ([low], [high]) for t in graph.tensors if not t.constant}
    ends = [t.index for t in graph.outputs]
    return search(path, ranges, [samples], ends=ends, centred=False, **more)


def lopsided() -> np.ndarray:
    """Values below 1, and in each sample one down to -20."""
    rng = np.random.default_rng(0)
    samples = rng.uniform(0, 1, (24, 8)).astype(np.float32)
    samples[:, 0] = rng.uniform(-20, -4, 24)
    return samples


@pytest.mark.parametrize(("low", "high"), [(-3.0, 5.0), (0.0, 5.0), (-3.0, 0.0)])
def test_a_quantized_value_is_at_most_half_a_step_away(low: float, high: float) -> None:
    inside = VALUES[(low <= VALUES) & (high >= VALUES)]
    step = (high - low) / 255
    made = quantized(inside, low, high)
    assert np.abs(made - inside).max() <= step * 0.501
    assert len(np.unique(made)) <= 256
    assert quantized(np.zeros(1, np.float32), low, high)[0] == 0


def test_what_lies_outside_is_clipped_and_finer_bits_are_finer() -> None:
    assert quantized(VALUES, -1.0, 1.0).max() == pytest.approx(1, abs=0.01)
    error = [np.abs(quantized(VALUES, -3, 5, bits=bits) - VALUES).max() for bits in (8, 16)]
    assert error[1] < error[0] / 200


def test_the_descent_finds_both_ends() -> None:
    def error(low: float, high: float) -> float:
        return 1 + (low - 0.5) ** 2 + (high - 0.7) ** 2

    assert descend(lambda low, high: error(low, high) ** 9, signed=True) == (0.5, 0.7)


def test_a_gain_that_may_be_chance_moves_nothing() -> None:
    assert descend(lambda low, high: 1 - (low + high < 2) * 0.02, signed=True) == (1.0, 1.0)


def test_an_end_that_is_not_there_is_not_moved() -> None:
    tried: list[float] = []

    def error(low: float, high: float) -> float:
        tried.append(low)
        return high

    assert descend(error, signed=False) == (1.0, 0.4)
    assert set(tried) == {1.0}


def test_values_that_a_relu_takes_away_are_clipped(tmp_path: Path) -> None:
    shares = found(tmp_path, far_and_near(relu=True), lopsided())
    assert shares["z"][0] <= 0.5
    assert shares["z"][1] == 1.0


def test_values_that_the_answer_needs_are_kept(tmp_path: Path) -> None:
    assert found(tmp_path, far_and_near(relu=False), lopsided()) == {}


def test_only_tensors_with_a_scale_of_their_own_are_searched(tmp_path: Path) -> None:
    shares = found(tmp_path, far_and_near(relu=True), lopsided())
    assert set(shares) == {"z"}  # not the input, nor the output


def test_the_search_is_the_same_each_time(tmp_path: Path) -> None:
    data = far_and_near(relu=True)
    assert found(tmp_path, data, lopsided()) == found(tmp_path, data, lopsided())


def demo(folder: Path, **wanted: Any) -> Any:
    spec = f"{demo_dir() / 'samples.npz'}:x_calib"
    data = load_dataset(spec, preprocess=Preprocess.parse("scale=1/255"))
    request = ConversionRequest(
        scheme="int8",
        quality=QualityRequest(ranges="search", equalization="off", bias_correction="off"),
        **wanted,
    )
    float_path = demo_dir() / "fashion.tflite"
    return quantize(float_path, request, folder / "out.tflite", dataset=data, progress=Silent())


@pytest.mark.parametrize("samples", [12, 60])
def test_search_can_be_asked_for(tmp_path: Path, samples: int) -> None:
    done = demo(tmp_path, calibration_samples=samples)
    assert done.quality["chosen"]["ranges"] == "search"
    assert done.quality["why"] == "as asked for"
    assert done.layer_errors["output_sqnr_db"] > 20


def test_fitted_samples_are_never_those_held_out() -> None:
    class Numbers:
        """A double of a data set: sample i is the number i."""

        def spread(self, limit: int) -> Any:
            return ((np.array(number),) for number in range(limit))

    draw: Callable[..., Any] = fitted_samples
    [drawn] = draw(Numbers(), 60, 60, 10)
    assert len(drawn) == 10
    assert not any(held_out(int(number), 60) for number in drawn)


def test_a_model_too_large_to_look_at_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeopt.optimize.ranges_search._WORK", 1.0)
    assert found(tmp_path, far_and_near(relu=True), lopsided()) == {}
