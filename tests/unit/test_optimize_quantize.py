"""Quantizing a float .tflite without TensorFlow: real models, the interpreter as the witness."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_models as models
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgeopt.dataset import Dataset, Preprocess, load_dataset
from edgeopt.errors import InputError, ModelError
from edgeopt.model import read
from edgeopt.optimize import ConversionRequest, convert, quantize, to_float
from edgeopt.optimize.legacy import lower_versions, raise_versions
from edgeopt.paths import demo_dir
from edgeopt.plan import make_plan
from edgeopt.progress import Silent
from edgeopt.target import load_target

FLOAT = demo_dir() / "fashion.tflite"
SCALED = Preprocess.parse("scale=1/255")


def demo_data(arrays: str = "x_calib") -> Dataset:
    return load_dataset(f"{demo_dir() / 'samples.npz'}:{arrays}", preprocess=SCALED)


def answers(path: Path, data: Dataset) -> np.ndarray:
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for (value,) in data.samples():
        if source["dtype"] != np.float32:
            scale, zero = source["quantization"]
            limits = np.iinfo(source["dtype"])
            value = np.clip(np.rint(value / scale) + zero, limits.min, limits.max)
        interpreter.set_tensor(source["index"], value[None].astype(source["dtype"]))
        interpreter.invoke()
        found.append(int(interpreter.get_tensor(result["index"]).argmax()))
    return np.array(found)


def run(tmp_path: Path, scheme: str, **wanted: Any) -> Any:
    request = ConversionRequest(scheme=scheme, **wanted)
    data = demo_data() if request.calibrated else None
    return quantize(FLOAT, request, tmp_path / "out.tflite", dataset=data, progress=Silent())


@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic_int8", "int8", "int16x8"])
def test_every_scheme_keeps_the_answers_of_the_float_model(tmp_path: Path, scheme: str) -> None:
    made = run(tmp_path, scheme)
    data = demo_data("x,y")
    assert made.engine == ("copy" if scheme == "float32" else "litert-quantizer")
    agreement = np.mean(answers(made.path, data) == answers(FLOAT, data))
    assert agreement >= 0.95
    assert [f.name for f in tmp_path.iterdir()] == ["out.tflite"]


@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_int8_models_take_the_io_that_was_asked_for(tmp_path: Path, io: str) -> None:
    facts = read(run(tmp_path, "int8", io=io).path)
    assert {t.dtype for t in (*facts.inputs, *facts.outputs)} == {io}


def test_a_model_for_the_edgetpu_has_old_versions_and_inline_weights(tmp_path: Path) -> None:
    facts = read(run(tmp_path, "int8", legacy_ops=True).path)
    assert facts.out_of_line_buffers == 0
    assert not [t for t in facts.tensors() if t.dtype.startswith("float")]
    assert not [op for op in facts.operators() if op.op in ("QUANTIZE", "DEQUANTIZE")]
    [dense] = [op for op in facts.operators() if op.op == "FULLY_CONNECTED"]
    assert dense.version in (1, 4)
    weights = dense.inputs[1]
    assert weights is not None
    assert weights.quantization is not None
    assert not weights.quantization.per_channel


@pytest.mark.parametrize("scheme", ["float16", "dynamic_int8", "int16x8"])
def test_weights_stay_inside_the_flatbuffer(tmp_path: Path, scheme: str) -> None:
    assert read(run(tmp_path, scheme).path).out_of_line_buffers == 0


def test_the_number_of_processes_changes_nothing(tmp_path: Path) -> None:
    one = run(tmp_path, "int8", processes=1).path.read_bytes()
    made = run(tmp_path, "int8", processes=3)
    assert made.path.read_bytes() == one
    assert made.calibration is not None
    assert (made.calibration["samples"], made.calibration["processes"]) == (100, 3)


def test_int8_without_data_says_which_flag(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--calibration"):
        quantize(FLOAT, ConversionRequest(scheme="int8"), tmp_path / "o.tflite", progress=Silent())


def test_few_samples_are_pointed_out(tmp_path: Path) -> None:
    assert "only 3 samples" in " ".join(run(tmp_path, "int8", calibration_samples=3).notes)


def stored(tmp_path: Path, values: np.ndarray) -> Dataset:
    np.save(tmp_path / "d.npy", values)
    return load_dataset(str(tmp_path / "d.npy"))


def fails(tmp_path: Path, data: Dataset, kind: type[Exception], message: str) -> None:
    output = tmp_path / "made" / "out.tflite"
    with pytest.raises(kind, match=message):
        quantize(FLOAT, ConversionRequest(scheme="int8"), output, dataset=data, progress=Silent())
    assert list(output.parent.iterdir()) == []


def test_identical_samples_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    same = np.ones((12, 28, 28, 1), np.float32)
    fails(tmp_path, stored(tmp_path, same), InputError, "All 12 calibration samples are identical")


def test_nan_in_the_data_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((12, 28, 28, 1), dtype=np.float32)
    values[5] = np.nan
    fails(tmp_path, stored(tmp_path, values), InputError, "Sample 5 of .* NaN")


def test_a_result_that_does_not_run_is_thrown_away(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((12, 28, 28, 1), dtype=np.float32) * 3e38
    fails(tmp_path, stored(tmp_path, values), ModelError, "does not run, and was thrown away")


def test_ctrl_c_leaves_no_file(tmp_path: Path) -> None:
    class InterruptingProgress(Silent):
        def advance(self, done: int, total: int | None = None) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(
            FLOAT,
            ConversionRequest(scheme="int8"),
            tmp_path / "out.tflite",
            dataset=demo_data(),
            progress=InterruptingProgress(),
        )
    assert list(tmp_path.iterdir()) == []


def leaky() -> bytes:
    """y = leaky_relu(x): an operation that the LiteRT quantizer does not have."""
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    operator.builtinOptionsType = schema.BuiltinOptions.LeakyReluOptions
    operator.builtinOptions = schema.LeakyReluOptionsT()
    operator.builtinOptions.alpha = 0.1
    graph = schema.SubGraphT()
    graph.tensors = [models.tensor("x", [1, 8]), models.tensor("y", [1, 8])]
    graph.inputs, graph.outputs, graph.operators = [0], [1], [operator]
    return models.pack(models.model_of(graph, schema.BuiltinOperator.LEAKY_RELU, [models.buffer()]))


def test_an_operation_left_in_float_is_named_with_the_two_ways_out(tmp_path: Path) -> None:
    source = tmp_path / "leaky.tflite"
    source.write_bytes(leaky())
    data = stored(tmp_path, np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32))
    with pytest.raises(ModelError, match="LEAKY_RELU") as caught:
        convert(
            source,
            ConversionRequest(scheme="int8"),
            tmp_path / "o.tflite",
            dataset=data,
            progress=Silent(),
        )
    assert "SavedModel" in caught.value.hint
    assert "replace" in caught.value.hint


def test_a_quantized_file_is_passed_through_and_said_so(tmp_path: Path) -> None:
    made = run(tmp_path, "int8").path
    again = to_float(made, tmp_path / "f.tflite", progress=Silent())
    assert again.already_quantized
    assert again.path.read_bytes() == made.read_bytes()
    with pytest.raises(ModelError, match="already quantized"):
        quantize(
            made,
            ConversionRequest(scheme="float16"),
            tmp_path / "x.tflite",
            progress=Silent(),
        )


def test_an_open_batch_is_closed_and_noted(shared: Path, tmp_path: Path) -> None:
    source = shared / "models/ic_resnet8/ref_f32.tflite"
    made = to_float(source, tmp_path / "f.tflite", batch=2, progress=Silent())
    facts = read(made.path)
    assert facts.inputs[0].shape == (2, 32, 32, 3)
    assert facts.signatures
    assert "now 2" in made.notes[0]


def test_a_batch_above_one_calibrates(shared: Path, tmp_path: Path) -> None:
    source = shared / "models/ic_resnet8/ref_f32.tflite"
    to_float(source, tmp_path / "f.tflite", batch=2, progress=Silent())
    values = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3)).astype(np.float32)
    made = quantize(
        tmp_path / "f.tflite",
        ConversionRequest(scheme="int8", batch=2),
        tmp_path / "q.tflite",
        dataset=stored(tmp_path, values),
        progress=Silent(),
    )
    assert read(made.path).quantized


def with_version(version: int, data: bytes) -> bytes:
    def edit(model: Any) -> None:
        for code in model.operatorCodes:
            code.version = version

    return models.edited(data, edit)


def versions(data: bytes) -> Iterator[int]:
    model = schema.ModelT.InitFromPackedBuf(data)
    return (code.version for code in model.operatorCodes)


def test_float_operators_keep_their_versions() -> None:
    data = with_version(12, models.fully_connected())
    assert lower_versions(data) == (data, [])


def test_int8_operators_have_the_versions_of_files_that_the_old_compiler_took(
    tmp_path: Path, shared: Path
) -> None:
    """Float operators are of version 1, which does not mean int8."""
    known = {
        (op.op, op.version)
        for name in (
            "edgetpu/models/movenet_single_pose_lightning_ptq",
            "models/kws_dscnn/ref_int8",
        )
        for op in read(shared / f"{name}.tflite").operators()
    }
    made = run(tmp_path, "int8", legacy_ops=True).path
    written = {(op.op, op.version) for op in read(made).operators()}
    assert {("CONV_2D", 3), ("DEPTHWISE_CONV_2D", 3), ("FULLY_CONNECTED", 4)} <= written
    assert written - known - {("MEAN", 2)} == set()


def test_float_operators_with_int8_weights_keep_their_versions(tmp_path: Path) -> None:
    data = run(tmp_path, "dynamic_int8").path.read_bytes()
    assert raise_versions(data) == data


def test_an_int8_dense_layer_of_version_12_is_written_as_4(tmp_path: Path) -> None:
    def new(model: Any) -> None:
        for code in model.operatorCodes:
            if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED:
                code.version = 12

    data = run(tmp_path, "int8", legacy_ops=True).path.read_bytes()
    lowered, notes = lower_versions(models.edited(data, new))
    assert max(versions(lowered)) == 4
    assert notes == ["FULLY_CONNECTED version 12 is written as 4."]


def test_the_report_tells_the_data_and_what_was_done_to_it() -> None:
    described = demo_data().match(read(FLOAT).inputs).describe()
    assert described["samples"] == 100
    assert described["preprocess"]["scale"] == pytest.approx(1 / 255)
    assert replace(demo_data(), notes=("n",)).describe()["notes"] == ["n"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_diverged_is_refused_with_the_tensor(tmp_path: Path, value: float) -> None:
    data = models.fully_connected().replace(np.float32(7).tobytes(), np.float32(value).tobytes())
    (tmp_path / "m.tflite").write_bytes(data)
    with pytest.raises(ModelError, match=r"1 of 8 values of w, used by FULLY_CONNECTED #0"):
        to_float(tmp_path / "m.tflite", tmp_path / "out.tflite", progress=Silent())
    assert not (tmp_path / "out.tflite").exists()


def test_smaller_weights_are_taken_as_they_are_or_not_at_all(tmp_path: Path) -> None:
    facts = read(run(tmp_path, "float16").path)
    assert facts.weights_reduced and not facts.quantized
    plan = make_plan(facts, load_target("cpu"), has_calibration=False)
    assert plan.scheme is None and "nothing to convert" in plan.reasons[0]
    for scheme in ("int8", "float32"):
        with pytest.raises(InputError, match="already quantized"):
            make_plan(facts, load_target("cpu"), has_calibration=True, scheme=scheme)
    with pytest.raises(ModelError, match="takes only int8"):
        make_plan(facts, load_target("edgetpu"), has_calibration=True)


def test_a_custom_operation_is_named_not_a_temporary_file(tmp_path: Path) -> None:
    def custom(model: Any) -> None:
        code = model.operatorCodes[0]
        code.builtinCode = schema.BuiltinOperator.CUSTOM
        code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = b"MyOp"
        operator = model.subgraphs[0].operators[0]
        operator.builtinOptionsType, operator.builtinOptions = 0, None

    data = models.edited(models.fully_connected(), custom)
    (tmp_path / "m.tflite").write_bytes(data)
    with pytest.raises(ModelError, match=r"m\.tflite has custom operations.*MyOp #0"):
        to_float(tmp_path / "m.tflite", tmp_path / "out.tflite", progress=Silent())
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"]
