"""Facts of real .tflite files, and of files that lie."""

from __future__ import annotations

import inspect
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tflite_models as models
from ai_edge_litert import schema_py_generated as generated

from edgeopt.errors import ModelError
from edgeopt.model import CorruptFile, probe, read
from edgeopt.model.flatbuffer import Table
from edgeopt.model.schema import BUILTIN_OPERATORS, ENUMS, TENSOR_TYPES, read_options, tables
from edgeopt.model.tflite import parse, tensor_bytes

ENUM_CLASSES = {
    "Activation": "ActivationFunctionType",
    "WeightsFormat": "FullyConnectedOptionsWeightsFormat",
    "TensorType": "TensorType",
}


def members(name: str) -> list[str]:
    found = vars(getattr(generated, name)).items()
    values = {k: v for k, v in found if isinstance(v, int) and not k.startswith("_")}
    return sorted(values, key=lambda key: values[key])


def test_enums_are_those_of_the_schema() -> None:
    assert members("BuiltinOperator") == BUILTIN_OPERATORS
    assert [name.lower() for name in members("TensorType")] == TENSOR_TYPES
    for ours, names in ENUMS.items():
        assert members(ENUM_CLASSES.get(ours, ours)) == names


def schema_slots(member: str) -> dict[int, str]:
    """Slot to field name, as the generated builder functions write them."""
    source = inspect.getsource(generated)
    pattern = rf"^def {member}Add(\w+)\(builder.*?:\n\s+builder\.\w+\((\d+)"
    found = re.finditer(pattern, source, re.M)
    return {int(match[2]): match[1].lower() for match in found}


@pytest.mark.parametrize("union", [1, 2])
def test_option_tables_are_those_of_the_schema(union: int) -> None:
    ours = tables(union)
    theirs = members("BuiltinOptions" if union == 1 else "BuiltinOptions2")
    assert len(ours) == len(theirs)
    for (name, fields), member in zip(ours, theirs, strict=True):
        assert member.removesuffix("Options") == name
        slots = schema_slots(member) if fields else {}
        for field in fields:
            expected = slots[field.slot].removesuffix("function")
            assert field.name.replace("_", "") in (expected, slots[field.slot]), member


def test_option_defaults_are_those_of_the_schema() -> None:
    for index, (name, fields) in enumerate(tables(1)):
        if not fields:
            continue
        empty = models.options_table(f"{name}Options")
        found = read_options(Table.root(empty), 1, index)
        wanted = vars(getattr(generated, f"{name}OptionsT")())
        for field in fields:
            raw = next(v for k, v in wanted.items() if same_name(k, field.name))
            value = ENUMS[field.kind][raw] if field.kind in ENUMS else raw
            assert found[field.name] in (value, () if value is None else value, ""), (name, field)


def same_name(theirs: str, ours: str) -> bool:
    return theirs.lower().removesuffix("function") == ours.replace("_", "")


def test_an_int8_resnet_is_read_whole(shared: Path) -> None:
    facts = read(shared / "models/ic_resnet8/ref_int8.tflite")
    ops = list(facts.operators())
    assert facts.format == "tflite" and facts.quantized
    assert facts.parameters == 77_706
    assert (ops[0].op, ops[0].version) == ("CONV_2D", 3)
    assert ops[0].options["padding"] == "SAME" and ops[0].options["fused_activation"] == "RELU"
    weights = ops[0].inputs[1]
    assert weights is not None and weights.quantization is not None and weights.data is not None
    assert weights.quantization.per_channel and weights.constant
    assert facts.inputs[0].shape == (1, 32, 32, 3)
    assert facts.inputs[0].signature == (-1, 32, 32, 3)
    assert facts.outputs[0].dtype == "int8"


def test_tensors_agree_with_the_generated_reader(shared: Path) -> None:
    path = shared / "models/coral/keras_lstm_mnist_ptq.tflite"
    theirs = generated.ModelT.InitFromPackedBuf(path.read_bytes()).subgraphs
    for ours, graph in zip(read(path).subgraphs, theirs, strict=True):
        for tensor, other in zip(ours.tensors, graph.tensors, strict=True):
            assert tensor.name == other.name.decode()
            assert tensor.shape == tuple(other.shape if other.shape is not None else ())
            assert TENSOR_TYPES.index(tensor.dtype) == other.type
            assert tensor.variable == other.isVariable
        for operator, entry in zip(ours.operators, graph.operators, strict=True):
            found = [-1 if t is None else t.index for t in operator.inputs]
            assert found == list(entry.inputs)


def test_every_shared_model_is_read(shared: Path) -> None:
    paths = [*shared.glob("models/**/*.tflite"), *shared.glob("edgetpu/models/*.tflite")]
    assert len(paths) > 20
    for path in paths:
        contents = parse(path.read_bytes())
        compiled = any(op.op == "edgetpu-custom-op" for op in contents.subgraphs[0].operators)
        assert (contents.parameters is None) == compiled, path
        assert compiled == ("edgetpu" in path.name)


