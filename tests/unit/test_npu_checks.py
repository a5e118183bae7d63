"""Each rule that NPU compilers state tells broken from kept, and not known from broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from builders import Net

import edgeopt.verify.operations  # noqa: F401 - registers the rules
from edgeopt.facts import Quantization, Tensor
from edgeopt.verify.checks import CHECKS
from edgeopt.verify.graph import Graph

Build = Callable[[Net], Tensor]
IMAGE = (1, 8, 8, 4)


def _found(rule: str, build: Build, **parameters: Any) -> str | None:
    net = Net()
    graph = Graph(net.facts(build(net)).subgraphs[0])
    return CHECKS[rule].function(graph.subgraph.operators[-1], graph, parameters)


def _op(name: str, shape: Any = IMAGE, out: Any = None, **options: Any) -> Build:
    return lambda net: net.op(
        name, net.input("int8", shape), out=("int8", out or shape), options=options
    )


def _pool(side: int, stride: int, padding: str = "SAME") -> Build:
    size = -(-8 // stride) if padding == "SAME" else (8 - side) // stride + 1
    return _op("MAX_POOL_2D", IMAGE, (1, size, size, 4), filter_height=side, filter_width=side,
               stride_h=stride, stride_w=stride, padding=padding)  # fmt: skip


def _conv(stride: tuple[int, int], kernel: int = 1, op: str = "TRANSPOSE_CONV") -> Build:
    def build(net: Net) -> Tensor:
        inputs = [net.integers(1, 8, 8, 4), net.constant("int8", (4, kernel, kernel, 4))]
        options = {"stride_h": stride[0], "stride_w": stride[1]}
        return net.op(op, *inputs, net.input("int8", (1, 1, 8, 4)), options=options)

    return build


def _axes(op: str, *axes: int, shape: Any = IMAGE) -> Build:
    return lambda net: net.op(op, net.input("int8", shape), net.integers(*axes))


def _resize(size: tuple[int, int], shape: Any = IMAGE, **options: Any) -> Build:
    return _op("RESIZE_BILINEAR", shape, (1, *size, 4), **options)


def _pair(scale: float) -> Build:
    def build(net: Net) -> Tensor:
        other = net.tensor(
            "int8", IMAGE, quantization=Quantization(scales=(scale,), zero_points=(0,))
        )
        return net.op("MAXIMUM", net.input(), other)

    return build


def _cast(dtype: str) -> Build:
    return lambda net: net.op("GELU", net.input(), out=(dtype, IMAGE))


def _bare(dtype: str) -> Build:
    return lambda net: net.op("ABS", net.tensor(dtype, IMAGE, quantization=None))


FACTORS = {"factors": (2, 4, 8), "half_pixel_factors": (2,)}
FREE = {"limit": 3, "free_padding": "VALID"}
CASES: list[tuple[str, dict[str, Any], Build, Build]] = [
    ("stride", {"limit": 3}, _pool(4, 4, "VALID"), _pool(4, 3)),
    ("stride", FREE, _pool(5, 4), _pool(5, 4, "VALID")),
    ("stride", FREE, _pool(5, 4), _pool(4, 4)),  # SAME that adds nothing
    ("kernel", {"side": 256, "same_side": 8}, _pool(9, 1), _pool(8, 1)),
    ("kernel", {"side": 4}, _pool(5, 1), _pool(4, 1)),
    ("resize_factor", FACTORS, _resize((24, 24)), _resize((32, 32))),
    ("resize_factor", FACTORS, _resize((16, 32)), _resize((16, 16))),
    ("resize_factor", FACTORS, _resize((32, 32), half_pixel_centers=True),
     _resize((16, 16), half_pixel_centers=True)),
    ("resize_factor", FACTORS, _resize((16, 16), align_corners=True),
     _resize((15, 15), align_corners=True)),
    ("resize_factor", FACTORS, _resize((7, 7)), _resize((7, 7), (1, 1, 1, 4))),
    ("resize_factor", FACTORS, _resize((1, 24), (1, 1, 8, 4)), _resize((1, 16), (1, 1, 8, 4))),
    ("last_axis", {"most": 127}, _axes("ARG_MAX", 1), _axes("ARG_MAX", -1)),
    ("last_axis", {"most": 3}, _axes("ARG_MAX", 3), _axes("ARG_MAX", 3, shape=(1, 8, 8, 3))),
    ("same_type", {"types": ("int8", "uint8")}, _cast("uint8"), _cast("int8")),
    ("same_shape", {}, _op("EXP", IMAGE, (1, 4)), _op("EXP")),
    ("same_quantization", {"inputs": (0, 1)}, _pair(0.2), _pair(0.1)),
    ("quantized", {}, _bare("int8"), _bare("int32")),
    ("batch_one", {}, _op("MEAN", (2, 8, 8, 4)), _op("MEAN")),
    ("transposed_stride", {}, _conv((3, 3)), _conv((2, 2), 3)),
    ("transposed_stride", {}, _conv((2, 1), 3), _conv((1, 2))),
    ("depth_reduction", {}, _axes("MEAN", 3), _axes("MEAN", 1, 2)),
    ("depth_reduction", {}, _axes("MEAN", -1), _axes("MEAN", -1, shape=(8, 4))),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "parameters", "broken", "kept"), CASES)
def test_a_rule_tells_broken_from_kept(
    rule: str, parameters: dict[str, Any], broken: Build, kept: Build
) -> None:
    assert _found(rule, broken, **parameters)
    assert _found(rule, kept, **parameters) == ""


@pytest.mark.parametrize(("rule", "parameters"), [(c[0], c[1]) for c in CASES])
def test_what_the_file_does_not_say_is_not_broken(rule: str, parameters: dict[str, Any]) -> None:
    bare = _op("ABS", None)
    if rule not in ("same_type", "same_quantization", "quantized"):
        assert _found(rule, bare, **parameters) in (None, "")
