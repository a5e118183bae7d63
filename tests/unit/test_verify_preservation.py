"""Zeros and clusters that training made are counted as the final file stores them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import Net

from edgeopt.errors import ModelError
from edgeopt.facts import ModelFacts, Quantization
from edgeopt.verify.preservation import check_preserved, weight_table

ZEROS, CLUSTERS = ("zeros",), ("clusters",)
KERNEL = np.array([[0.0, 0.5, 0.0, -1.0], [0.0, 0.0, 2.0, 0.25]], np.float32)


def _fully_connected(
    values: np.ndarray, dtype: str = "float32", quantization: Quantization | None = None
) -> ModelFacts:
    net = Net()
    weights = net.constant(
        dtype, values.shape, data=memoryview(values.tobytes()), quantization=quantization
    )
    net.op("FULLY_CONNECTED", net.input("float32", (1, values.shape[1])), weights)
    return net.facts()


def _quantized(codes: Any, zero_points: tuple[int, ...], dtype: str = "int8") -> ModelFacts:
    scales = (0.1,) * len(zero_points)
    quantization = Quantization(scales=scales, zero_points=zero_points)
    return _fully_connected(np.array(codes, dtype), dtype, quantization)


def test_zero_of_an_unsigned_weight_is_its_zero_point() -> None:
    codes = [[128, 133, 128, 118], [128, 128, 148, 130]]
    found = check_preserved(
        _quantized(codes, (128,), "uint8"), _fully_connected(KERNEL), ZEROS, clusters=None
    )
    assert found.passed
    assert found.layers[0].sparsity == found.layers[0].reference_sparsity == 0.5


def test_each_channel_has_its_own_zero_point() -> None:
    (layer,) = weight_table(_quantized([[3, 5, 3, -10], [0, 0, 3, 2]], (3, 0)))
    assert layer.sparsity == 0.5


def test_a_zero_that_became_one_step_is_lost_though_another_weight_became_zero() -> None:
    codes = [[1, 5, 0, -10], [0, 0, 20, 0]]  # as many zeros as before, one elsewhere
    found = check_preserved(_quantized(codes, (0,)), _fully_connected(KERNEL), ZEROS, clusters=None)
    assert not found.passed
    assert "1 of its 4 zeros" in found.losses[0]
    assert not found.to_json()["passed"]


def test_more_zeros_than_asked_for_are_welcome() -> None:
    codes = [[0, 5, 0, -10], [0, 0, 20, 0]]
    assert check_preserved(
        _quantized(codes, (0,)), _fully_connected(KERNEL), ZEROS, clusters=None
    ).passed


def test_lost_zeros_do_not_matter_to_who_asked_for_clusters_only() -> None:
    found = check_preserved(
        _quantized(np.ones((2, 4)), (0,)), _fully_connected(KERNEL), CLUSTERS, clusters=3
    )
    assert found.passed


def test_a_channel_with_more_values_than_centroids_is_lost() -> None:
    reference = _fully_connected(np.tile(np.array([0.5, 1.0], np.float32), (3, 4)))
    kept = _quantized(np.tile([5, 10], (3, 4)), (0,))
    blurred = _quantized([[5, 10] * 4, [5, 10] * 4, [5, 10, 5, 10, 5, 11, 5, 10]], (0,))
    assert check_preserved(kept, reference, CLUSTERS, clusters=2).passed
    found = check_preserved(blurred, reference, CLUSTERS, clusters=2)
    assert "3 distinct values in a channel, not 2" in found.losses[0]
    assert found.layers[0].clusters == 2


def test_clusters_count_within_a_channel_when_folding_scaled_each() -> None:
    reference = _fully_connected(np.array([[1, 2] * 4, [3, 6] * 4], np.float32))
    found = check_preserved(reference, reference, CLUSTERS, clusters=2)
    assert (found.layers[0].distinct, found.layers[0].distinct_per_channel) == (4, 2)
    assert found.layers[0].clusters == 2


def test_a_layer_that_was_never_clustered_is_not_held_to_it() -> None:
    reference = _fully_connected(np.arange(16, dtype=np.float32).reshape(2, 8))
    found = check_preserved(reference, reference, CLUSTERS, clusters=4)
    assert found.passed
    assert found.layers[0].clusters is None


def test_float16_weights_behind_a_dequantize_are_read() -> None:
    net = Net()
    half = KERNEL.astype(np.float16)
    stored = net.constant("float16", (2, 4), data=memoryview(half.tobytes()))
    net.op("FULLY_CONNECTED", net.input("float32", (1, 4)), net.op("DEQUANTIZE", stored))
    (layer,) = weight_table(net.facts())
    assert (layer.sparsity, layer.distinct) == (0.5, 5)


def test_a_transposed_constant_is_read_by_its_own_channels() -> None:
    net = Net()
    values = np.array([[1, 2], [1, 3], [1, 4]], np.float32)  # stored IO, used OI
    stored = net.constant("float32", (3, 2), data=memoryview(values.tobytes()))
    turned = net.op("TRANSPOSE", stored, net.integers(1, 0), out=("float32", (2, 3)))
    net.op("FULLY_CONNECTED", net.input("float32", (1, 3)), turned)
    (layer,) = weight_table(net.facts())
    assert layer.distinct_per_channel == 3


def test_four_bit_weights_are_unpacked_low_half_first() -> None:
    net = Net()
    packed = np.array([0x10, 0xF0, 0x70], np.uint8)  # 0 1, 0 -1, 0 7
    weights = net.constant(
        "int4", (2, 3), data=memoryview(packed.tobytes()),
        quantization=Quantization(scales=(1.0,), zero_points=(0,)),
    )  # fmt: skip
    net.op("FULLY_CONNECTED", net.input("float32", (1, 3)), weights)
    (layer,) = weight_table(net.facts())
    assert (layer.sparsity, layer.distinct) == (0.5, 4)


def test_channels_of_a_depthwise_kernel_are_its_last_axis() -> None:
    net = Net()
    values = np.arange(18, dtype=np.float32).reshape(1, 3, 3, 2) % 2
    weights = net.constant("float32", (1, 3, 3, 2), data=memoryview(values.tobytes()))
    net.op("DEPTHWISE_CONV_2D", net.input("float32", (1, 3, 3, 2)), weights)
    (layer,) = weight_table(net.facts())
    assert (layer.distinct, layer.distinct_per_channel, layer.sparsity) == (2, 1, 0.5)


def test_layers_are_paired_by_size_when_the_converter_renamed_them() -> None:
    def two(order: tuple[int, int]) -> ModelFacts:
        net = Net()
        kernels = [np.zeros((4, 4), np.float32), np.ones((2, 4), np.float32)]
        x = net.input("float32", (1, 4))
        for i in order:
            data = memoryview(kernels[i].tobytes())
            net.op("FULLY_CONNECTED", x, net.constant("float32", kernels[i].shape, data=data))
        return net.facts()

    assert check_preserved(two((0, 1)), two((1, 0)), ZEROS, clusters=None).passed


def test_a_sparse_layer_that_is_not_in_the_final_file_is_a_loss() -> None:
    other = _fully_connected(np.ones((2, 5), np.float32))
    found = check_preserved(other, _fully_connected(KERNEL), ZEROS, clusters=None)
    assert "not in the final file" in found.losses[0]


@pytest.mark.parametrize(("reached", "passed"), [(0.5, True), (0.495, True), (0.3, False)], ids=str)
def test_a_trained_layer_must_have_reached_the_sparsity_asked_for(
    reached: float, passed: bool
) -> None:
    found = check_preserved(
        _fully_connected(KERNEL),
        _fully_connected(KERNEL),
        ZEROS,
        clusters=None,
        final_sparsity=0.5,
        trained=[{"name": "dense", "sparsity": reached, "clusters": None}],
    )
    assert found.passed is passed


def test_zeros_that_the_float_conversion_lost_are_found_by_the_name_of_the_layer() -> None:
    found = check_preserved(
        _fully_connected(KERNEL),
        _fully_connected(KERNEL),
        ZEROS,
        clusters=None,
        final_sparsity=0.8,
        trained=[{"name": "t2", "sparsity": 0.8, "clusters": None}],
    )
    assert found.losses == ("t2: conversion to float left a sparsity of 50.00% of 80.00%",)


def test_a_layer_with_too_many_clusters_after_training_is_a_loss() -> None:
    found = check_preserved(
        _fully_connected(KERNEL),
        _fully_connected(KERNEL),
        CLUSTERS,
        clusters=4,
        trained=[{"name": "dense", "sparsity": None, "clusters": 9}],
    )
    assert found.losses == ("dense: training left 9 distinct values, 4 were asked",)


def test_a_layer_is_named_by_its_kernel_where_that_has_a_name() -> None:
    net = Net()
    data = memoryview(KERNEL.tobytes())
    named = net.constant("float32", (2, 4), data=data, name="model/dense_1/MatMul;model/x/y")
    numbered = net.constant("float32", (2, 4), data=data, name="tfl.pseudo_qconst3")
    x = net.input("float32", (1, 4))
    net.op("FULLY_CONNECTED", x, named)
    net.op("FULLY_CONNECTED", x, numbered)
    first, second = weight_table(net.facts())
    assert (first.layer, second.layer) == ("model/dense_1", "t4")


def test_weights_of_a_type_without_a_known_zero_are_refused() -> None:
    net = Net()
    weights = net.constant("bfloat16", (2, 2), data=memoryview(bytes(8)))
    net.op("FULLY_CONNECTED", net.input("float32", (1, 2)), weights)
    with pytest.raises(ModelError, match="bfloat16 weights"):
        weight_table(net.facts())


def test_a_real_quantized_model_keeps_the_zeros_of_its_own_file(shared: Path) -> None:
    from edgeopt.model import read

    facts = read(shared / "models/ic_resnet8/ref_int8.tflite")
    found = check_preserved(facts, facts, ZEROS, clusters=None)
    assert found.passed
    assert len(found.layers) == 10
    assert 0 < found.sparsity < 0.05


def test_inspect_shows_the_weights_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    from click.testing import CliRunner

    from edgeopt.cli.inspect import inspect
    from edgeopt.paths import demo_dir

    model = str(demo_dir() / "fashion.tflite")
    done = CliRunner().invoke(inspect, [model, "--weights", "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    rows = json.loads(done.output or capsys.readouterr().out)["weights"]
    assert sum(row["weights"] for row in rows) > 20_000
    assert all(0 < row["distinct_per_channel"] <= row["distinct"] for row in rows)


def test_inspect_refuses_to_count_the_weights_of_what_is_no_tflite() -> None:
    from click.testing import CliRunner

    from edgeopt.cli.inspect import inspect
    from edgeopt.errors import InputError
    from edgeopt.paths import demo_dir

    done = CliRunner().invoke(inspect, [str(demo_dir() / "fashion.keras"), "--weights"])
    assert isinstance(done.exception, InputError)
    assert "fashion.keras is keras" in done.exception.message
