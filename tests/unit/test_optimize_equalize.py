"""Equalization: what it may scale, that the function stays, and that scaling before is undone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hard_models
import numpy as np
import pytest
import tflite_models as models
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgeopt.model.tflite import parse
from edgeopt.optimize.equalize import equalize
from edgeopt.optimize.equalize_graph import channel_graph, floats
from edgeopt.optimize.statistics import Activation
from edgeopt.paths import demo_dir

PLAIN = (demo_dir() / "fashion.tflite").read_bytes()
OP = schema.BuiltinOperator


def images() -> np.ndarray:
    with np.load(demo_dir() / "samples.npz") as stored:
        return stored["x_calib"][:24].astype(np.float32) / 255


def everything(data: bytes, samples: np.ndarray) -> dict[str, np.ndarray]:
    """Every float activation by name, samples first."""
    interpreter = Interpreter(
        model_content=data,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=_reference(),
    )
    interpreter.allocate_tensors()
    graph = parse(data).subgraphs[0]
    made = [*graph.inputs, *(t for op in graph.operators for t in op.outputs)]
    found: dict[str, list[np.ndarray]] = {t.name: [] for t in made}
    for sample in samples:
        interpreter.set_tensor(graph.inputs[0].index, sample[None].astype(np.float32))
        interpreter.invoke()
        for tensor in made:
            found[tensor.name].append(interpreter.get_tensor(tensor.index)[0])
    return {name: np.stack(values) for name, values in found.items()}


def _reference() -> Any:
    from ai_edge_litert.interpreter import OpResolverType

    return OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def seen(values: dict[str, np.ndarray]) -> dict[str, Activation]:
    rows = {name: each.reshape(-1, each.shape[-1]) for name, each in values.items()}
    return {
        name: Activation(
            low=each.min(0), high=each.max(0), mean=each.mean(0),
            picked=each.ravel()[:100], channels=np.arange(each.size)[:100] % each.shape[-1],
        )
        for name, each in rows.items()
    }  # fmt: skip


def spread(values: np.ndarray) -> float:
    """Largest over smallest channel maximum, channels that are always zero left out."""
    size = np.abs(values).reshape(-1, values.shape[-1]).max(0)
    live = size[size > 0]
    return float(live.max() / live.min())


def hard(seed: int = 0) -> bytes:
    easy = hard_models.with_residual_adds(hard_models.without_clamps(PLAIN))
    return hard_models.rescaled(easy, seed=seed)


@pytest.mark.parametrize("per_tensor", [False, True])
def test_the_function_of_a_badly_scaled_model_stays(per_tensor: bool) -> None:
    before = everything(hard(), images())
    made = equalize(hard(), seen(before), dense_per_tensor=per_tensor)
    assert made is not None
    after = everything(made.model, images())
    [output] = [t.name for t in parse(hard()).subgraphs[0].outputs]
    np.testing.assert_allclose(after[output], before[output], atol=1e-5)
    for name, factor in made.factors.items():
        scale = np.abs(before[name] / factor).max()
        np.testing.assert_allclose(after[name], before[name] / factor, atol=1e-4 * scale)


def test_how_a_model_was_scaled_before_does_not_matter() -> None:
    ranges = []
    for data in (hard(1), hard(2)):
        found = equalize(data, seen(everything(data, images())))
        assert found is not None
        ranges.append(everything(found.model, images()))
    for name, values in ranges[0].items():
        one, other = (np.abs(v).reshape(-1, v.shape[-1]).max(0) for v in (values, ranges[1][name]))
        live = one > 1e-3 * one.max()
        ratio = np.log(one[live] / other[live])
        assert np.ptp(ratio) < 0.2, name  # a common factor of all channels is free


def test_channels_come_closer_together() -> None:
    before = everything(hard(), images())
    found = equalize(hard(), seen(before))
    assert found is not None
    after = everything(found.model, images())
    gains = [spread(before[name]) / spread(after[name]) for name in found.factors]
    assert np.median(gains) > 30
    assert found.spread > 500


def test_a_clamped_activation_keeps_its_channels() -> None:
    data = hard_models.rescaled(PLAIN)
    clamped = {
        op.outputs[0].name
        for op in parse(data).subgraphs[0].operators
        if op.options.get("fused_activation") == "RELU6"
    }
    assert clamped
    found = equalize(data, seen(everything(data, images())))
    assert not clamped & set(found.factors if found else ())


def test_inputs_and_outputs_are_pinned() -> None:
    graph = parse(hard()).subgraphs[0]
    scales = channel_graph(graph)
    for tensor in (*graph.inputs, *graph.outputs):
        assert (scales.group[scales.nodes(tensor.index)] == -1).all()


def test_an_unknown_operation_pins_what_it_touches() -> None:
    data = hard_models.with_unknown_operation(hard())
    scales = channel_graph(parse(data).subgraphs[0])
    strange = [op for op in parse(data).subgraphs[0].operators if op.custom or op.op == "TANH"]
    for op in strange:
        for tensor in (*op.inputs, *op.outputs):
            if tensor is not None and tensor.index in scales.first:
                assert (scales.group[scales.nodes(tensor.index)] == -1).all()


def chain(parts: Sequence[tuple[int, np.ndarray | None]], width: int = 6) -> bytes:
    """x[1, width] through operators with one constant each: dense layers, MUL, ADD, RELU."""
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [models.tensor("x", [1, width])], []
    buffers, codes, last = [models.buffer()], [], 0
    for number, (code, values) in enumerate(parts):
        source = last
        node = schema.OperatorT()
        node.opcodeIndex, node.inputs = number, [source]
        if values is not None:
            buffers.append(models.buffer(values.astype(np.float32)))
            graph.tensors.append(models.tensor(f"c{number}", list(values.shape)))
            graph.tensors[-1].buffer = len(buffers) - 1
            node.inputs = [source, len(graph.tensors) - 1]
        if code == OP.FULLY_CONNECTED:
            node.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
            node.builtinOptions = schema.FullyConnectedOptionsT()
            node.inputs = [*node.inputs, -1]
            width = values.shape[0] if values is not None else width
        graph.tensors.append(models.tensor(f"t{number}", [1, width]))
        last = len(graph.tensors) - 1
        node.outputs = [last]
        graph.operators.append(node)
        operator = schema.OperatorCodeT()
        operator.builtinCode, operator.deprecatedBuiltinCode = code, min(code, 127)
        operator.version = 1
        codes.append(operator)
    graph.inputs, graph.outputs = [0], [last]
    model = models.model_of(graph, 0, buffers)
    model.operatorCodes = codes
    return models.pack(model)


def test_an_unfolded_batch_normalization_is_evened_out() -> None:
    rng = np.random.default_rng(0)
    bad = 10.0 ** rng.uniform(-1.5, 1.5, 8)
    data = chain(
        [
            (OP.FULLY_CONNECTED, rng.normal(size=(8, 6)) * bad[:, None]),
            (OP.MUL, rng.uniform(0.5, 2, 8)),
            (OP.ADD, rng.normal(size=8) * bad),
            (OP.RELU, None),
            (OP.FULLY_CONNECTED, rng.normal(size=(4, 8)) / bad),
        ]
    )
    samples = rng.normal(size=(200, 6))
    before = everything(data, samples)
    found = equalize(data, seen(before))
    assert found is not None
    after = everything(found.model, samples)
    np.testing.assert_allclose(after["t4"], before["t4"], rtol=1e-3, atol=1e-4)
    for name in ("t0", "t2", "t3"):
        assert spread(after[name]) < spread(before[name]) / 20


def test_zeros_of_a_pruned_model_stay_zero() -> None:
    data = hard()

    def prune(model: Any) -> None:
        for op in parse(data).subgraphs[0].operators:
            if op.op == "CONV_2D" and op.inputs[1] is not None:
                values = floats(op.inputs[1]).copy()
                values[np.abs(values) < np.median(np.abs(values))] = 0
                where = model.subgraphs[0].tensors[op.inputs[1].index].buffer
                model.buffers[where].data = np.frombuffer(values.tobytes(), np.uint8)

    pruned = models.edited(data, prune)
    found = equalize(pruned, seen(everything(pruned, images())))
    assert found is not None
    pairs = zip(
        parse(pruned).subgraphs[0].operators,
        parse(found.model).subgraphs[0].operators,
        strict=True,
    )
    for one, other in pairs:
        if one.op == "CONV_2D" and one.inputs[1] and other.inputs[1]:
            zeros = floats(one.inputs[1]) == 0
            assert zeros.any()
            np.testing.assert_array_equal(floats(other.inputs[1]) == 0, zeros)


def test_a_model_that_needs_nothing_is_left_alone(tmp_path: Path) -> None:
    data = models.fully_connected()
    values = {"x": np.ones((3, 4)), "y": np.ones((3, 2))}
    assert equalize(data, seen(values)) is None
