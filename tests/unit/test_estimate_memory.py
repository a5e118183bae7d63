"""Parameter memory before compiling, against what the real compiler wrote."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

import pytest
from unit.builders import Net

from edgeopt.estimate.cache import MIB, limits, split
from edgeopt.estimate.edgetpu import memory_of
from edgeopt.estimate.features import mapped_of, peak
from edgeopt.estimate.layout import padded_outputs, parameter_bytes, parameter_bytes_most
from edgeopt.facts import ModelFacts, Operator, Quantization
from edgeopt.findings import OpPlacement, Placement
from edgeopt.model import read
from edgeopt.profile import load_profile
from edgeopt.verify import predict

EACH = Quantization(scales=(0.1, 0.2), zero_points=(0, 0))


def weighted(op: str, weights: tuple[int, ...], out: tuple[int, ...], **more: object) -> Operator:
    net = Net()
    kernel = net.constant(shape=weights, **more)
    bias = net.constant("int32", (out[-1],))
    net.op(op, net.input(), kernel, bias, out=("int8", out))
    return net.operators[0]


@pytest.mark.parametrize(
    ("channels", "padded"),
    [(1, 4), (8, 16), (12, 16), (17, 32), (34, 48), (64, 64), (80, 128), (965, 1024)],
)
def test_output_channels_are_padded_as_seen_in_compiled_files(channels: int, padded: int) -> None:
    assert padded_outputs(channels) == padded


def test_a_convolution_keeps_groups_of_weights_and_a_bias_for_each_channel() -> None:
    op = weighted("CONV_2D", (128, 1, 1, 64), (1, 8, 8, 128))
    assert parameter_bytes(op) == 128 * (64 + 4)


def test_scales_of_channels_take_four_bytes_more_each() -> None:
    plain = weighted("CONV_2D", (64, 3, 3, 4), (1, 8, 8, 64))
    scaled = weighted("CONV_2D", (64, 3, 3, 4), (1, 8, 8, 64), quantization=EACH)
    assert parameter_bytes(scaled) - parameter_bytes(plain) == 64 * 4


def test_three_input_channels_count_as_four() -> None:
    three, four = (weighted("CONV_2D", (64, 3, 3, n), (1, 8, 8, 64)) for n in (3, 4))
    assert parameter_bytes(three) == parameter_bytes(four)


def test_a_depthwise_kernel_takes_four_bytes_a_weight() -> None:
    op = weighted("DEPTHWISE_CONV_2D", (1, 3, 3, 96), (1, 8, 8, 96))
    assert parameter_bytes(op) == 96 * (4 * 9 + 4)


def test_an_addition_without_constants_takes_none() -> None:
    net = Net()
    net.op("ADD", net.input(), net.input())
    assert parameter_bytes(net.operators[0]) == 0


def test_the_padding_of_sixteen_zero_bounds_the_bytes_from_above() -> None:
    op = weighted("CONV_2D", (32, 3, 3, 32), (1, 64, 64, 32))
    assert parameter_bytes_most(op) == 2 * parameter_bytes(op)


def test_whole_layers_are_streamed_and_smaller_ones_still_cached() -> None:
    assert split([10, 60, 60, 20], 100) == (90, [2])


@pytest.mark.parametrize(
    ("width", "streamed"),  # published: on chip 7.24, 5.34, 7.58, 4.19 MiB
    [(1540, 0), (1620, 1), (1940, 1), (2020, 2)],
)
def test_dense_nets_stream_as_many_layers_as_the_compiler_says(width: int, streamed: int) -> None:
    padded = -(-width // 64) * 64
    layers = [64 * padded, *3 * [padded * width], 64 * width]
    assert len(split(layers, limits(len(layers))[0])[1]) == streamed


def dense_net(width: int) -> tuple[ModelFacts, Placement]:
    net = Net()
    x = net.input(shape=(1, width))
    for _ in range(4):
        x = net.op("FULLY_CONNECTED", x, net.constant(shape=(width, width)))
    ops = tuple(OpPlacement(index=o.index, op=o.op, placement="edgetpu") for o in net.operators)
    placed = Placement(
        source="predicted", ops_total=4, ops_mapped=4, ops_cpu=0, subgraphs=1, ops=ops
    )
    return net.facts(x), placed


@pytest.mark.parametrize(("width", "fits"), [(1024, "yes"), (1408, "uncertain"), (1536, "no")])
def test_fitting_is_uncertain_only_near_the_limit(width: int, fits: str) -> None:
    facts, placed = dense_net(width)
    memory = memory_of(mapped_of(facts, placed))
    assert memory.fits == fits
    assert memory.total == 4 * width * width
    assert memory.low is not None and memory.high is not None
    assert memory.low < memory.total < memory.high


def test_activations_peak_where_the_widest_neighbours_meet() -> None:
    net = Net()
    x = net.input(shape=(1, 10))
    wide = net.op("FULLY_CONNECTED", x, net.constant(shape=(100, 10)), out=("int8", (1, 100)))
    last = net.op("FULLY_CONNECTED", wide, net.constant(shape=(7, 100)), out=("int8", (1, 7)))
    ops = tuple(OpPlacement(index=o.index, op=o.op, placement="edgetpu") for o in net.operators)
    placed = Placement(
        source="predicted", ops_total=2, ops_mapped=2, ops_cpu=0, subgraphs=1, ops=ops
    )
    assert peak(mapped_of(net.facts(last), placed)) == 110


def test_parameter_bytes_are_within_two_per_cent_of_every_compiled_pair(shared: Path) -> None:
    folder = shared / "edgetpu"
    profile, errors = load_profile("edgetpu-v1"), []
    for pair in json.loads((folder / "pairs.json").read_text()):
        facts = read(folder / "models" / pair["source"])
        placed = predict(facts, profile)
        assert placed is not None
        memory = memory_of(mapped_of(facts, placed))
        parts = pair["edgetpu_custom_ops"]
        real = sum(p["on_chip_cached_bytes"] + p["off_chip_streamed_bytes"] for p in parts)
        errors.append(memory.total / real - 1)
        assert memory.low is not None and memory.high is not None
        assert memory.low <= real <= memory.high, pair["source"]
    assert max(map(abs, errors)) < 0.02
    assert mean(map(abs, errors)) < 0.005


def test_published_sweep_sizes_are_met(shared: Path) -> None:
    sweeps = json.loads((shared / "edgetpu" / "benchmarks.json").read_text())["sweeps"]["files"]
    errors = []
    for name, content in sweeps.items():
        for width, _, on_chip, off_chip, _ in content["rows"]:
            ops = convolutions(int(width)) if "_CONV_" in name else dense_layers(int(width))
            errors.append(sum(map(parameter_bytes, ops)) / ((on_chip + off_chip) * MIB) - 1)
    assert mean(map(abs, errors)) < 0.02


def convolutions(width: int) -> list[Operator]:
    shapes = [(width, 3, 3, 3), *4 * [(width, 3, 3, width)]]
    return [weighted("CONV_2D", s, (1, 64, 64, width), quantization=EACH) for s in shapes]


def dense_layers(width: int) -> list[Operator]:
    net = Net()
    x = net.input(shape=(1, 64))
    for outputs, inputs in [(width, 64), *3 * [(width, width)], (10, width)]:
        weights = net.constant(shape=(outputs, inputs))
        x = net.op("FULLY_CONNECTED", x, weights, out=("int8", (1, outputs)))
    return net.operators
