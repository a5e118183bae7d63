"""The lowest version that means the same: by attributes and types, never by hope."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest
from builders import Net, conv

from edgeopt.errors import ModelError
from edgeopt.facts import Operator, Quantization, Tensor
from edgeopt.repair import keep_attached
from edgeopt.repair.versions import minimal_version


def last(net: Net) -> Operator:
    return net.operators[-1]


def scaled(net: Net, scale: float, dtype: str = "int8") -> Tensor:
    return net.tensor(dtype, (1, 4), quantization=Quantization(scales=(scale,), zero_points=(0,)))


def test_a_convolution_of_all_channels_is_version_3_and_a_grouped_one_stays() -> None:
    net = Net()
    conv(net, net.input(), version=5)
    assert minimal_version(last(net)) == 3
    net = Net()
    net.op("CONV_2D", net.input(), net.constant("int8", (4, 1, 1, 2)), version=6)
    assert minimal_version(last(net)) is None


@pytest.mark.parametrize(
    ("more", "least"),
    [
        ({}, 4),
        ({"options": {"keep_num_dims": True}}, None),
        ({"options": {"weights_format": "SHUFFLED4x16INT8"}}, None),
    ],
)
def test_a_dense_layer_is_version_4_where_it_uses_nothing_newer(
    more: dict[str, Any], least: int | None
) -> None:
    net = Net()
    data, weights = net.input(shape=(1, 4)), net.constant("int8", (2, 4))
    bias = net.constant("int32", (2,))
    net.op("FULLY_CONNECTED", data, weights, bias, out=("int8", (1, 2)), version=9, **more)
    assert minimal_version(last(net)) == least


def test_a_dense_layer_with_a_scale_for_each_output_keeps_its_version() -> None:
    net = Net()
    several = Quantization(scales=(0.1, 0.2), zero_points=(0, 0))
    weights = net.constant("int8", (2, 4), quantization=several)
    bias = net.constant("int32", (2,))
    net.op("FULLY_CONNECTED", net.input(shape=(1, 4)), weights, bias, out=("int8", (1, 2)))
    assert minimal_version(last(net)) is None


@pytest.mark.parametrize(("out", "least"), [(0.02, 2), (0.005, 3)])
def test_a_product_that_is_scaled_up_is_version_3(out: float, least: int) -> None:
    net = Net()
    a, b = scaled(net, 0.1), scaled(net, 0.1)
    net.operators.append(
        Operator(index=0, subgraph=0, op="MUL", version=4, inputs=(a, b),
                 outputs=(scaled(net, out),))
    )  # fmt: skip
    assert minimal_version(last(net)) == least


@pytest.mark.parametrize(("half", "least"), [(False, 2), (True, 3)])
def test_a_resize_with_half_pixel_centers_is_version_3(half: bool, least: int) -> None:
    net = Net()
    net.op("RESIZE_BILINEAR", net.input(), net.integers(16, 16), version=4,
           out=("int8", (1, 16, 16, 4)), options={"half_pixel_centers": half})  # fmt: skip
    assert minimal_version(last(net)) == least


@pytest.mark.parametrize(("dtype", "least"), [("int8", 2), ("uint8", 1), ("int16", None)])
def test_where_the_type_alone_decides_it_does(dtype: str, least: int | None) -> None:
    net = Net()
    data = net.input(dtype)
    net.op("ADD", data, data, version=5)
    assert minimal_version(last(net)) == least


def test_five_dimensions_are_left_to_the_version_that_has_them() -> None:
    net = Net()
    data = net.input(shape=(1, 2, 3, 4, 5))
    net.op("TRANSPOSE", data, net.integers(0, 1, 2, 4, 3), version=4)
    assert minimal_version(last(net)) is None


def test_damaged_files_behind_a_model_are_not_dropped_in_silence() -> None:
    packed = io.BytesIO(b"model")
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("labels.txt", "cat\n")
    data = packed.getvalue()
    assert b"cat" in keep_attached(data, b"repaired model")
    assert keep_attached(b"no zip", b"repaired") == b"repaired"
    with pytest.raises(ModelError, match="cannot be read"):
        keep_attached(data.replace(b"cat\n", b"dog\n", 1), b"repaired")
