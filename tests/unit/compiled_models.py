"""Doubles of what the Edge TPU compiler writes: the file's structure, and nothing executable.

`compiled_double` moves groups of operations of a real .tflite into custom operators, as the
compiler does with its partitions; the payload of each is in the published format of libedgetpu.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from tflite_models import pack

Fields = dict[int, Any]
CUSTOM_OP = b"edgetpu-custom-op"


def _value(builder: Any, value: Any) -> Any:
    """An offset for what is stored elsewhere, else a (kind, number) pair as it is."""
    if isinstance(value, dict):
        return _table(builder, value)
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, bytes):
        return builder.CreateByteVector(value)
    if isinstance(value, list):
        offsets = [_value(builder, item) for item in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()
    if value[0] == "ranges":  # structs of two int32
        builder.StartVector(8, len(value[1]), 4)
        for size in reversed(value[1]):
            builder.PrependInt32(size - 1)
            builder.PrependInt32(0)
        return builder.EndVector()
    return value


def _table(builder: Any, fields: Fields) -> int:
    made = {slot: _value(builder, value) for slot, value in fields.items()}
    builder.StartObject(max(fields, default=0) + 1)
    for slot, value in made.items():
        if isinstance(value, tuple):
            kind, number = value
            getattr(builder, f"Prepend{kind}Slot")(slot, number, None)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return int(builder.EndObject())


def flatbuffer(fields: Fields, identifier: bytes | None = None) -> bytes:
    """A FlatBuffer whose root has these fields by slot: a dict is a table, a list a vector."""
    builder = flatbuffers.Builder(256)
    builder.Finish(_table(builder, fields), file_identifier=identifier)
    return bytes(builder.Output())


_KINDS = {"uint8": (0, 0), "int8": (8, 128), "int16": (9, 32768), "float32": (5, 0)}


def layer(
    name: str,
    shape: Sequence[int],
    *,
    dtype: str = "uint8",
    scale: float = 0.5,
    zero_point: int = 0,
    size_bytes: int = 16,
) -> Fields:
    number, shift = _KINDS[dtype]
    return {
        0: name,
        1: ("Int32", size_bytes),
        5: {0: ("Int32", zero_point + shift), 1: ("Float32", scale)},
        6: ("Int16", number),
        11: {0: ("ranges", list(shape))},
    }


def _dma(description: int, size: int, name: str = "") -> Fields:
    return {0: ("Uint8", 1), 1: {0: {0: ("Int16", description), 2: name}, 2: ("Int32", size)}}


def executable(
    kind: int,
    parameters: bytes,
    *,
    inputs: Sequence[Fields] = (),
    outputs: Sequence[Fields] = (),
    token: int = 77,
    moved: Sequence[tuple[int, int]] = ((1, 48), (0, 16), (2, 8)),
) -> bytes:
    """`moved` lists DMA transfers: what (0 output, 1 input, 2 parameters) and its bytes."""
    return flatbuffer(
        {
            4: ("Int32", 32),
            5: [{0: b"\x05" * 64}],
            6: parameters,
            7: {0: [_dma(what, size) for what, size in moved], 1: ("Bool", True)},
            8: list(inputs),
            9: list(outputs),
            10: "beagle",
            12: ("Int32", 4876),
            13: ("Int16", kind),
            14: ("Uint64", token),
        }
    )


def package(
    *executables: bytes, runtime: int = 13, inner: Sequence[bytes] = (), repeat: int = 1
) -> bytes:
    """`repeat` lists the first executable that often, stored once."""
    builder = flatbuffers.Builder(256)
    blobs = [builder.CreateByteVector(blob) for blob in executables]
    blobs = blobs[:1] * repeat + blobs[1:]
    builder.StartVector(4, len(blobs), 4)
    for offset in reversed(blobs):
        builder.PrependUOffsetTRelative(offset)
    vector = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    builder.Finish(builder.EndObject())
    fields: Fields = {0: ("Int32", runtime), 1: bytes(builder.Output()), 4: "cl/343520747"}
    if inner:
        fields[6] = [{0: blob} for blob in inner]
    return flatbuffer(fields, b"DWN1")


def options(first: bytes, more: Sequence[bytes] = ()) -> bytes:
    """The FlexBuffers map of a custom operator, as libedgetpu reads it."""
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Key("1")
        builder.Int(0)
        builder.Key("4")
        builder.Blob(first)
        builder.Key("5")
        builder.Int(-1)
        if more:
            builder.Key("7")
            with builder.Vector():
                for blob in more:
                    builder.Blob(blob)
    return bytes(builder.Finish())


def _layer_of(tensor: Any) -> Fields:
    kinds = {schema.TensorType.UINT8: "uint8", schema.TensorType.INT8: "int8",
             schema.TensorType.INT16: "int16"}  # fmt: skip
    q = tensor.quantization
    known = q is not None and q.scale is not None and len(q.scale) > 0
    shape = [int(d) for d in tensor.shape] if tensor.shape is not None else []
    return layer(
        tensor.name.decode(),
        shape,
        dtype=kinds.get(tensor.type, "float32"),
        scale=float(q.scale[0]) if known else 1.0,
        zero_point=int(q.zeroPoint[0]) if known else 0,
    )


def compiled_double(source: bytes, groups: Sequence[set[int]], *, rename: str = "") -> bytes:
    """`source` with each group of operations (by index) inside a custom operator of its own.

    Kept operations get version 1, as the compiler writes them. `rename` is put before the name of
    every tensor.
    """
    model = schema.ModelT.InitFromPackedBuf(source)
    graph = model.subgraphs[0]
    _lower_versions(model)
    custom = schema.OperatorCodeT()
    custom.builtinCode = custom.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    custom.customCode, custom.version = CUSTOM_OP, 1
    model.operatorCodes = [*model.operatorCodes, custom]
    kept = [op for i, op in enumerate(graph.operators) if not any(i in g for g in groups)]
    made = [_partition(model, group) for group in groups]
    for op in made:
        op.opcodeIndex = len(model.operatorCodes) - 1
    if rename:
        for tensor in graph.tensors:
            tensor.name = rename.encode() + tensor.name
    graph.operators = _in_order(graph, [*made, *kept])
    model.signatureDefs = None
    return pack(model)


def _lower_versions(model: Any) -> None:
    for code in model.operatorCodes:
        code.version = 1


def _partition(model: Any, group: set[int]) -> Any:
    graph = model.subgraphs[0]
    inside = [graph.operators[i] for i in sorted(group)]
    outside = [op for i, op in enumerate(graph.operators) if i not in group]
    made = {int(t) for op in inside for t in op.outputs}
    needed = {int(t) for op in outside for t in op.inputs} | {int(t) for t in graph.outputs}
    constant = {
        i for i, t in enumerate(graph.tensors)
        if t.buffer and model.buffers[t.buffer].data is not None
    }  # fmt: skip
    reads = dict.fromkeys(int(t) for op in inside for t in op.inputs)
    op = schema.OperatorT()
    op.inputs = [t for t in reads if t >= 0 and t not in made and t not in constant]
    op.outputs = [t for t in sorted(made) if t in needed]
    runs = executable(
        2,
        b"\0" * 24,
        inputs=[_layer_of(graph.tensors[t]) for t in op.inputs],
        outputs=[_layer_of(graph.tensors[t]) for t in op.outputs],
    )
    op.customOptions = list(options(package(runs, executable(1, b"\1" * 4096))))
    return op


def _in_order(graph: Any, operators: list[Any]) -> list[Any]:
    waiting, done, made = list(operators), [], {int(t) for op in operators for t in op.outputs}
    while waiting:
        op = next(op for op in waiting if not any(int(t) in made for t in op.inputs))
        waiting.remove(op)
        done.append(op)
        made -= {int(t) for t in op.outputs}
    return done
