"""Edits change a model's edges and nothing that it computes: the interpreter is the witness."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_models as models
from ai_edge_litert.interpreter import Interpreter

from edgeopt.errors import InputError, ModelError
from edgeopt.model.edit import (
    compact,
    ensure_signature,
    in_order,
    inline_buffers,
    set_batch,
    with_io,
)
from edgeopt.model.tflite import parse

QUANTIZED = ["models/ic_resnet8/ref_int8.tflite", "models/kws_dscnn/ref_int8.tflite"]


def invoke(data: bytes, *inputs: Any) -> list[Any]:
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    for entry, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(entry["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(entry["index"]) for entry in interpreter.get_output_details()]


def samples(shape: tuple[int, ...] | None) -> np.ndarray:
    assert shape is not None
    return np.random.default_rng(3).integers(-128, 128, shape).astype(np.int8)


@pytest.mark.parametrize("path", QUANTIZED)
def test_uint8_values_are_the_int8_values_plus_128(shared: Path, path: str) -> None:
    data = (shared / path).read_bytes()
    edited = with_io(data, "uint8")
    x = samples(parse(data).subgraphs[0].inputs[0].shape)
    [ours] = invoke(edited, (x.astype(np.int16) + 128).astype(np.uint8))
    [theirs] = invoke(data, x)
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(ours.astype(np.int16), theirs.astype(np.int16) + 128)


@pytest.mark.parametrize("path", QUANTIZED)
def test_float_io_computes_the_dequantized_values(shared: Path, path: str) -> None:
    data = (shared / path).read_bytes()
    graph = parse(data).subgraphs[0]
    x = samples(graph.inputs[0].shape)
    [ours] = invoke(with_io(data, "float32"), real(x, graph.inputs[0]))
    np.testing.assert_array_equal(ours, real(invoke(data, x)[0], graph.outputs[0]))


def real(values: np.ndarray, tensor: Any) -> np.ndarray:
    scale, zero = tensor.quantization.scales[0], tensor.quantization.zero_points[0]
    return (np.float32(scale) * (values.astype(np.int32) - zero)).astype(np.float32)


def test_uint8_and_back_is_the_same_function(shared: Path) -> None:
    data = (shared / QUANTIZED[1]).read_bytes()
    x = samples(parse(data).subgraphs[0].inputs[0].shape)
    twice = with_io(with_io(data, "uint8"), "int8")
    np.testing.assert_array_equal(invoke(twice, x)[0], invoke(data, x)[0])


def test_adapters_stand_first_and_last_with_the_converters_versions(shared: Path) -> None:
    data = (shared / QUANTIZED[0]).read_bytes()
    before = parse(data).subgraphs[0]
    uint8, float32 = (parse(with_io(data, io)).subgraphs[0] for io in ("uint8", "float32"))
    assert [o.op for o in uint8.operators] == [
        "QUANTIZE",
        *(o.op for o in before.operators),
        "QUANTIZE",
    ]
    assert (uint8.operators[0].version, uint8.operators[-1].version) == (1, 1)
    assert (float32.operators[0].op, float32.operators[0].version) == ("QUANTIZE", 1)
    assert (float32.operators[-1].op, float32.operators[-1].version) == ("DEQUANTIZE", 2)
    outer, inner = uint8.inputs[0], before.inputs[0]
    assert outer.name == inner.name and outer.quantization and inner.quantization
    assert outer.quantization.scales == inner.quantization.scales
    assert outer.quantization.zero_points[0] == inner.quantization.zero_points[0] + 128


def test_signatures_follow_the_new_inputs_and_outputs(shared: Path) -> None:
    data = ensure_signature((shared / QUANTIZED[0]).read_bytes())
    runner = Interpreter(model_content=with_io(data, "uint8")).get_signature_runner()
    assert [d["dtype"] for d in runner.get_input_details().values()] == [np.uint8]
    assert [d["dtype"] for d in runner.get_output_details().values()] == [np.uint8]


def test_a_model_that_has_the_type_already_is_left_alone(shared: Path) -> None:
    data = (shared / QUANTIZED[0]).read_bytes()
    assert with_io(data, "int8") is data
    floats = models.fully_connected()
    assert with_io(floats, "float32") is floats


def test_a_float_model_cannot_be_given_integer_io() -> None:
    with pytest.raises(ModelError, match="x is float32, not quantized"):
        with_io(models.fully_connected(), "uint8")


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(InputError, match="'int4'"):
        with_io(models.fully_connected(), "int4")


def test_outside_weights_come_inside_and_compute_the_same() -> None:
    inline = models.fully_connected()
    repacked = inline_buffers(models.out_of_line(inline))
    assert parse(repacked).out_of_line_buffers == 0
    x = np.array([[1, 2, 3, 4]], np.float32)
    np.testing.assert_array_equal(invoke(repacked, x)[0], invoke(inline, x)[0])
    assert inline_buffers(inline) is inline


def test_zero_points_that_repeat_are_stored_once_and_read_the_same() -> None:
    def channels(model: Any) -> None:
        for index in range(2):  # both have 4 columns
            models.quantize(model, index, [0.5 + index] * 4, [0] * 4)
            model.subgraphs[0].tensors[index].quantization.quantizedDimension = 1

    data = models.edited(models.fully_connected(), channels)
    smaller = compact(data)
    assert len(smaller) < len(data)
    before, after = (parse(d).subgraphs[0].operators[0].inputs for d in (data, smaller))
    assert [t.quantization for t in after if t] == [t.quantization for t in before if t]


@pytest.mark.parametrize("path", QUANTIZED)
def test_a_compact_model_computes_the_same(shared: Path, path: str) -> None:
    data = (shared / path).read_bytes()
    smaller, x = compact(data), samples(parse(data).subgraphs[0].inputs[0].shape)
    assert len(smaller) < len(data)
    np.testing.assert_array_equal(invoke(smaller, x)[0], invoke(data, x)[0])


def test_every_edit_brings_outside_weights_inside() -> None:
    outside = models.out_of_line(models.fully_connected(signed=False))
    assert parse(ensure_signature(outside)).out_of_line_buffers == 0


def test_constants_are_aligned_to_16_bytes(shared: Path) -> None:
    data = with_io((shared / QUANTIZED[0]).read_bytes(), "uint8")
    for tensor in parse(data).subgraphs[0].tensors:
        if tensor.data is not None and len(tensor.data) > 64:
            assert data.index(tensor.data) % 16 == 0


def test_a_model_without_a_signature_gets_one(shared: Path) -> None:
    data = (shared / QUANTIZED[0]).read_bytes()
    assert parse(data).signatures == ()
    signed = ensure_signature(data)
    assert parse(signed).signatures == ("serving_default",)
    assert ensure_signature(signed) is signed
    runner = Interpreter(model_content=signed).get_signature_runner("serving_default")
    assert list(runner.get_input_details()) == ["input_1_int8"]


def test_nameless_tensors_get_distinct_names_in_the_signature() -> None:
    def nameless(model: Any) -> None:
        model.subgraphs[0].tensors[0].name = None

    signed = ensure_signature(models.edited(models.fully_connected(signed=False), nameless))
    runner = Interpreter(model_content=signed).get_signature_runner("serving_default")
    assert list(runner.get_input_details()) == ["input_0"]


def open_batch(model: Any) -> None:
    for index in (0, 3):
        model.subgraphs[0].tensors[index].shapeSignature = [
            -1,
            *model.subgraphs[0].tensors[index].shape[1:],
        ]


@pytest.mark.parametrize("batch", [1, 3])
def test_an_open_batch_is_closed(batch: int) -> None:
    data = set_batch(models.edited(models.fully_connected(), open_batch), batch)
    graph = parse(data).subgraphs[0]
    assert graph.inputs[0].shape == (batch, 4) and graph.inputs[0].signature is None
    x = np.arange(4 * batch, dtype=np.float32).reshape(batch, 4)
    for row, sample in zip(invoke(data, x)[0], x, strict=True):
        np.testing.assert_array_equal(row, invoke(models.fully_connected(), sample[None])[0][0])


@pytest.mark.parametrize("path", [*QUANTIZED, "models/ic_resnet8/ref_f32.tflite"])
def test_real_models_with_an_open_batch_compute_the_same(shared: Path, path: str) -> None:
    data = (shared / path).read_bytes()
    closed = set_batch(data)
    graph = parse(closed).subgraphs[0]
    assert not any(-1 in (tensor.signature or ()) for tensor in graph.tensors)
    x = samples(graph.inputs[0].shape).astype(graph.inputs[0].dtype)
    np.testing.assert_array_equal(invoke(closed, x)[0], invoke(data, x)[0])


def test_an_open_height_is_not_guessed() -> None:
    def open_width(model: Any) -> None:
        model.subgraphs[0].tensors[0].shapeSignature = [-1, -1]

    with pytest.raises(ModelError, match="more than its first dimension"):
        set_batch(models.edited(models.fully_connected(), open_width))


def test_a_constant_that_holds_the_old_batch_is_not_overlooked(shared: Path) -> None:
    data = (shared / "models/kws_dscnn/ref_int8.tflite").read_bytes()
    if not any(t.signature for t in parse(data).subgraphs[0].tensors):
        pytest.skip("the model has no open batch")
    try:
        closed = set_batch(data, 4)
    except ModelError as error:
        assert "may depend on the size of the batch" in error.message
    else:
        assert invoke(closed, samples((4, 49, 10, 1)))[0].shape[0] == 4


def test_edits_of_damaged_files_end_in_a_model_error(shared: Path) -> None:
    whole = (shared / "models/coral/keras_lstm_mnist_ptq.tflite").read_bytes()
    source = random.Random(17)
    edits = (inline_buffers, ensure_signature, set_batch, lambda data: with_io(data, "float32"))
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(source.randrange(1, 8)):
            data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        try:
            source.choice(edits)(bytes(data))
        except ModelError:
            pass


def test_edits_refuse_damaged_files() -> None:
    for edit in (inline_buffers, ensure_signature, set_batch):
        with pytest.raises(ModelError):
            edit(models.fully_connected()[:-40])


CONVERT = """
import sys, keras, numpy as np, tensorflow as tf
L = keras.layers
x = keras.Input((8, 8, 3), batch_size=1)
y = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu")(x))
keras.Model(x, L.Dense(3)(y)).export(sys.argv[1], verbose=False)
samples = np.random.default_rng(0).normal(size=(8, 1, 8, 8, 3)).astype("f4")
for name in ("int8", "uint8", "float32"):
    converter = tf.lite.TFLiteConverter.from_saved_model(sys.argv[1])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample] for sample in samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = getattr(tf, name)
    with open(f"{sys.argv[1]}/{name}.tflite", "wb") as file:
        file.write(converter.convert())
