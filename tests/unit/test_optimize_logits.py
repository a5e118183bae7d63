"""Logits are centred only where a softmax alone reads them, and then answers stay."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tflite_models as models
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgeopt.model.tflite import parse
from edgeopt.optimize.logits import centred_logits, floored, logit_floors

WEIGHTS = np.array([[3, 1, 0], [2, 2, 0], [4, 0, 1], [3, 5, -1]], np.float32)
BIAS = np.array([1, 2, 3, 10], np.float32)


def classifier(*, weights: np.ndarray = WEIGHTS, bias: bool = True, shown: bool = False) -> bytes:
    """p = SOFTMAX(W x + b); with `shown` the logits are an output, too."""
    dense, softmax = schema.OperatorT(), schema.OperatorT()
    dense.opcodeIndex, dense.inputs, dense.outputs = 0, [0, 1, 2 if bias else -1], [3]
    dense.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    dense.builtinOptions = schema.FullyConnectedOptionsT()
    softmax.opcodeIndex, softmax.inputs, softmax.outputs = 1, [3], [4]
    softmax.builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
    softmax.builtinOptions = schema.SoftmaxOptionsT()
    softmax.builtinOptions.beta = 1.0
    graph = schema.SubGraphT()
    shapes = {"x": [1, 3], "w": [4, 3], "b": [4], "z": [1, 4], "p": [1, 4]}
    graph.tensors = [models.tensor(name, shape) for name, shape in shapes.items()]
    graph.tensors[1].buffer, graph.tensors[2].buffer = 1, 2
    graph.inputs, graph.operators = [0], [dense, softmax]
    graph.outputs = [4, 3] if shown else [4]
    held = [models.buffer(), models.buffer(weights), models.buffer(BIAS)]
    model = models.model_of(graph, schema.BuiltinOperator.FULLY_CONNECTED, held)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SOFTMAX
    code.version = 1
    model.operatorCodes.append(code)
    return models.pack(model)


def values(data: bytes, sample: np.ndarray) -> tuple[Any, Any]:
    """Probabilities and logits."""
    interpreter = Interpreter(model_content=data, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, sample)
    interpreter.invoke()
    return interpreter.get_tensor(4), interpreter.get_tensor(3)


@pytest.mark.filterwarnings("ignore:Warning. Enabling")
@pytest.mark.parametrize("bias", [True, False])
def test_probabilities_stay_and_logits_have_no_mean(bias: bool) -> None:
    before, (after, changed) = classifier(bias=bias), centred_logits(classifier(bias=bias))
    assert changed == 1
    sample = np.array([[0.5, -2.0, 1.5]], np.float32)
    (was, old), (now, new) = values(before, sample), values(after, sample)
    np.testing.assert_allclose(now, was, rtol=1e-5)
    np.testing.assert_allclose(new, old - old.mean(), atol=1e-6)
    assert [op.op for op in parse(after).subgraphs[0].operators] == ["FULLY_CONNECTED", "SOFTMAX"]


def test_logits_that_are_an_answer_themselves_stay() -> None:
    given = classifier(shown=True)
    assert centred_logits(given) == (given, 0)


def test_logits_without_a_mean_are_left_alone() -> None:
    given = classifier(weights=WEIGHTS - WEIGHTS.mean(0))
    assert centred_logits(given) == (given, 0)


def test_a_softmax_over_something_else_than_a_layer_is_left_alone() -> None:
    def edit(model: Any) -> None:
        model.subgraphs[0].operators = model.subgraphs[0].operators[1:]
        model.subgraphs[0].inputs = [3]

    given = models.edited(classifier(), edit)
    assert centred_logits(given) == (given, 0)


def test_only_centred_logits_may_be_cut_off() -> None:
    centred, _ = centred_logits(classifier())
    assert logit_floors(classifier()) == {}
    assert logit_floors(classifier(shown=True)) == {}
    assert logit_floors(centred) == {"z": pytest.approx(-math.log(1024 * 4))}
    ranges = {"z": ([-20.0], [5.0]), "x": ([-20.0], [1.0])}
    assert floored(ranges, classifier()) == ranges
    assert floored(ranges, centred)["z"] == ([pytest.approx(-math.log(4096))], [5.0])
    assert floored(ranges, centred)["x"] == ranges["x"]
    assert floored({"z": ([-2.0], [5.0])}, centred) == {"z": ([-2.0], [5.0])}


@pytest.mark.parametrize("classes", [3, 10, 1000])
def test_what_is_cut_off_is_less_than_a_quarter_step_of_any_probability(classes: int) -> None:
    rng = np.random.default_rng(classes)
    for spread in (0.5, 3.0, 30.0):
        logits = rng.standard_t(3, (500, classes)) * spread
        logits -= logits.mean(1, keepdims=True)
        cut = np.maximum(logits, -math.log(1024 * classes))
        before, after = (np.exp(z - z.max(1, keepdims=True)) for z in (logits, cut))
        shares = [p / p.sum(1, keepdims=True) for p in (before, after)]
        assert np.abs(shares[0] - shares[1]).max() < 1 / 1024
        assert (logits.argmax(1) == cut.argmax(1)).all()
