"""Predicted division of a model, against what the real Edge TPU compiler did."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from builders import Net, conv

from edgeopt.model import read
from edgeopt.model.read import structure
from edgeopt.profile import load_profile
from edgeopt.verify import predict
from edgeopt.verify.graph import Graph
from edgeopt.verify.partition import Order


def _places(net: Net, profile: str, *outputs: object) -> list[str]:
    placement = predict(net.facts(*outputs), load_profile(profile))  # type: ignore[arg-type]
    assert placement is not None
    return [op.placement for op in placement.ops]


def test_all_twelve_recorded_compilations_are_predicted_exactly(shared: Path) -> None:
    profile = load_profile("edgetpu-v1")
    pairs = json.loads((shared / "edgetpu/pairs.json").read_text())
    pairs = pairs if isinstance(pairs, list) else pairs["pairs"]
    assert len(pairs) == 12
    for pair in pairs:
        found = predict(structure(shared / "edgetpu/models" / pair["source"]), profile)
        assert found is not None and found.source == "predicted"
        assert (found.ops_mapped, found.ops_cpu) == (pair["mapped"], pair["cpu"]), pair["source"]
        assert [op.op for op in found.ops if op.placement == "cpu"] == pair["cpu_ops"]


def test_every_operation_that_stays_behind_has_a_reason(shared: Path) -> None:
    facts = read(shared / "edgetpu/models/movenet_single_pose_lightning_ptq.tflite")
    found = predict(facts, load_profile("edgetpu-v1"))
    assert found is not None
    assert all(bool(op.reason) == (op.placement == "cpu") for op in found.ops)


def test_a_compiled_file_states_its_own_division(shared: Path) -> None:
    facts = read(shared / "edgetpu/models/deeplabv3_mnv2_dm05_pascal_quant_edgetpu.tflite")
    found = predict(facts, load_profile("edgetpu-v1"))
    assert found is not None
    assert (found.source, found.subgraphs, found.ops_cpu) == ("compiled_file", 1, 8)
    assert (found.on_chip_bytes, found.off_chip_bytes) == (766720, 0)  # as the compiler printed


def test_a_cpu_runs_everything_itself(shared: Path) -> None:
    found = predict(read(shared / "models/kws_dscnn/ref_int8.tflite"), load_profile("cpu-int8"))
    assert found is not None and (found.ops_mapped, found.ops_cpu) == (0, found.ops_total)


def test_layers_of_a_keras_file_are_not_counted_as_operations(shared: Path) -> None:
    facts = read(shared / "models/fmnist_dscnn/model.h5")
    assert predict(facts, load_profile("edgetpu-v1")) is None


def test_the_edge_tpu_takes_the_first_partition_even_if_a_later_one_is_larger() -> None:
    net = Net()
    first = conv(net, net.input())
    data = net.op("LEAKY_RELU", first, version=2)
    for _ in range(3):
        data = conv(net, data)
    assert _places(net, "edgetpu-v1", data) == ["edgetpu", "cpu", "cpu", "cpu", "cpu"]


def test_the_gpu_takes_the_largest_partition() -> None:
    net = Net()
    data = net.op("ARG_MAX", net.op("RELU", net.input("float32")), net.integers(3))
    for _ in range(3):
        data = net.op("RELU", data)
    assert _places(net, "android-gpu", data) == ["cpu", "cpu", "gpu", "gpu", "gpu"]


def test_a_branch_that_does_not_depend_on_a_refused_operation_stays_in() -> None:
    net = Net()
    data = conv(net, net.input())
    left = net.op("LEAKY_RELU", data, version=2)
    right = conv(net, data)
    joined = net.op("ADD", left, right, version=2)
    assert _places(net, "edgetpu-v1", joined) == ["edgetpu", "cpu", "edgetpu", "cpu"]


def test_an_unsupported_beginning_is_skipped() -> None:
    net = Net()
    data = conv(net, net.op("LEAKY_RELU", net.input(), version=2))
    assert _places(net, "edgetpu-v1", data) == ["cpu", "edgetpu"]


def test_float_weights_are_never_predicted_onto_the_edge_tpu() -> None:
    net = Net()
    assert _places(net, "edgetpu-v1", conv(net, net.input("float32"), dtype="float32")) == ["cpu"]


@pytest.mark.parametrize(("last", "expected"), [("RELU", "gpu"), ("ARG_MAX", "cpu")])
def test_float16_weights_go_along_only_when_everything_does(last: str, expected: str) -> None:
    net = Net()
    half = net.constant("float16")
    weights = net.op("DEQUANTIZE", half, out=("float32", (4, 1, 1, 4)), version=3)
    data = net.op("CONV_2D", net.input("float32"), weights, out=("float32", (1, 8, 8, 4)))
    made = net.op(last, data, net.integers(3)) if last == "ARG_MAX" else net.op(last, data)
    places = _places(net, "android-gpu", made)
    assert places[:2] == [expected, "gpu"]


def test_a_file_in_reverse_order_and_a_cycle_do_not_hang() -> None:
    net = Net()
    data = net.input()
    for _ in range(5000):
        data = net.op("RELU", data)
    graph = Graph(net.facts(data).subgraphs[0])
    backwards = list(reversed(graph.subgraph.operators))
    began = time.monotonic()
    found = Order(graph, backwards).partitions([True] * len(backwards))
    assert [len(part) for _, part in found] == [5000]
    assert time.monotonic() - began < 5
    loop = Net()
    a = loop.tensor("int8", (1, 4))
    b = loop.op("RELU", a)
    again = loop.operators[0].__class__(
        index=1, subgraph=0, op="RELU", version=1, inputs=(b,), outputs=(a,)
    )
    loop.operators.append(again)
    assert _places(loop, "edgetpu-v1", b) == ["cpu", "cpu"]