"""


@pytest.mark.tf
def test_the_edges_are_those_that_the_converter_makes(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("tensorflow is not installed (the tf extra)")
    command = [sys.executable, "-W", "ignore", "-c", CONVERT, str(tmp_path)]
    subprocess.run(command, capture_output=True, check=True)
    for io in ("uint8", "float32"):
        ours = parse(with_io((tmp_path / "int8.tflite").read_bytes(), io))
        theirs = parse((tmp_path / f"{io}.tflite").read_bytes())
        assert ours.signatures == theirs.signatures
        one, other = ours.subgraphs[0], theirs.subgraphs[0]
        assert [edge(t) for t in one.inputs] == [edge(t) for t in other.inputs]
        assert [edge(t) for t in one.outputs] == [edge(t) for t in other.outputs]
        assert [(o.op, o.version) for o in one.operators] == [
            (o.op, o.version) for o in other.operators
        ]


def edge(tensor: Any) -> tuple[object, ...]:
    return tensor.name, tensor.dtype, tensor.shape, tensor.quantization


def two_of_each() -> bytes:
    """difference = left - right, and total = left + right; in the order in which they are said."""
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.SubGraphT()
    names = ("left", "right", "difference", "total")
    graph.tensors = [models.tensor(name, [1, 2]) for name in names]
    graph.inputs, graph.outputs, graph.operators = [0, 1], [2, 3], []
    for code, result in ((0, 2), (1, 3)):
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = code, [0, 1], [result]
        graph.operators.append(op)
    model = schema.ModelT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [models.buffer()]
    model.operatorCodes = []
    for builtin in (schema.BuiltinOperator.SUB, schema.BuiltinOperator.ADD):
        code_of = schema.OperatorCodeT()
        code_of.builtinCode = code_of.deprecatedBuiltinCode = builtin
        code_of.version = 1
        model.operatorCodes.append(code_of)
    inputs, outputs = {"left": 0, "right": 1}, {"difference": 2, "total": 3}
    model.signatureDefs = [models.signature(inputs, outputs, "serving_default")]
    return models.pack(model)


def test_inputs_and_outputs_go_where_their_author_had_them() -> None:
    left, right = np.float32([[5, 7]]), np.float32([[1, 2]])
    turned = in_order(two_of_each(), ["right", "left"], ["total", "difference"])
    total, difference = invoke(turned, right, left)
    assert total.tolist() == [[6, 9]]
    assert difference.tolist() == [[4, 5]]


def test_an_order_of_other_names_changes_nothing() -> None:
    data = two_of_each()
    assert in_order(data, ["left", "x"], ["total"]) == data
