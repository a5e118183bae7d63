"""What each profile refuses, and what it must not refuse: real files first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from builders import CONV, Net, conv

from edgeopt.facts import ModelFacts, Quantization
from edgeopt.findings import ConstraintReport
from edgeopt.model import read
from edgeopt.profile import HardwareProfile, load_profile
from edgeopt.verify import check, predict

REAL = [
    "deeplabv3_mnv2_dm05_pascal_quant",
    "keras_lstm_mnist_ptq",
    "mobilenet_v1_0.25_128_quant",
    "mobilenet_v1_0.5_160_quant",
    "mobilenet_v1_1.0_224_quant_embedding_extractor",
    "mobilenet_v2_1.0_224_inat_bird_quant",
    "mobilenet_v2_1.0_224_quant",
    "movenet_single_pose_lightning_ptq",
    "posenet_mobilenet_v1_075_353_481_16_quant_decoder",
    "split_concat",
]


@pytest.fixture(scope="module")
def tpu() -> HardwareProfile:
    return load_profile("edgetpu-v1")


@pytest.fixture(scope="module")
def gpu() -> HardwareProfile:
    return load_profile("android-gpu")


@pytest.fixture(scope="module")
def cpu() -> HardwareProfile:
    return load_profile("cpu-int8")


def broken(report: ConstraintReport) -> set[str]:
    return {violation.constraint for violation in report.violations}


def _net(dtype: str = "int8", **options: object) -> ModelFacts:
    net = Net()
    return net.facts(conv(net, net.input(dtype), dtype=dtype, **options))


@pytest.mark.parametrize("name", REAL)
def test_models_that_the_real_compiler_took_are_accepted(
    shared: Path, tpu: HardwareProfile, name: str
) -> None:
    report = check(read(shared / f"edgetpu/models/{name}.tflite"), tpu)
    assert report.violations == () and report.checked > 50


@pytest.mark.parametrize("name", REAL)
def test_compiled_files_answer_to_the_rules_for_compiled_files(
    shared: Path, tpu: HardwareProfile, name: str
) -> None:
    facts = read(shared / f"edgetpu/models/{name}_edgetpu.tflite")
    assert check(facts, tpu, stage="compiled").passed
    assert check(facts, tpu).passed


def test_a_compiled_file_is_refused_by_a_cpu(shared: Path, cpu: HardwareProfile) -> None:
    facts = read(shared / "edgetpu/models/split_concat_edgetpu.tflite")
    (violation,) = check(facts, cpu).violations
    assert violation.constraint == "operations.custom" and "Edge TPU" in violation.hint


def test_a_compiled_file_for_a_newer_device_runtime_is_refused(
    shared: Path, tpu: HardwareProfile
) -> None:
    facts = read(shared / "edgetpu/models/split_concat_edgetpu.tflite")
    old = replace(tpu, partition=replace(tpu.partition, runtime_version=11))
    assert broken(check(facts, tpu)) == set()
    assert broken(check(facts, old)) == {"compiled.runtime"}


def test_a_compiled_file_with_a_damaged_payload_is_refused(
    shared: Path, tpu: HardwareProfile
) -> None:
    facts = read(shared / "edgetpu/models/split_concat_edgetpu.tflite")
    main = facts.subgraphs[0]
    code = main.operators[0]
    assert code.custom_options is not None
    cut = replace(code, custom_options=code.custom_options[:2000])
    damaged = replace(facts, subgraphs=(replace(main, operators=(cut,)),))
    assert broken(check(damaged, tpu)) == {"compiled.payload"}
    placed = predict(damaged, tpu)
    assert placed is not None and placed.on_chip_bytes is None


def test_a_compiled_file_with_nothing_mapped_is_refused(tpu: HardwareProfile) -> None:
    assert broken(check(_net(), tpu, stage="compiled")) == {"compiled.operations"}


def test_a_real_float_model_breaks_every_float_rule_of_the_edge_tpu(
    shared: Path, tpu: HardwareProfile
) -> None:
    report = check(read(shared / "models/ic_resnet8/ref_f32.tflite"), tpu)
    assert {"io.types", "weights.types", "bias.types", "activations.types"} <= broken(report)
    weights = [v for v in report.violations if v.constraint == "weights.types"]
    assert len(weights) == 10  # every layer is named, not the first alone
    assert all("--calibration" in v.hint for v in weights)
    assert all(v.where.startswith(("CONV_2D #", "FULLY_CONNECTED #")) for v in weights)


def test_the_mlperf_int8_references_pass_everywhere(shared: Path) -> None:
    for name in ("ic_resnet8", "kws_dscnn"):
        facts = read(shared / f"models/{name}/ref_int8.tflite")
        for profile in ("edgetpu-v1", "cpu-int8", "cpu-int8-tflite-2.14", "android-gpu"):
            assert check(facts, load_profile(profile)).passed, (name, profile)


def test_a_keras_model_with_an_open_batch_is_told_to_fix_it(
    shared: Path, tpu: HardwareProfile
) -> None:
    report = check(read(shared / "models/fmnist_dscnn/model.h5"), tpu)
    (shape,) = [v for v in report.violations if v.constraint == "shapes.static"]
    assert "--batch 1" in shape.hint and "input_1" in shape.where


def test_a_strict_int8_model_passes(tpu: HardwareProfile) -> None:
    assert check(_net(), tpu, io="int8").violations == ()


def test_the_wrong_io_type_is_a_violation(tpu: HardwareProfile) -> None:
    report = check(_net(), tpu, io="uint8")
    assert [v.constraint for v in report.violations] == ["io.types", "io.types"]


def test_float_left_at_the_boundary_is_refused(tpu: HardwareProfile) -> None:
    net = Net()
    inner = net.op("QUANTIZE", net.input("float32"), out=("int8", (1, 8, 8, 4)))
    outer = net.op("DEQUANTIZE", conv(net, inner), out=("float32", (1, 8, 8, 4)))
    report = check(net.facts(outer), tpu)
    assert [v.constraint for v in report.violations] == ["io.types", "io.types"]


def test_int16_activations_are_refused_by_the_edge_tpu_and_the_gpu(
    tpu: HardwareProfile, gpu: HardwareProfile, cpu: HardwareProfile
) -> None:
    net = Net()
    data = net.op("QUANTIZE", net.input("int8"), out=("int16", (1, 8, 8, 4)))
    bias = net.constant("int64", (4,))
    made = net.op("CONV_2D", data, net.constant(), bias, out=("int16", (1, 8, 8, 4)), version=4)
    facts = net.facts(net.op("QUANTIZE", made, out=("int8", (1, 8, 8, 4))))
    assert {"activations.types", "bias.types"} <= broken(check(facts, tpu))
    assert "activations.types" in broken(check(facts, gpu))
    assert check(facts, cpu).passed


def test_int4_weights_are_refused(tpu: HardwareProfile, gpu: HardwareProfile) -> None:
    net = Net()
    made = net.op("CONV_2D", net.input(), net.constant("int4"), out=("int8", (1, 8, 8, 4)))
    for profile in (tpu, gpu):
        assert "weights.types" in broken(check(net.facts(made), profile))


def test_a_batch_above_one_is_refused_by_the_edge_tpu_alone(
    tpu: HardwareProfile, cpu: HardwareProfile
) -> None:
    net = Net()
    facts = net.facts(conv(net, net.input(shape=(4, 8, 8, 4))))
    (batch,) = [v for v in check(facts, tpu).violations if v.constraint == "shapes.batch"]
    assert (batch.found, "--batch 1" in batch.hint) == ("batch 4", True)
    assert check(facts, cpu).passed


def test_an_open_batch_in_the_signature_alone_is_harmless(tpu: HardwareProfile) -> None:
    net = Net()
    net.inputs.append(net.tensor("int8", (1, 8, 8, 4), signature=(-1, 8, 8, 4)))
    assert check(net.facts(conv(net, net.inputs[0])), tpu).passed


def test_a_dynamic_tensor_inside_is_refused(tpu: HardwareProfile, gpu: HardwareProfile) -> None:
    net = Net()
    grown = net.op("RESHAPE", net.input(), net.integers(-1, 4), out=("int8", (-1, 4)))
    for profile in (tpu, gpu):
        assert "shapes.static" in broken(check(net.facts(grown), profile))


def test_a_shape_that_is_not_known_is_not_a_violation(tpu: HardwareProfile) -> None:
    net = Net()
    assert check(net.facts(net.op("RELU6", net.input(shape=None))), tpu).passed


def test_missing_and_per_channel_activation_scales_are_refused(tpu: HardwareProfile) -> None:
    net = Net()
    bare = net.tensor("int8", (1, 8, 8, 4), quantization=None)
    many = Quantization(scales=(0.1,) * 4, zero_points=(0,) * 4, axis=3)
    net.inputs += [bare, net.tensor("int8", (1, 8, 8, 4), quantization=many)]
    report = check(net.facts(net.op("ADD", *net.inputs)), tpu)
    assert broken(report) == {"activations.quantization", "activations.granularity"}


def test_sparse_weights_out_of_line_buffers_and_subgraphs_are_refused(tpu: HardwareProfile) -> None:
    net = Net()
    weights = net.constant("int8", (4, 1, 1, 4), sparse=True)
    net_out = net.op("CONV_2D", net.input(), weights, out=("int8", (1, 8, 8, 4)))
    facts = net.facts(net_out, out_of_line_buffers=3)
    facts = replace(facts, subgraphs=facts.subgraphs * 2)
    assert {"weights.sparse", "file.inline_buffers", "file.subgraphs"} <= broken(check(facts, tpu))


def test_control_flow_is_refused_by_the_edge_tpu(tpu: HardwareProfile) -> None:
    net = Net()
    assert "operations.control_flow" in broken(check(net.facts(net.op("WHILE", net.input())), tpu))


@pytest.mark.parametrize(("op", "version"), [("CONV_2D", 6), ("FULLY_CONNECTED", 12)])
def test_versions_that_tensorflow_2_5_cannot_parse_are_refused(
    tpu: HardwareProfile, cpu: HardwareProfile, op: str, version: int
) -> None:
    net = Net()
    facts = net.facts(net.op(op, net.input(), net.constant(), version=version))
    (violation,) = [v for v in check(facts, tpu).violations if v.constraint == "operations.version"]
    assert f"version {version}" in violation.found and "2.5.0" in violation.required
    assert check(facts, cpu).passed


def test_the_old_runtime_refuses_what_the_new_converter_writes(cpu: HardwareProfile) -> None:
    net = Net()
    made = net.op("FULLY_CONNECTED", net.input("float32", (1, 4)), net.constant(), version=12)
    old = load_profile("cpu-int8-tflite-2.14")
    assert broken(check(net.facts(made), old)) == {"operations.version"}
    assert check(net.facts(made), cpu).passed


def test_builtins_that_the_compiler_does_not_know_are_refused_with_a_remedy(
    tpu: HardwareProfile,
) -> None:
    net = Net()
    report = check(net.facts(net.op("GELU", net.input())), tpu)
    (violation,) = report.violations
    assert violation.constraint == "operations.unknown" and "RELU6" in violation.hint


def test_flex_and_unknown_custom_operations_are_refused_everywhere() -> None:
    net = Net()
    facts = net.facts(net.op("FlexErf", net.input(), custom=True))
    for name in ("edgetpu-v1", "cpu-int8", "android-gpu"):
        (violation,) = [
            v
            for v in check(facts, load_profile(name)).violations
            if v.constraint == "operations.custom"
        ]
        assert "SELECT_TF_OPS" in violation.hint


def test_an_int8_operation_without_a_mapping_is_a_warning(tpu: HardwareProfile) -> None:
    net = Net()
    report = check(net.facts(net.op("LEAKY_RELU", net.input(), version=2)), tpu)
    assert report.passed
    (warning,) = report.warnings
    assert warning.constraint == "placement" and "RELU6" in warning.hint


@pytest.mark.parametrize("op", ["EXP", "NON_MAX_SUPPRESSION_V4", "SQRT"])
def test_an_operation_that_has_only_a_float_kernel_is_refused_by_name(
    tpu: HardwareProfile, op: str
) -> None:
    net = Net()
    inner = net.op("DEQUANTIZE", conv(net, net.input()), out=("float32", (1, 8, 8, 4)))
    made = net.op("QUANTIZE", net.op(op, inner), out=("int8", (1, 8, 8, 4)))
    report = check(net.facts(made), tpu)
    (named,) = [v for v in report.violations if v.constraint == "operations.float_only"]
    assert op in named.where and named.hint and "--calibration" not in named.hint


def test_a_float_convolution_behind_an_arg_max_is_no_post_processing(tpu: HardwareProfile) -> None:
    net = Net()
    picked = net.op("ARG_MAX", net.input(), net.integers(3), out=("int32", (1, 8, 8)))
    cast = net.op("CAST", picked, out=("float32", (1, 8, 8, 4)))
    facts = net.facts(conv(net, cast, dtype="float32"))
    assert {"weights.types", "activations.types"} <= broken(check(facts, tpu))


def test_arg_max_may_end_a_model_in_integers(tpu: HardwareProfile) -> None:
    net = Net()
    made = net.op("ARG_MAX", conv(net, net.input()), net.integers(3), out=("int64", (1, 8, 8)))
    report = check(net.facts(made), tpu)
    assert report.passed and [w.constraint for w in report.warnings] == ["placement"]


def test_integer_inputs_are_refused_by_the_edge_tpu_and_taken_by_a_cpu(
    tpu: HardwareProfile, cpu: HardwareProfile
) -> None:
    net = Net()
    made = net.op("GATHER", net.constant(), net.input("int32", (1, 8)), out=("int8", (1, 8, 4)))
    assert broken(check(net.facts(made), tpu)) == {"io.types"}
    assert check(net.facts(made), cpu, io="int8").passed


def test_unequal_dilation_stays_on_the_cpu(tpu: HardwareProfile) -> None:
    report = check(_net(dilation_w_factor=2), tpu)
    assert report.passed and "dilation 1 by 2" in report.warnings[0].found


def test_a_large_transpose_is_left_to_the_cpu_and_one_in_between_is_uncertain(
    tpu: HardwareProfile,
) -> None:
    def report(width: int) -> ConstraintReport:
        net = Net()
        data = net.input(shape=(1, 1, width, 64))
        order = net.integers(0, 1, 3, 2)
        return check(net.facts(net.op("TRANSPOSE", data, order, version=2)), tpu)

    assert report(900).warnings == ()
    assert "up to 57,600 is known to work" in report(1000).warnings[0].found
    assert report(1024).warnings[0].constraint == "placement"


def test_rank_five_is_refused_by_the_gpu(gpu: HardwareProfile) -> None:
    net = Net()
    made = net.op("RESHAPE", net.input("float32"), out=("float32", (1, 2, 2, 2, 32)))
    assert "shapes.rank" in broken(check(net.facts(made), gpu))


def test_what_the_gpu_leaves_alone_is_a_warning_and_what_breaks_it_a_violation(
    gpu: HardwareProfile,
) -> None:
    net = Net()
    data = net.input("float32")
    kept = net.op("SUB", data, data)
    report = check(
        net.facts(net.op("ARG_MAX", kept, net.integers(3), out=("int32", (1, 8, 8)))), gpu
    )
    assert [v.constraint for v in report.violations] == ["operations.distinct_inputs"]
    assert "ARG_MAX" in report.warnings[0].where


def test_operations_without_a_common_gpu_backend_are_refused(gpu: HardwareProfile) -> None:
    net = Net()
    floor = net.op("FLOOR", net.input("float32"))
    report = check(net.facts(net.op("SIGN", floor)), gpu)
    assert broken(report) == {"operations.backends"}


def test_every_violation_says_what_to_do(tpu: HardwareProfile) -> None:
    net = Net()
    data = net.op("QUANTIZE", net.input("float32", (2, -1, 8, 4)), out=("int16", (2, -1, 8, 4)))
    made = net.op("FlexFoo", data, net.constant("float32"), custom=True, options=CONV)
    report = check(net.facts(made, out_of_line_buffers=1), tpu, io="int8")
    assert len(broken(report)) >= 5
    assert all(v.where and v.found and v.required and v.hint for v in report.violations)
