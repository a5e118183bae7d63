"""Unpack a .tflite into the schema's mutable objects, and pack them again.

The LiteRT package's generated code does the work, between two passes of our own reader: it trusts
its input, and it forgets that constants must stand at multiples of 16 bytes (schema.fbs:
`data:[ubyte] (force_align: 16)`), which vector code on ARM and the Edge TPU compiler rely on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgeopt.errors import ModelError
from edgeopt.model.flatbuffer import CorruptFile
from edgeopt.model.schema import BUILTIN_OPERATORS
from edgeopt.model.tflite import IDENTIFIER, constants, parse

__all__ = ["add_buffer", "operator_code", "pack", "unpack"]

_ALIGNMENT = 16
_LAST_OLD_CODE = 127  # PLACEHOLDER_FOR_GREATER_OP_CODES: the old field is one signed byte


class _Constant:
    """Stands for the schema's BufferT: the same bytes, packed at an aligned position."""

    def __init__(self, data: bytes | memoryview | None) -> None:
        self.data = data

    def Pack(self, builder: Any) -> int:  # noqa: N802  the generated code's name
        from ai_edge_litert import schema_py_generated as schema

        vector = None if self.data is None else _aligned(builder, self.data)
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))


def _aligned(builder: Any, data: bytes | memoryview) -> int:
    """What Builder.CreateByteVector does, with an alignment."""
    size = len(data)
    builder.StartVector(1, size, _ALIGNMENT)
    builder.head -= size
    builder.Bytes[builder.head : builder.head + size] = data
    return int(builder.EndVector())


def unpack(data: bytes) -> Any:
    """The schema's ModelT, all constants inside it. Raises ModelError when `data` is damaged."""
    parse(data)
    from ai_edge_litert import schema_py_generated as schema

    with _generated_code():
        model = schema.ModelT.InitFromPackedBuf(data)
    blobs = constants(data)
    model.buffers = [_Constant(blob) for blob in blobs.buffers]
    for graph, options in zip(model.subgraphs, blobs.custom_options, strict=True):
        for operator, blob in zip(graph.operators or [], options, strict=True):
            operator.customOptions = None if blob is None else bytes(blob)
            operator.largeCustomOptionsOffset = operator.largeCustomOptionsSize = 0
    return model


def pack(model: Any, *, share_zero_points: bool = False) -> bytes:
    """The file's bytes, read back by our own reader. Raises ModelError over FlatBuffers' 2 GB.

    With `share_zero_points` equal lists of them are stored once: see `edit.compact`.
    """
    import flatbuffers

    builder = _sharing_builder() if share_zero_points else flatbuffers.Builder(1 << 20)
    try:
        with _generated_code():
            builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    except flatbuffers.builder.BuilderSizeError as error:
        raise ModelError(
            "The model does not fit in one FlatBuffer of 2 GB.", "Use a smaller model."
        ) from error
    data = bytes(builder.Output())
    parse(data)
    return data


def _sharing_builder() -> Any:
    """A builder that answers an equal list of 64-bit integers with the one it has written."""
    import flatbuffers

    class Sharing(flatbuffers.Builder):  # type: ignore[misc, unused-ignore]
        written: dict[bytes, int]

        def CreateNumpyVector(self, x: Any) -> int:  # noqa: N802  the library's name
            if x.dtype.str != "<i8":
                return int(super().CreateNumpyVector(x))
            content = x.tobytes()
            if content not in self.written:
                self.written[content] = int(super().CreateNumpyVector(x))
            return self.written[content]

    builder = Sharing(1 << 20)
    builder.written = {}
    return builder


@contextmanager
def _generated_code() -> Iterator[None]:
    """It reads fields that our reader leaves alone (metadata), and follows them off the file."""
    try:
        yield
    except (
        struct.error,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise CorruptFile(f"a part that only edits read is damaged ({error})") from error


def add_buffer(model: Any) -> int:
    """A new buffer without bytes, as every activation has; returns its index."""
    model.buffers.append(_Constant(None))
    return len(model.buffers) - 1


def operator_code(model: Any, op: str, version: int) -> int:
    """The index of a builtin's operator code, added where the model has none of that version."""
    from ai_edge_litert import schema_py_generated as schema

    value = BUILTIN_OPERATORS.index(op)
    for index, code in enumerate(model.operatorCodes):
        same = max(code.builtinCode, code.deprecatedBuiltinCode) == value
        if same and code.version == version:
            return index
    made = schema.OperatorCodeT()
    made.builtinCode, made.deprecatedBuiltinCode = value, min(value, _LAST_OLD_CODE)
    made.version = version
    model.operatorCodes.append(made)
    return len(model.operatorCodes) - 1