def test_a_custom_operator_is_named_by_its_code(shared: Path) -> None:
    [operator] = read(shared / "models/coral/model_invoking_error.tflite").operators()
    assert operator.custom and operator.op == "fake-op-double"


def test_four_bit_tensors_are_packed_two_a_byte() -> None:
    assert tensor_bytes("int4", (3, 3)) == 5
    assert tensor_bytes("int2", (5,)) == 2
    assert tensor_bytes("float32", ()) == 4
    assert tensor_bytes("float32", (-1, 2)) is None
    assert tensor_bytes("string", (1,)) is None


def test_optional_inputs_and_defaults_are_kept() -> None:
    contents = parse(models.fully_connected(bias=False))
    [operator] = contents.subgraphs[0].operators
    assert operator.inputs[2] is None and operator.version == 1
    assert contents.parameters == 8


def test_out_of_line_weights_are_found_and_counted() -> None:
    inline, outside = models.fully_connected(), models.out_of_line(models.fully_connected())
    contents = parse(outside)
    assert contents.out_of_line_buffers == 2
    ours, theirs = contents.subgraphs[0].operators[0], parse(inline).subgraphs[0].operators[0]
    for one, other in zip(ours.inputs, theirs.inputs, strict=True):
        assert one is not None and other is not None
        assert bytes(one.data or b"") == bytes(other.data or b"")
    with pytest.raises(CorruptFile, match="outside the file"):
        parse(outside[:-1])


def change(edit: Callable[[Any], None]) -> bytes:
    return models.edited(models.fully_connected(), edit)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda m: setattr(m.subgraphs[0].operators[0], "inputs", [0, 99, -1]), "tensor 99 of 4"),
        (lambda m: setattr(m.subgraphs[0].operators[0], "inputs", [0, -2, -1]), "tensor -2 of 4"),
        (lambda m: setattr(m.subgraphs[0], "inputs", [-1]), "left out"),
        (lambda m: setattr(m.subgraphs[0].operators[0], "opcodeIndex", 9), "operator code 9 of 1"),
        (lambda m: setattr(m.subgraphs[0].tensors[1], "buffer", 77), "buffer 77"),
        (lambda m: setattr(m.subgraphs[0].tensors[1], "shape", [400, 400]), "needs 640000 bytes"),
        (lambda m: setattr(m.subgraphs[0].tensors[1], "shape", [-9, 4]), "has the shape"),
        (lambda m: setattr(m.subgraphs[0].tensors[1], "type", 99), "unknown type 99"),
        (lambda m: models.quantize(m, 1, [1.0], []), "1 scales and 0 zero points"),
        (lambda m: models.quantize(m, 1, [1.0] * 3, [0] * 3), "3 scales along axis 0"),
        (lambda m: setattr(m, "version", 2), "schema version 2"),
        (lambda m: setattr(m, "subgraphs", []), "no subgraph"),
        (lambda m: setattr(m.signatureDefs[0], "subgraphIndex", 5), "subgraph 5 of 1"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(edit: Callable[[Any], None], words: str) -> None:
    with pytest.raises(ModelError, match=re.escape(words)):
        parse(change(edit))


def test_damage_is_reported_or_read_but_never_crashes(shared: Path) -> None:
    whole = (shared / "models/coral/keras_lstm_mnist_ptq.tflite").read_bytes()
    source = random.Random(7)
    for turn in range(600):
        data = bytearray(whole)
        if turn % 2:
            del data[source.randrange(len(data)) :]
        else:
            for _ in range(source.randrange(1, 8)):  # the structure is at the end
                at = source.randrange(max(0, len(data) - 8000), len(data))
                data[at] ^= 1 << source.randrange(8)
        started = time.monotonic()
        try:
            parse(bytes(data))
        except ModelError:
            pass
        assert time.monotonic() - started < 2


def test_probe_runs_a_good_model(shared: Path) -> None:
    probe(shared / "models/kws_dscnn/ref_int8.tflite")


def test_probe_gives_the_runtimes_reason(shared: Path) -> None:
    with pytest.raises(ModelError, match="unresolved custom op: fake-op-double"):
        probe(shared / "models/coral/model_invoking_error.tflite")


def test_probe_says_that_a_compiled_model_needs_its_delegate(shared: Path) -> None:
    with pytest.raises(ModelError, match="compiled for an Edge TPU"):
        probe(shared / "edgetpu/models/split_concat_edgetpu.tflite")


def test_probe_survives_a_runtime_that_crashes_or_hangs(tmp_path: Path) -> None:
    path = tmp_path / "crash.tflite"
    path.write_bytes(change(lambda m: setattr(m.subgraphs[0].tensors[3], "shape", [2**30, 2**30])))
    with pytest.raises(ModelError, match="cannot run"):
        probe(path)
    with pytest.raises(ModelError, match="did not finish"):
        probe(path, timeout_s=0.001)
