"""What an Edge TPU compiler of TensorFlow 2.5's time would misread without a word, both ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_models as models
from ai_edge_litert import schema_py_generated as schema
from builders import CONV, Net, conv

from edgeopt.facts import ModelFacts, Quantization, Tensor
from edgeopt.findings import Violation
from edgeopt.model import read
from edgeopt.optimize.legacy import lower_versions
from edgeopt.profile import HardwareProfile, load_profile
from edgeopt.verify import check

_INT8, _INT32 = schema.TensorType.INT8, schema.TensorType.INT32


@pytest.fixture(scope="module")
def tpu() -> HardwareProfile:
    return load_profile("edgetpu-v1")


def dense(edit: Callable[[Any], None] | None = None) -> bytes:
    """y[1, 2] = x[1, 4] @ W.T + b in int8: scales 0.5, 0.25 and their product."""

    def quantized(model: Any) -> None:
        graph = model.subgraphs[0]
        for index, (dtype, scale) in enumerate(
            ((_INT8, 0.5), (_INT8, 0.25), (_INT32, 0.125), (_INT8, 1.0))
        ):
            graph.tensors[index].type = dtype
            models.quantize(model, index, [scale], [0])
        model.buffers[1] = models.buffer(np.arange(8, dtype=np.int8))
        model.buffers[2] = models.buffer(np.array([1, -1], np.int32))
        model.operatorCodes[0].version = 4
        if edit is not None:
            edit(model)

    return models.edited(models.fully_connected(), quantized)


def found(tmp_path: Path, tpu: HardwareProfile, data: bytes) -> list[Violation]:
    path = tmp_path / "m.tflite"
    path.write_bytes(data)
    return list(check(read(path), tpu).violations)


def only(violations: list[Violation]) -> Violation:
    assert len(violations) == 1, violations
    return violations[0]


def test_a_sound_dense_layer_breaks_no_rule(tmp_path: Path, tpu: HardwareProfile) -> None:
    assert found(tmp_path, tpu, dense()) == []


def _bias_scale(model: Any) -> None:
    model.subgraphs[0].tensors[2].quantization.scale = [0.2]


def _bias_zero_point(model: Any) -> None:
    model.subgraphs[0].tensors[2].quantization.zeroPoint = [3]


def _weights_zero_point(model: Any) -> None:
    model.subgraphs[0].tensors[1].quantization.zeroPoint = [-7]


def _no_weights_scale(model: Any) -> None:
    model.subgraphs[0].tensors[1].quantization = None


def _scale_of_zero(model: Any) -> None:
    model.subgraphs[0].tensors[3].quantization.scale = [0.0]


def _several_scales(model: Any) -> None:
    models.quantize(model, 1, [0.25, 0.5], [0, 0])
    models.quantize(model, 2, [0.125, 0.25], [0, 0])


def _block_scales(model: Any) -> None:
    quantization = model.subgraphs[0].tensors[1].quantization
    quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    quantization.details = schema.BlockwiseQuantizationT()


def _variant(model: Any) -> None:
    inner = schema.VariantSubTypeT()
    inner.shape, inner.type = [1], _INT8
    model.subgraphs[0].tensors[0].variantTensors = [inner]


def _external(model: Any) -> None:
    model.subgraphs[0].tensors[0].externalBuffer = 1


def _second_union(model: Any) -> None:
    operator = model.subgraphs[0].operators[0]
    operator.builtinOptions2Type = schema.BuiltinOptions2.DilateOptions
    operator.builtinOptions2 = schema.DilateOptionsT()


def _later_options(model: Any) -> None:
    operator = model.subgraphs[0].operators[0]
    operator.builtinOptionsType = schema.BuiltinOptions.GeluOptions
    operator.builtinOptions = schema.GeluOptionsT()


def _unused_int4(model: Any) -> None:
    model.subgraphs[0].tensors.append(models.tensor("spare", [1], schema.TensorType.INT4))


def _two_operations(model: Any) -> None:
    code = model.operatorCodes[0]
    code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    assert code.builtinCode > code.deprecatedBuiltinCode


@pytest.mark.parametrize(
    ("edit", "rule", "words"),
    [
        (_bias_scale, "bias.scale", "0.125, input scale times weight scale"),
        (_bias_zero_point, "bias.zero_point", "zero point 0"),
        (_weights_zero_point, "weights.zero_point", "zero point 0"),
        (_no_weights_scale, "weights.quantization", "quantization parameters"),
        (_scale_of_zero, "activations.scale", "above 0"),
        (_block_scales, "file.extensions", "schema of TensorFlow 2.5"),
        (_variant, "file.extensions", "schema of TensorFlow 2.5"),
        (_external, "file.extensions", "schema of TensorFlow 2.5"),
        (_second_union, "file.extensions", "schema of TensorFlow 2.5"),
        (_later_options, "file.extensions", "schema of TensorFlow 2.5"),
        (_unused_int4, "file.tensor_types", "schema of TensorFlow 2.5"),
        (_two_operations, "file.extensions", "schema of TensorFlow 2.5"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else None,
)
def test_each_misreading_is_named_with_what_is_required(
    tmp_path: Path, tpu: HardwareProfile, edit: Callable[[Any], None], rule: str, words: str
) -> None:
    violation = only(found(tmp_path, tpu, dense(edit)))
    assert violation.constraint == rule
    assert words in violation.required and violation.hint and violation.source


def test_a_dense_layer_with_several_scales_is_refused(tmp_path: Path, tpu: HardwareProfile) -> None:
    """Its kernel of that time has one scale, and reads several as 0."""
    violations = found(tmp_path, tpu, dense(_several_scales))
    assert {v.constraint for v in violations} == {"weights.channel_axis"}
    assert "2 scales along axis 0" in violations[0].found


def test_another_runtime_takes_a_dense_layer_with_several_scales(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(dense(_several_scales))
    assert not load_profile("cpu-int8").old_reader
    assert check(read(path), load_profile("cpu-int8")).violations == ()


def test_names_shared_by_tensors_are_told_and_break_nothing(
    tmp_path: Path, tpu: HardwareProfile
) -> None:
    def nameless(model: Any) -> None:
        model.subgraphs[0].tensors[3].name = b""

    path = tmp_path / "m.tflite"
    path.write_bytes(dense(nameless))
    report = check(read(path), tpu)
    assert report.violations == ()
    assert [w.constraint for w in report.warnings] == ["file.tensor_names"]


def _convolution(axis: int, scales: int = 4, bias_scale: float = 0.01) -> ModelFacts:
    net = Net()
    given = net.input()
    many = Quantization(scales=(0.1,) * scales, zero_points=(0,) * scales, axis=axis)
    weights = net.constant("int8", (4, 1, 1, 4), quantization=many)
    sums = Quantization(scales=(bias_scale,) * scales, zero_points=(0,) * scales)
    bias = net.constant("int32", (4,), quantization=sums)
    out = ("int8", (1, 8, 8, 4))
    return net.facts(
        net.op("CONV_2D", given, weights, bias, out=out, version=3, options=dict(CONV))
    )


def rules(facts: ModelFacts, tpu: HardwareProfile) -> set[str]:
    return {violation.constraint for violation in check(facts, tpu).violations}


def test_a_convolution_has_its_scales_along_the_output_channels(tpu: HardwareProfile) -> None:
    assert rules(_convolution(axis=0), tpu) == set()
    assert rules(_convolution(axis=3), tpu) == {"weights.channel_axis"}


def test_a_bias_within_a_hundredth_of_its_scale_passes(tpu: HardwareProfile) -> None:
    assert rules(_convolution(axis=0, bias_scale=0.01 * 1.005), tpu) == set()
    assert rules(_convolution(axis=0, bias_scale=0.01 * 1.02), tpu) == {"bias.scale"}


def test_unsigned_weights_have_a_zero_point_of_their_own(tpu: HardwareProfile) -> None:
    net = Net()
    given = net.input("uint8")
    shifted = Quantization(scales=(0.1,), zero_points=(117,))
    weights = net.constant("uint8", (4, 1, 1, 4), quantization=shifted)
    bias = net.constant("int32", (4,))
    facts = net.facts(
        net.op("CONV_2D", given, weights, bias, out=("uint8", (1, 8, 8, 4)), options=dict(CONV))
    )
    assert rules(facts, tpu) == set()


def test_an_option_that_the_old_reader_skips_is_refused(tpu: HardwareProfile) -> None:
    def sliced(offset: bool) -> ModelFacts:
        net = Net()
        ends: list[Tensor] = [net.integers(*values) for values in ((0, 0), (1, 4), (1, 1))]
        given = net.input("int8", (1, 4))
        made = net.op("STRIDED_SLICE", given, *ends, version=2, options={"offset": offset})
        return net.facts(made)

    assert rules(sliced(False), tpu) == set()
    assert rules(sliced(True), tpu) == {"file.options"}


def test_a_file_over_2_gb_and_a_graph_without_operations_are_refused(tpu: HardwareProfile) -> None:
    net = Net()
    facts = net.facts(conv(net, net.input()))
    assert "file.size" in rules(replace(facts, size_bytes=1 << 31), tpu)
    empty = Net()
    assert "file.empty" in rules(empty.facts(empty.input()), tpu)


def test_a_dense_layer_without_a_bias_is_written_as_version_4(tmp_path: Path) -> None:
    def bare(model: Any) -> None:
        model.subgraphs[0].operators[0].inputs = [0, 1]
        model.operatorCodes[0].version = 6

    data, notes = lower_versions(dense(bare))
    assert notes == ["FULLY_CONNECTED version 6 is written as 4."]
    path = tmp_path / "m.tflite"
    path.write_bytes(data)
    (op,) = read(path).operators()
    assert op.version == 4 and len(op.inputs) == 3 and op.inputs[2] is None
