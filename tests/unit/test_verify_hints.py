"""What a violation tells to do can be done: calibration cures only what is not quantized yet."""

from __future__ import annotations

import pytest
from builders import Net, conv

from edgeopt.findings import ConstraintReport
from edgeopt.profile import HardwareProfile, load_profile
from edgeopt.verify import check

SHAPE = (1, 8, 8, 4)


@pytest.fixture(scope="module")
def tpu() -> HardwareProfile:
    return load_profile("edgetpu-v1")


def hints(report: ConstraintReport, constraint: str) -> set[str]:
    return {v.hint for v in report.violations if v.constraint == constraint}


def test_an_island_of_floats_names_the_operation_and_not_calibration(tpu: HardwareProfile) -> None:
    net = Net()
    inner = net.op("DEQUANTIZE", conv(net, net.input()), out=("float32", SHAPE))
    made = net.op("QUANTIZE", net.op("ELU", inner, out=("float32", SHAPE)), out=("int8", SHAPE))
    (hint,) = hints(check(net.facts(made), tpu), "activations.types")
    assert "RELU" in hint


def test_a_float_model_is_told_to_convert_with_calibration(tpu: HardwareProfile) -> None:
    net = Net()
    elu = net.op("ELU", net.input("float32"), out=("float32", SHAPE))
    report = check(net.facts(net.op("ADD", elu, elu, out=("float32", SHAPE))), tpu)
    (hint,) = hints(report, "activations.types") | hints(report, "io.types")
    assert "edgeopt convert" in hint and "--calibration" in hint


def test_float_edges_of_a_quantized_model_need_another_type_and_no_data(
    tpu: HardwareProfile,
) -> None:
    net = Net()
    quantized = net.op("QUANTIZE", net.input("float32"), out=("int8", SHAPE))
    made = net.op("DEQUANTIZE", conv(net, quantized), out=("float32", SHAPE))
    (hint,) = hints(check(net.facts(made), tpu), "io.types")
    assert "--io int8" in hint and "edgeopt fix" in hint


def test_a_batch_is_fixed_where_the_source_model_is_converted(tpu: HardwareProfile) -> None:
    net = Net()
    (hint,) = hints(check(net.facts(conv(net, net.input(shape=(4, 8, 8, 4)))), tpu), "shapes.batch")
    assert hint == "Convert the source model with --batch 1."
