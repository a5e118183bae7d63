"""Read a .tflite file: subgraphs, tensors, operators and constants, none of it executed.

Slots are the field numbers of schema.fbs (see `schema`). What the runtime's own loader would
refuse (indices out of range, short buffers, quantization vectors that do not match) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod

from edgeopt.errors import ModelError
from edgeopt.facts import Operator, Quantization, Subgraph, Tensor
from edgeopt.model.contents import Contents
from edgeopt.model.extensions import find_extensions
from edgeopt.model.flatbuffer import CorruptFile, Table
from edgeopt.model.parameters import count_parameters
from edgeopt.model.schema import BUILTIN_OPERATORS, TENSOR_BITS, TENSOR_TYPES, read_options

__all__ = ["IDENTIFIER", "Constants", "constants", "parse", "tensor_bytes"]

IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
_MAX_RANK = 64  # the runtime's kernels stop at 8
_CUSTOM = BUILTIN_OPERATORS.index("CUSTOM")


@dataclass(frozen=True, kw_only=True)
class _Buffer:
    data: memoryview | None
    out_of_line: bool


@dataclass(frozen=True, kw_only=True)
class _Code:
    op: str
    version: int
    custom: bool


@dataclass(frozen=True, kw_only=True)
class Constants:
    """By buffer index, and by subgraph and operator index; None where there is nothing."""

    buffers: list[memoryview | None]
    custom_options: list[list[memoryview | None]]


def parse(data: bytes | memoryview) -> Contents:
    """Everything a .tflite says. Raises CorruptFile, or ModelError for another schema version."""
    view = memoryview(data)
    model = Table.root(view, IDENTIFIER)
    version = model.scalar(0, "u32", 0)
    if version != _SCHEMA_VERSION:
        raise ModelError(
            f"The model has schema version {version}; TensorFlow Lite's runtimes read version 3.",
            "Convert it again with a current converter, or copy it again if it was damaged.",
        )
    reader = _Reader(model, view)
    graphs = model.tables(2)
    if not graphs:
        raise CorruptFile("it holds no subgraph")
    subgraphs = tuple(reader.subgraph(i, graph) for i, graph in enumerate(graphs))
    return Contents(
        subgraphs=subgraphs,
        parameters=count_parameters(subgraphs),
        description=model.string(3) or "",
        out_of_line_buffers=sum(buffer.out_of_line for buffer in reader.buffers),
        signatures=_signatures(model.tables(7), subgraphs),
        extensions=tuple(find_extensions(Table.root(view, IDENTIFIER))),
    )


def constants(data: bytes | memoryview) -> Constants:
    """The bytes of every buffer and custom operator, wherever the file keeps them."""
    view = memoryview(data)
    model = Table.root(view, IDENTIFIER)
    reader = _Reader(model, view)
    return Constants(
        buffers=[buffer.data for buffer in reader.buffers],
        custom_options=[
            [reader.custom_options(table) for table in graph.tables(3)] for graph in model.tables(2)
        ],
    )


def tensor_bytes(dtype: str, shape: Sequence[int] | None) -> int | None:
    """Bytes of a tensor (4-bit types packed two a byte); None when open or of no fixed size."""
    bits = TENSOR_BITS.get(dtype)
    if bits is None or shape is None or any(d < 0 for d in shape):
        return None
    return (prod(shape) * bits + 7) // 8


class _Reader:
    """The tables that subgraphs share: buffers and operator codes."""

    def __init__(self, model: Table, view: memoryview) -> None:
        self.view = view
        self.buffers = [self._buffer(table) for table in model.tables(4)]
        self.codes = [_code(table) for table in model.tables(1)]
        # Ranks are stated since TF 2.13: where no tensor states one, an empty shape is a scalar.
        self.ranks_stated = any(
            tensor.has(8) for graph in model.tables(2) for tensor in graph.tables(0)
        )

    def subgraph(self, index: int, table: Table) -> Subgraph:
        tensors = tuple(self._tensor(i, t) for i, t in enumerate(table.tables(0)))
        where = f"subgraph {index}"
        return Subgraph(
            index=index,
            name=table.string(4) or "",
            inputs=_pick_all(tensors, table.scalars(1, "i32"), f"an input of {where}"),
            outputs=_pick_all(tensors, table.scalars(2, "i32"), f"an output of {where}"),
            operators=tuple(
                self._operator(i, index, t, tensors) for i, t in enumerate(table.tables(3))
            ),
            tensors=tensors,
        )

    def _buffer(self, table: Table) -> _Buffer:
        """A buffer, be it inside the FlatBuffer or behind it (offset > 1, for files over 2 GB)."""
        offset, size = table.scalar(1, "u64", 0), table.scalar(2, "u64", 0)
        if offset <= 1:
            return _Buffer(data=table.bytes(0), out_of_line=False)
        return _Buffer(data=self._outside(offset, size, "a buffer"), out_of_line=True)

    def _outside(self, offset: int, size: int, what: str) -> memoryview:
        if offset + size > len(self.view):
            raise CorruptFile(f"{what} of {size} bytes lies outside the file", offset=offset)
        return self.view[offset : offset + size]

    def _tensor(self, index: int, table: Table) -> Tensor:
        name = table.string(3) or ""
        where = f"tensor {index} ({name[:80]})"
        dtype = _dtype(table.scalar(1, "i8", 0), where)
        shape = self._shape(table, where)
        sparse = table.table(6) is not None
        data = self._data(table.scalar(2, "u32", 0), shape, dtype, sparse, where)
        size = tensor_bytes(dtype, shape)
        if data is not None and (sparse or size is None):
            size = len(data)
        return Tensor(
            index=index,
            name=name,
            dtype=dtype,
            shape=shape,
            signature=_dimensions(table, 7, where) if table.has(7) else None,
            quantization=_quantization(table.table(4), shape, where),
            constant=data is not None or bool(table.scalar(10, "u32", 0)),
            variable=table.scalar(5, "bool", False),
            sparse=sparse,
            size_bytes=size,
            data=data,
        )

    def _shape(self, table: Table, where: str) -> tuple[int, ...] | None:
        shape = _dimensions(table, 0, where)
        if shape or table.scalar(8, "bool", False) or not self.ranks_stated:
            return shape
        return shape if table.scalar(2, "u32", 0) and self._is_constant(table) else None

    def _is_constant(self, table: Table) -> bool:
        index = table.scalar(2, "u32", 0)
        return index < len(self.buffers) and bool(self.buffers[index].data)

    def _data(
        self, index: int, shape: tuple[int, ...] | None, dtype: str, sparse: bool, where: str
    ) -> memoryview | None:
        """The constant's bytes; None for buffer 0 and for the empty ones of activations."""
        if index == 0:
            return None
        if index >= len(self.buffers):
            raise CorruptFile(f"{where} names buffer {index} of {len(self.buffers)}")
        data = self.buffers[index].data
        size = tensor_bytes(dtype, shape)
        if data is None or (not len(data) and size != 0):
            return None
        if size is not None and not sparse and len(data) < size:
            raise CorruptFile(f"{where} needs {size} bytes and its buffer holds {len(data)}")
        return data

    def _operator(
        self, index: int, subgraph: int, table: Table, tensors: tuple[Tensor, ...]
    ) -> Operator:
        which = table.scalar(0, "u32", 0)
        if which >= len(self.codes):
            raise CorruptFile(f"operator {index} names operator code {which} of {len(self.codes)}")
        code = self.codes[which]
        where = f"operator {index} ({code.op[:80]})"
        inputs = [_pick(tensors, i, f"an input of {where}") for i in table.scalars(1, "i32")]
        outputs = [_pick(tensors, i, f"an output of {where}") for i in table.scalars(2, "i32")]
        return Operator(
            index=index,
            subgraph=subgraph,
            op=code.op,
            version=code.version,
            inputs=tuple(inputs),
            outputs=tuple(t for t in outputs if t is not None),
            options=_options(table),
            custom=code.custom,
            custom_options=self.custom_options(table),
        )

    def custom_options(self, table: Table) -> memoryview | None:
        offset, size = table.scalar(9, "u64", 0), table.scalar(10, "u64", 0)
        return table.bytes(5) if offset <= 1 else self._outside(offset, size, "custom options")


