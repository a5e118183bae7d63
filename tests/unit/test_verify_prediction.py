"""Why an operation is predicted to stay on the CPU, what the compiler calls it, and how sure."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import CONV, Net, conv

from edgeopt.errors import InputError
from edgeopt.facts import Quantization, Tensor
from edgeopt.findings import OpPlacement, Placement
from edgeopt.model.edgetpu_payload import placement_of_compiled
from edgeopt.model.read import structure
from edgeopt.profile import HardwareProfile, load_profile
from edgeopt.verify import check, predict

LIMITATION = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
DATA_TYPE = "Operation is working on an unsupported data type"
RANK = "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"
OUTSIDE = "More than one subgraph is not supported"


@pytest.fixture(scope="module")
def tpu() -> HardwareProfile:
    return load_profile("edgetpu-v1")


def _placed(net: Net, tpu: HardwareProfile, *outputs: Tensor, **more: Any) -> Placement:
    found = predict(net.facts(*outputs, **more), tpu)
    assert found is not None
    return found


def _one(tpu: HardwareProfile, name: str, *inputs: Any, **more: Any) -> OpPlacement:
    """What becomes of a single operation; inputs are shapes, types or tensors of a net."""
    net = more.pop("net", None) or Net()
    made = net.op(name, *inputs, **more)
    return _placed(net, tpu, made).ops[-1]


def test_the_operations_left_in_each_compiled_file_are_the_ones_predicted(
    shared: Path, tpu: HardwareProfile
) -> None:
    for pair in json.loads((shared / "edgetpu/pairs.json").read_text()):
        source = structure(shared / "edgetpu/models" / pair["source"])
        compiled = structure(shared / "edgetpu/models" / pair["compiled"])
        truth, found = placement_of_compiled(compiled, source), predict(source, tpu)
        assert found is not None and len(truth.ops) == found.ops_total == pair["n_source_ops"]
        assert [op.placement for op in found.ops] == [op.placement for op in truth.ops], pair
        assert (found.ops_uncertain, found.ops_mapped_range) == (0, None)
        # The recording counts every custom operation as CUSTOM among the source's.
        custom = {op.op for op in source.operators() if op.custom}
        counted = Counter("CUSTOM" if op.op in custom else op.op for op in found.ops)
        left = Counter(op.op for op in found.ops if op.placement == "cpu")
        assert (counted, left) == (Counter(pair["source_op_counts"]), Counter(pair["cpu_ops"]))


def test_what_was_compiled_for_a_device_runtime_is_predicted_for_it(
    shared: Path, tpu: HardwareProfile
) -> None:
    for pair in json.loads((shared / "edgetpu/pairs.json").read_text()):
        for_it = tpu.at_runtime(pair["edgetpu_custom_ops"][0]["min_runtime_version"])
        found = predict(structure(shared / "edgetpu/models" / pair["source"]), for_it)
        assert found is not None and found.ops_mapped == pair["mapped"]


def test_every_operation_on_the_cpu_has_a_cause_and_a_phrase_of_the_compiler(
    shared: Path, tpu: HardwareProfile
) -> None:
    facts = json.loads((shared / "edgetpu/compiler_facts.json").read_text())
    phrases = {status["s"] for status in facts["statuses"]}
    found = predict(
        structure(shared / "edgetpu/models/movenet_single_pose_lightning_ptq.tflite"), tpu
    )
    assert found is not None
    for op in found.ops:
        assert bool(op.cause) == (op.placement == "cpu") == (op.phrase in phrases)


def test_a_float_quantize_has_the_phrase_of_a_limitation(tpu: HardwareProfile) -> None:
    net = Net()
    found = _one(tpu, "QUANTIZE", net.input("float32"), net=net, out=("int8", (1, 8, 8, 4)))
    assert (found.cause, found.phrase) == ("float_quantize", LIMITATION)


@pytest.mark.parametrize(("source", "result"), [("int8", "uint8"), ("uint8", "int8")])
def test_a_quantize_between_8_bit_types_is_mapped(
    tpu: HardwareProfile, source: str, result: str
) -> None:
    net = Net()
    found = _one(tpu, "QUANTIZE", net.input(source), net=net, out=(result, (1, 8, 8, 4)))
    assert found.placement == "edgetpu" and found.certain


@pytest.mark.parametrize(
    ("name", "out", "cause", "phrase"),
    [
        ("DEQUANTIZE", ("float32", (1, 8, 8, 4)), "operation_unsupported", DATA_TYPE),
        ("ARG_MAX", ("int64", (1, 8, 8)), "operation_unsupported", DATA_TYPE),
        ("HARD_SWISH", None, "operation_unsupported", "Operation not supported"),
        ("FLOOR_MOD", ("int32", (1, 8, 8, 4)), "operation_unsupported", "Operation not supported"),
        ("GELU", None, "unparsed_operation", None),
    ],
)
def test_an_operation_without_a_kernel_has_the_phrase_that_the_compiler_prints_first(
    tpu: HardwareProfile, name: str, out: Any, cause: str, phrase: str | None
) -> None:
    net = Net()
    found = _one(tpu, name, net.input(), net=net, out=out)
    assert (found.placement, found.cause, found.phrase) == ("cpu", cause, phrase)


def test_a_custom_operation_is_called_a_data_type(tpu: HardwareProfile) -> None:
    net = Net()
    found = _one(tpu, "PosenetDecoderOp", net.input(), net=net, custom=True)
    assert (found.cause, found.phrase) == ("custom", DATA_TYPE)


def test_a_batch_is_a_rank_to_the_compiler_even_where_the_type_is_wrong_too(
    tpu: HardwareProfile,
) -> None:
    net = Net()
    found = _one(tpu, "RELU", net.input("float32", (2, 8, 8, 4)), net=net)
    assert (found.cause, found.phrase) == ("data_type", RANK)
    again = _one(tpu, "RELU", net.input("int8", (2, 8, 8, 4)), net=net)
    assert (again.cause, again.phrase) == ("outer_dimension", RANK)


def test_weights_kept_in_float16_have_the_phrase_of_a_rank(tpu: HardwareProfile) -> None:
    net = Net()
    found = _one(tpu, "DEQUANTIZE", net.constant("float16"), net=net, out=("float32", (4, 1, 1, 4)))
    assert (found.cause, found.phrase) == ("operation_unsupported", RANK)


def test_a_version_that_reads_but_was_never_mapped_is_refused_by_version(
    tpu: HardwareProfile,
) -> None:
    net = Net()
    weights = net.constant("int8", (2, 4))
    data = (net.input(shape=(1, 4)), weights)
    options = {"weights_format": "DEFAULT"}
    made = {"net": net, "out": ("int8", (1, 2)), "options": options}
    for version in (1, 2, 3, 4):
        assert _one(tpu, "FULLY_CONNECTED", *data, version=version, **made).placement == "edgetpu"
    late = _one(tpu, "FULLY_CONNECTED", *data, version=5, **made)
    assert (late.cause, late.phrase) == ("version", "Operation version not supported")
    unread = _one(tpu, "FULLY_CONNECTED", *data, version=12, **made)
    assert (unread.cause, unread.phrase) == ("unparsed_version", None)


def test_weights_computed_at_run_time_are_refused(tpu: HardwareProfile) -> None:
    net = Net()
    data, weights = net.input(), net.input(shape=(1, 1, 1, 4))
    bias = net.constant("int32", (4,))
    found = _one(tpu, "CONV_2D", data, weights, bias, net=net, version=3, options=CONV)
    assert (found.cause, found.phrase) == ("constant_input", LIMITATION)


def test_a_shape_computed_at_run_time_makes_the_compiler_refuse_the_file(
    tpu: HardwareProfile,
) -> None:
    net = Net()
    first = net.op("LEAKY_RELU", conv(net, net.input()), version=1)
    wanted = net.input("int32", (2,))
    facts = net.facts(net.op("RESHAPE", conv(net, first), wanted, out=("int8", (1, 256))))
    found = predict(facts, tpu)
    assert found is not None
    assert (found.ops[-1].cause, found.ops[-1].phrase) == ("dynamic", None)
    broken = [v for v in check(facts, tpu).violations if v.constraint == "shapes.computed"]
    assert [v.where.partition(" (")[0] for v in broken] == ["RESHAPE #3"]


def test_an_open_batch_in_the_signature_alone_does_no_harm(tpu: HardwareProfile) -> None:
    net = Net()
    data = net.tensor("int8", (1, 8, 8, 4), signature=(-1, 8, 8, 4))
    net.inputs.append(data)
    assert _placed(net, tpu, conv(net, data)).ops[0].placement == "edgetpu"
    net = Net()
    assert _placed(net, tpu, conv(net, net.input(shape=(-1, 8, 8, 4)))).ops[0].cause == "dynamic"


def test_constants_of_a_type_that_the_compiler_cannot_read_are_refused(
    tpu: HardwareProfile,
) -> None:
    net = Net()
    weights = net.constant("int4", (4, 1, 1, 4))
    data = net.input()
    found = _one(tpu, "CONV_2D", data, weights, net=net, version=3, options=CONV)
    assert (found.cause, found.phrase) == ("data_type", DATA_TYPE)


def test_an_lstm_may_keep_its_state_in_16_bits_but_not_its_data(tpu: HardwareProfile) -> None:
    def found(dtype: str) -> OpPlacement:
        net = Net()
        state = net.tensor("int16", (1, 20), variable=True)
        data = net.input(dtype, (1, 28, 28))
        name, out = "UNIDIRECTIONAL_SEQUENCE_LSTM", (dtype, (1, 28, 20))
        return _one(tpu, name, data, net.constant(), state, net=net, out=out)

    assert found("int8").placement == "edgetpu"
    assert (found("int16").cause, found("int16").phrase) == ("data_type", DATA_TYPE)


def _mean(tpu: HardwareProfile, shape: tuple[int, ...], *axes: int) -> OpPlacement:
    net = Net()
    out = ("int8", tuple(d for i, d in enumerate(shape) if i not in axes))
    return _one(tpu, "MEAN", net.input(shape=shape), net.integers(*axes), net=net, out=out)


def test_a_mean_over_many_values_is_refused_and_one_in_between_uncertain(
    tpu: HardwareProfile,
) -> None:
    places = {high: _mean(tpu, (1, high, 128, 3), 1, 2) for high in (64, 128, 256)}
    assert (places[64].placement, places[64].certain) == ("edgetpu", True)
    assert (places[128].cause, places[128].certain) == ("max_reduced", False)
    assert (places[256].placement, places[256].phrase) == ("cpu", LIMITATION)


@pytest.mark.parametrize(
    ("side", "expected"),
    [(4, "uncertain"), (8, "edgetpu"), (16, "edgetpu"), (32, "uncertain"), (128, "cpu")],
)
def test_a_resize_is_known_to_map_once_and_twice_and_to_fail_at_sixteen_times(
    tpu: HardwareProfile, side: int, expected: str
) -> None:
    net = Net()
    out = ("int8", (1, side, side, 4))
    inputs = net.input(), net.integers(side, side)
    found = _one(tpu, "RESIZE_BILINEAR", *inputs, net=net, out=out, version=3)
    assert (found.placement if found.certain else "uncertain") == expected


@pytest.mark.parametrize("shape", [(1, 144, 2100), (1, 1, 144, 2100)])
def test_flat_tensors_are_refused_where_maps_of_that_size_are_not(
    tpu: HardwareProfile, shape: tuple[int, ...]
) -> None:
    net = Net()
    assert _one(tpu, "LOGISTIC", net.input(shape=shape), net=net, version=2).cause == "max_elements"
    spatial = _one(tpu, "LOGISTIC", net.input(shape=(1, 160, 160, 64)), net=net, version=2)
    assert spatial.placement == "edgetpu" and spatial.certain


def test_a_dense_layer_with_one_scale_a_channel_is_uncertain(tpu: HardwareProfile) -> None:
    net = Net()
    scales = Quantization(scales=(0.1, 0.2), zero_points=(0, 0))
    weights = net.constant("int8", (2, 4), quantization=scales)
    inputs = net.input(shape=(1, 4)), weights
    found = _one(tpu, "FULLY_CONNECTED", *inputs, net=net, out=("int8", (1, 2)), version=4)
    assert (found.cause, found.certain) == ("per_tensor", False)


def test_a_tensor_without_elements_is_uncertain(tpu: HardwareProfile) -> None:
    net = Net()
    found = _one(tpu, "RELU", net.input(shape=(1, 0, 8, 4)), net=net)
    assert (found.cause, found.certain) == ("empty_tensor", False)


def _between(net: Net, data: Tensor) -> Tensor:
    """A RESHAPE of 160,000 elements: neither known to be mapped nor to be refused."""
    return net.op("RESHAPE", data, net.integers(1, 50, 50, 64))


def test_what_follows_an_uncertain_operation_is_uncertain_and_says_of_which(
    tpu: HardwareProfile,
) -> None:
    net = Net()
    data = net.op("RELU", net.input(shape=(1, 50, 50, 64)))
    last = net.op("RELU6", _between(net, data))
    found = _placed(net, tpu, last)
    assert [op.certain for op in found.ops] == [True, False, False]
    assert (found.ops_uncertain, found.ops_mapped_range) == (2, (1, 3))
    assert found.ops[2].reason == "depends on whether the compiler maps RESHAPE #1"
    assert found.to_json()["ops_mapped_range"] == [1, 3]


def test_a_partition_may_be_another_one_altogether(tpu: HardwareProfile) -> None:
    net = Net()
    first = _between(net, net.input(shape=(1, 50, 50, 64)))
    data = net.op("LEAKY_RELU", first)
    for _ in range(3):
        data = net.op("RELU", data)
    found = _placed(net, tpu, data)
    # The RESHAPE alone, or without it the three RELU: where these run depends on it.
    assert [op.placement for op in found.ops] == ["edgetpu", "cpu", "cpu", "cpu", "cpu"]
    assert [op.certain for op in found.ops] == [False, True, False, False, False]
    assert found.ops_mapped_range == (1, 3)


def test_behind_the_partition_it_is_certain_where_it_runs_but_not_why(
    tpu: HardwareProfile,
) -> None:
    net = Net()
    data = net.op("LEAKY_RELU", net.op("RELU", net.input(shape=(1, 50, 50, 64))))
    found = _placed(net, tpu, _between(net, data)).ops[-1]
    assert (found.placement, found.certain, found.phrase) == ("cpu", True, None)
    sure = Net()
    data = sure.op("LEAKY_RELU", sure.op("RELU", sure.input()))
    assert _placed(sure, tpu, sure.op("RELU", data)).ops[-1].phrase == OUTSIDE


def test_an_older_device_runtime_takes_less(tpu: HardwareProfile) -> None:
    older = tpu.at_runtime(12)
    assert _mean(tpu, (1, 8, 8, 4), 3).placement == "edgetpu"
    assert _mean(older, (1, 8, 8, 4), 1, 2).certain
    across = _mean(older, (1, 8, 8, 4), 3)
    assert (across.cause, across.certain) == ("runtime", False)
    net = Net()
    padding = net.integers(0, 0, 0, 0, 0, 0, 0, 2)
    inputs = net.input(), replace(padding, shape=(4, 2))
    assert _one(older, "PAD", *inputs, net=net, version=2).cause == "runtime"
    documented = _one(older, "EXPAND_DIMS", net.input(), net=net)
    assert (documented.cause, documented.certain) == ("runtime", False)
    assert _one(tpu, "EXPAND_DIMS", net.input(), net=net).certain
    turned = _one(older, "TRANSPOSE", net.input(), net.integers(0, 2, 1, 3), net=net, version=2)
    assert (turned.placement, turned.phrase) == ("cpu", "Operation not supported")


def test_nothing_of_an_int8_model_is_mapped_for_runtime_11(tpu: HardwareProfile) -> None:
    net = Net()
    found = _placed(net, tpu.at_runtime(11), conv(net, net.input()))
    assert (found.ops_mapped, found.ops[0].cause) == (0, "runtime")


def test_a_cpu_has_no_device_runtime_to_ask_for() -> None:
    with pytest.raises(InputError, match="has no device runtime"):
        load_profile("cpu-int8").at_runtime(12)


def test_a_graph_of_many_thousand_uncertain_operations_is_predicted_too(
    tpu: HardwareProfile,
) -> None:
    net = Net()
    data = net.input(shape=(1, 50, 50, 64))
    for _ in range(3000):
        data = _between(net, data)
    facts = net.facts(data)
    began = time.process_time()
    found = predict(facts, tpu)
    assert time.process_time() - began < 10
    assert found is not None and found.ops_mapped_range == (0, 3000)


def test_250_operations_are_predicted_in_a_third_of_a_second(tpu: HardwareProfile) -> None:
    net = Net()
    data = net.input(shape=(1, 50, 50, 64))
    for index in range(250):
        data = _between(net, data) if index % 10 == 9 else net.op("RELU", data)
    facts = net.facts(data)
    began = time.process_time()
    found = predict(facts, tpu)
    assert time.process_time() - began < 0.3
    assert found is not None and found.ops_uncertain == 241
