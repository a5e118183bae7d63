"""Each rule by itself: broken, obeyed, and silent where the file does not say."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from builders import CONV, Net

import edgeopt.verify.operations  # noqa: F401 - registers the rules
from edgeopt.facts import Quantization, Tensor
from edgeopt.profile import load_profile
from edgeopt.profile.rules import RULES
from edgeopt.verify.checks import CHECKS
from edgeopt.verify.graph import Graph

F = "float32"
Build = Callable[[Net], Tensor]


def _found(rule: str, build: Build, **parameters: Any) -> str | None:
    """What the rule says of the operation that `build` added last."""
    net = Net()
    made = build(net)
    graph = Graph(net.facts(made).subgraphs[0])
    op = graph.subgraph.operators[-1]
    return CHECKS[rule].function(op, graph, parameters)


def _op(name: str, *shapes: tuple[int, ...] | None, out: Any = None, **options: Any) -> Build:
    return lambda net: net.op(name, *(net.input(F, s) for s in shapes), out=out, options=options)


def _reduce(*axes: int, shape: tuple[int, ...] = (1, 8, 8, 6)) -> Build:
    return lambda net: net.op("MEAN", net.input("int8", shape), net.integers(*axes))


def _concat(constant: bytes, inputs: int = 2) -> Build:
    def build(net: Net) -> Tensor:
        data = [net.input("int8", (1, 4)) for _ in range(inputs - 1)]
        quantization = Quantization(scales=(1.0,), zero_points=(-3,))
        more = {"quantization": quantization, "data": memoryview(constant)}
        return net.op("CONCATENATION", *data, net.constant("int8", (1, 4), **more))

    return build


def _paddings(*values: int) -> Build:
    def build(net: Net) -> Tensor:
        raw = memoryview(struct.pack(f"<{len(values)}i", *values))
        table = net.tensor("int32", (len(values) // 2, 2), constant=True, data=raw)
        return net.op("PAD", net.input("int8"), table)

    return build


def _strides(*values: int) -> Build:
    def build(net: Net) -> Tensor:
        ends = [net.integers(*values) for _ in range(3)]
        return net.op("STRIDED_SLICE", net.input("int8"), *ends)

    return build


def _depthwise(kernel: int, multiplier: int, *, constant: bool = True) -> Build:
    def build(net: Net) -> Tensor:
        shape = (1, 3, 3, kernel)
        weights = net.constant(F, shape) if constant else net.input(F, shape)
        options = {"depth_multiplier": multiplier}
        out = (F, (1, 8, 8, 8))
        return net.op("DEPTHWISE_CONV_2D", net.input(F), weights, out=out, options=options)

    return build


def _weights(shape: tuple[int, ...], dtype: str = F) -> Build:
    return lambda net: net.op("FULLY_CONNECTED", net.input(F, (1, 4)), net.constant(dtype, shape))


CASES: list[tuple[str, dict[str, Any], Build, Build]] = [
    ("inputs", {"runtime": (1,), "outputs": (1,)}, _op("ABS", (1, 4), (1, 4)), _op("ABS", (1, 4))),
    ("constant_inputs", {"inputs": (1,)}, _op("PAD", (1, 4), (4, 2)), _paddings(0, 0)),
    ("runtime_inputs", {"inputs": (1,)}, _weights((4, 4)), _op("MUL", (1, 4), (1, 4))),
    ("input_types", {"input": 1, "types": (F,)}, _weights((4, 4), "int4"), _weights((4, 4))),
    (
        "fused_activation",
        {"allowed": ("NONE",)},
        _op("MAX_POOL_2D", (1, 4), fused_activation="RELU"),
        _op("MAX_POOL_2D", (1, 4), fused_activation="NONE"),
    ),
    (
        "option_equals",
        {"options": ("beta",), "value": 1.0},
        _op("SOFTMAX", (1, 4), beta=2.0),
        _op("SOFTMAX", (1, 4), beta=1.0),
    ),
    (
        "option_at_least",
        {"options": ("block_size",), "limit": 2},
        _op("DEPTH_TO_SPACE", (1, 4), block_size=1),
        _op("DEPTH_TO_SPACE", (1, 4), block_size=2),
    ),
    (
        "not_both",
        {"options": ("a", "b")},
        _op("RESIZE_BILINEAR", (1, 4), a=True, b=True),
        _op("RESIZE_BILINEAR", (1, 4), a=True, b=False),
    ),
    (
        "same_dilation",
        {},
        _op("CONV_2D", (1, 4), **{**CONV, "dilation_w_factor": 2}),
        _op("CONV_2D", (1, 4), **CONV),
    ),
    (
        "rank",
        {"inputs": (0,), "least": 3, "most": 4},
        _op("SLICE", (4, 4)),
        _op("SLICE", (4, 4, 4)),
    ),
    ("constant_rank", {"ranks": (2,)}, _weights((4, 1, 4)), _weights((4, 4))),
    ("constant_shape", {"input": 1, "shapes": ((2, 2),)}, _paddings(0, 0), _paddings(0, 0, 0, 0)),
    ("max_elements", {"limit": 4}, _op("RESHAPE", (5,)), _op("RESHAPE", (4,))),
    (
        "max_scale",
        {"limit": 2},
        _op("RESIZE_BILINEAR", (1, 4, 4, 3), out=(F, (1, 12, 8, 3))),
        _op("RESIZE_BILINEAR", (1, 4, 4, 3), out=(F, (1, 8, 8, 3))),
    ),
    ("constant_input_zero", {}, _concat(bytes([253, 253, 253, 0])), _concat(bytes([253] * 4))),
    ("constant_input_zero", {}, _concat(bytes([253] * 4), 3), _op("CONCATENATION", (1, 4), (1, 4))),
    ("axis_excludes_batch", {}, _op("PACK", (2, 4), axis=0), _op("PACK", (2, 4), axis=-1)),
    ("axes_exclude_batch", {}, _reduce(-4, 1), _reduce(1, 2)),
    ("axes_multiple_of", {"multiple": 4}, _reduce(3), _reduce(3, shape=(1, 8, 8, 8))),
    ("padding_excludes_batch", {}, _paddings(1, 0, 0, 0), _paddings(0, 0, 1, 1)),
    ("constant_strides", {"least": 1, "most": 1}, _strides(1, 2), _strides(1, 1)),
    ("one_dimensional_output", {}, _op("FULLY_CONNECTED", (4, 4)), _op("FULLY_CONNECTED", (1, 4))),
    (
        "broadcast_ranks",
        {},
        _op("ADD", (2, 8, 8, 4), (8, 8, 4)),
        _op("ADD", (1, 8, 8, 4), (8, 8, 4)),
    ),
    ("depthwise_channels", {}, _depthwise(4, 1), _depthwise(8, 2)),
    (
        "unit_multiplier_unless_constant",
        {},
        _depthwise(8, 2, constant=False),
        _depthwise(8, 1, constant=False),
    ),
    ("dense_inner_dimension", {}, _weights((4, 16)), _weights((16, 4))),
    ("distinct_inputs", {}, _op("SUB"), _op("SUB", (4,), (4,))),
    ("one_dimensional_alpha", {}, _op("PRELU", (4, 4), (4, 4)), _op("PRELU", (4, 4), (1, 4))),
    ("alpha_per_channel_or_full", {}, _op("PRELU", (8, 4), (8, 1)), _op("PRELU", (8, 4), (4,))),
    ("same_batch", {}, _op("X", (2, 4), out=(F, (1, 4))), _op("X", (2, 4), out=(F, (2, 8)))),
    (
        "condition_shape",
        {},
        _op("SELECT", (3,), out=(F, (1, 4))),
        _op("SELECT", (1,), out=(F, (1, 4))),
    ),
    ("branch_shapes", {}, _op("SELECT", (1,), (2,), (1,)), _op("SELECT", (4,), (1,), (4,))),
    ("single_hot_shape", {}, _op("ONE_HOT", (2, 4)), _op("ONE_HOT", (1, 4))),
    ("lstm_kernel", {"full_inputs": (20, 24)}, _op("LSTM", (1, 4)), _op("LSTM", *[(1, 4)] * 20)),
]


@pytest.mark.parametrize(("rule", "parameters", "broken", "kept"), CASES, ids=[c[0] for c in CASES])
def test_a_rule_tells_broken_from_kept(
    rule: str, parameters: dict[str, Any], broken: Build, kept: Build
) -> None:
    if rule == "distinct_inputs":
        broken = _twice
    assert _found(rule, broken, **parameters)
    assert _found(rule, kept, **parameters) == ""


def _twice(net: Net) -> Tensor:
    data = net.input(F)
    return net.op("SUB", data, data)


UNKNOWN = [
    ("max_elements", {"limit": 4}, _op("RESHAPE", None)),
    ("max_scale", {"limit": 2}, _op("RESIZE_BILINEAR", None)),
    ("rank", {"inputs": (0,), "least": 3, "most": 4}, _op("SLICE", None)),
    ("same_dilation", {}, _op("CONV_2D", None)),
    ("fused_activation", {"allowed": ("NONE",)}, _op("CONV_2D", None)),
    ("option_equals", {"options": ("beta",), "value": 1.0}, _op("SOFTMAX", None)),
    ("axes_exclude_batch", {}, _op("MEAN", None, None)),
    ("axis_excludes_batch", {}, _op("PACK", None)),
    ("broadcast_ranks", {}, _op("ADD", None, (4,))),
    ("depthwise_channels", {}, _op("DEPTHWISE_CONV_2D", None)),
    ("dense_inner_dimension", {}, _op("FULLY_CONNECTED", None)),
    ("condition_shape", {}, _op("SELECT", None)),
]


@pytest.mark.parametrize(("rule", "parameters", "build"), UNKNOWN, ids=[u[0] for u in UNKNOWN])
def test_what_the_file_does_not_say_is_not_broken(
    rule: str, parameters: dict[str, Any], build: Build
) -> None:
    assert _found(rule, build, **parameters) is None


@pytest.mark.parametrize("reader", ["CAST", "LOGISTIC"])
def test_a_comparison_must_be_read_once_and_to_float(reader: str) -> None:
    net = Net()
    data = net.input(F)
    compared = net.op("LESS", data, data, out=("bool", (1, 8, 8, 4)))
    made = net.op(reader, compared, out=(F, (1, 8, 8, 4)))
    graph = Graph(net.facts(made).subgraphs[0])
    rule = CHECKS["bool_consumer"].function
    found = rule(graph.subgraph.operators[0], graph, {"operations": ("CAST",)})
    assert (found == "") is (reader == "CAST")
    shown = Graph(net.facts(compared).subgraphs[0])
    assert rule(shown.subgraph.operators[0], shown, {"operations": ("CAST",)})


def test_every_rule_survives_an_operation_without_anything() -> None:
    net = Net()
    net.op("CALL_ONCE", net.input(F))
    facts = net.facts()
    empty = (
        facts.subgraphs[0]
        .operators[0]
        .__class__(index=0, subgraph=0, op="CALL_ONCE", version=1, inputs=(), outputs=())
    )
    graph = Graph(facts.subgraphs[0])
    for name in ("edgetpu-v1", "android-gpu"):
        for rule in load_profile(name).operations.values():
            for check in rule.checks:
                found = CHECKS[check.rule].function(empty, graph, check.parameters)
                assert found is None or isinstance(found, str)


def test_every_requirement_can_be_said_with_the_parameters_that_a_rule_must_have() -> None:
    for name, meaning in CHECKS.items():
        must = {key: "x" for key, kind in RULES[name].items() if not kind.endswith("?")}
        assert meaning.required.format(**must)