def _options(table: Table) -> Mapping[str, object]:
    """The builtin options: each union takes a type slot and a table slot."""
    for union, slot in ((1, 3), (2, 11)):
        member, options = table.scalar(slot, "u8", 0), table.table(slot + 1)
        if member and options is not None:
            return read_options(options, union, member)
    return {}


def _code(table: Table) -> _Code:
    """Codes above 127 need the second field; old writers fill only the first."""
    value = max(table.scalar(0, "i8", 0), table.scalar(3, "i32", 0))
    if value < 0:
        raise CorruptFile(f"an operator has the code {value}", offset=table.position)
    custom = value == _CUSTOM
    if custom:
        op = table.string(1) or "CUSTOM"
    else:
        op = BUILTIN_OPERATORS[value] if value < len(BUILTIN_OPERATORS) else f"BUILTIN_{value}"
    return _Code(op=op, version=table.scalar(2, "i32", 1), custom=custom)


def _dtype(value: int, where: str) -> str:
    if not 0 <= value < len(TENSOR_TYPES):
        raise CorruptFile(f"{where} has the unknown type {value}")
    return TENSOR_TYPES[value]


def _dimensions(table: Table, slot: int, where: str) -> tuple[int, ...]:
    values = table.scalars(slot, "i32")
    if len(values) > _MAX_RANK:
        raise CorruptFile(f"{where} has {len(values)} dimensions")
    shape = tuple(values)
    if any(d < -1 for d in shape):
        raise CorruptFile(f"{where} has the shape {list(shape)}")
    return shape


def _quantization(
    table: Table | None, shape: tuple[int, ...] | None, where: str
) -> Quantization | None:
    """Affine parameters; None where there are none, or only a recorded range."""
    if table is None:
        return None
    scales, zero_points = table.scalars(2, "f32"), table.scalars(3, "i64")
    if not len(scales):
        return None
    if len(zero_points) != len(scales):
        raise CorruptFile(f"{where} has {len(scales)} scales and {len(zero_points)} zero points")
    if not all(map(isfinite, scales)):
        raise CorruptFile(f"{where} has a scale that is not finite")
    axis = table.scalar(6, "i32", 0)
    if len(scales) > 1 and shape is not None:
        along = shape[axis] if 0 <= axis < len(shape) else None
        if along not in (len(scales), -1):
            raise CorruptFile(
                f"{where} has {len(scales)} scales along axis {axis} of {list(shape)}"
            )
    return Quantization(scales=tuple(scales), zero_points=tuple(zero_points), axis=axis)


def _pick(tensors: tuple[Tensor, ...], index: int, what: str) -> Tensor | None:
    """The tensor meant by an index; None for -1, an optional one left out."""
    if index == -1:
        return None
    if not 0 <= index < len(tensors):
        raise CorruptFile(f"{what} is tensor {index} of {len(tensors)}")
    return tensors[index]


def _pick_all(tensors: tuple[Tensor, ...], indices: Sequence[int], what: str) -> tuple[Tensor, ...]:
    found = [_pick(tensors, index, what) for index in indices]
    if any(tensor is None for tensor in found):
        raise CorruptFile(f"{what} is left out")
    return tuple(tensor for tensor in found if tensor is not None)


def _signatures(tables: Sequence[Table], subgraphs: tuple[Subgraph, ...]) -> tuple[str, ...]:
    names = []
    for table in tables:
        key, which = table.string(2) or "", table.scalar(4, "u32", 0)
        if which >= len(subgraphs):
            raise CorruptFile(f"signature {key[:80]!r} names subgraph {which} of {len(subgraphs)}")
        for slot in (0, 1):
            for entry in table.tables(slot):
                _pick(subgraphs[which].tensors, entry.scalar(1, "u32", 0), f"signature {key[:80]}")
        names.append(key)
    return tuple(names)
