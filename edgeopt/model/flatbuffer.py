"""Read FlatBuffers from bytes nobody vouches for: every offset, length and vtable is checked.

No generated code. A field is asked for by its slot, its number in the schema's order of
declaration, where a union counts as two (its type, then its table). The layout is that of
https://flatbuffers.dev/internals/: offsets are little-endian and relative to where they stand.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from typing import Any

from edgeopt.errors import ModelError

__all__ = ["CorruptFile", "Table"]

_KINDS = {
    "bool": "?",
    "i8": "b",
    "u8": "B",
    "i16": "h",
    "u16": "H",
    "i32": "i",
    "u32": "I",
    "i64": "q",
    "u64": "Q",
    "f32": "f",
    "f64": "d",
}
_STRUCTS = {kind: struct.Struct("<" + code) for kind, code in _KINDS.items()}
_U16, _I32, _U32 = _STRUCTS["u16"], _STRUCTS["i32"], _STRUCTS["u32"]

# FlatBuffers may share tables and vectors, so a small file can describe a huge tree. A table that
# is not shared takes at least 8 bytes with the offset that leads to it; the absolute bounds are far
# above any real model (10^5 tables) and keep a hostile file from costing minutes.
_MAX_DEPTH = 64
_MAX_TABLES = 1_000_000
_MAX_ELEMENTS = 32_000_000
_MAX_TEXT_BYTES = 65_536  # the longest names, joined from all that was fused, have some thousands

Buffer = bytes | memoryview


class CorruptFile(ModelError):
    """The bytes contradict their own format; the message says where and how."""

    def __init__(self, what: str, *, offset: int | None = None, hint: str = "") -> None:
        where = "" if offset is None else f" at byte {offset}"
        super().__init__(
            f"The model file is damaged{where}: {what}.",
            hint or "Copy or export the file again; it may be truncated.",
        )
        self.offset = offset


class _Source:
    """The buffer and what reading it has cost so far, shared by every table of one file."""

    def __init__(self, data: Buffer) -> None:
        view = memoryview(data)
        self.view = view if view.format == "B" and view.ndim == 1 else view.cast("B")
        self.size = len(self.view)
        self.tables = 0
        self.max_tables = min(_MAX_TABLES, 64 + self.size // 8)
        self.elements = 0
        self.max_elements = min(_MAX_ELEMENTS, 1_000_000 + self.size // 2)
        self.texts: dict[int, str] = {}
        self.text_bytes = 0

    def unpack(self, form: struct.Struct, at: int, what: str) -> Any:
        if at < 0 or at + form.size > self.size:
            raise CorruptFile(f"{what} lies outside the file's {self.size} bytes", offset=at)
        return form.unpack_from(self.view, at)[0]

    def follow(self, at: int, what: str) -> int:
        """The position that the offset stored at `at` points to."""
        offset = self.unpack(_U32, at, f"the offset of {what}")
        if offset == 0 or at + offset >= self.size:
            raise CorruptFile(f"the offset {offset} of {what} leads nowhere", offset=at)
        return int(at + offset)

    def vector(self, at: int, item_bytes: int, what: str) -> tuple[int, int]:
        """Where the vector referred to at `at` begins, and how many items it has."""
        start = self.follow(at, what)
        count = self.unpack(_U32, start, f"the length of {what}")
        if start + 4 + count * item_bytes > self.size:
            raise CorruptFile(f"{what} claims {count} items and the file ends before", offset=start)
        return start + 4, int(count)

    def spend(self, count: int, at: int) -> None:
        self.elements += count
        if self.elements > self.max_elements:
            raise CorruptFile("its vectors overlap beyond reason", offset=at)


class Table:
    """One table of a FlatBuffer. Methods raise CorruptFile when the bytes do not add up."""

    __slots__ = ("_depth", "_entries", "_object_bytes", "_source", "_vtable", "position")

    def __init__(self, source: _Source, position: int, depth: int) -> None:
        source.tables += 1
        if source.tables > source.max_tables or depth > _MAX_DEPTH:
            raise CorruptFile("its tables nest or repeat beyond reason", offset=position)
        vtable = position - source.unpack(_I32, position, "a table")
        size = source.unpack(_U16, vtable, "a vtable")
        if size < 4 or size % 2 or vtable + size > source.size:
            raise CorruptFile(f"a vtable has the impossible size {size}", offset=vtable)
        object_bytes = source.unpack(_U16, vtable + 2, "a vtable")
        if object_bytes < 4 or position + object_bytes > source.size:
            raise CorruptFile(f"a table claims {object_bytes} bytes", offset=position)
        self._source = source
        self._depth = depth
        self._vtable = vtable
        self._entries = size // 2 - 2
        self._object_bytes = object_bytes
        self.position = position

    @classmethod
    def root(cls, buf: Buffer, identifier: bytes | None = None) -> Table:
        """The root table; with `identifier`, the four bytes that must stand at 4..8."""
        source = _Source(buf)
        if source.size < 8:
            raise CorruptFile(f"{source.size} bytes are too few for a FlatBuffer")
        if identifier is not None and bytes(source.view[4:8]) != identifier:
            found = bytes(source.view[4:8])
            raise CorruptFile(f"the identifier is {found!r}, not {identifier!r}", offset=4)
        return cls(source, source.follow(0, "the root table"), 0)

    def has(self, slot: int) -> bool:
        """Whether the file stores a value for this field (defaults are usually left out)."""
        return self._field(slot, 1) is not None

    def scalar(self, slot: int, kind: str, default: Any) -> Any:
        """A number, or `default` where the file leaves it out. A bool is any byte but zero."""
        form = _STRUCTS[kind]
        at = self._field(slot, form.size)
        return default if at is None else self._source.unpack(form, at, f"field {slot}")

    def string(self, slot: int) -> str | None:
        at = self._field(slot, 4)
        return None if at is None else self._text(at, f"string {slot}")

    def strings(self, slot: int) -> tuple[str, ...]:
        start, count = self._items(slot, 4)
        return tuple(self._text(start + 4 * i, f"string {slot}[{i}]") for i in range(count))

    def table(self, slot: int) -> Table | None:
        at = self._field(slot, 4)
        if at is None:
            return None
        return Table(self._source, self._source.follow(at, f"table {slot}"), self._depth + 1)

    def tables(self, slot: int) -> Sequence[Table]:
        """A vector of tables; empty where the field is left out."""
        source, depth = self._source, self._depth + 1
        start, count = self._items(slot, 4)
        return [
            Table(source, source.follow(at, f"table {slot}[{i}]"), depth)
            for i, at in enumerate(range(start, start + 4 * count, 4))
        ]

    def scalars(self, slot: int, kind: str) -> Sequence[Any]:
        """A vector of numbers (a view of the file where the host allows); empty where left out."""
        form = _STRUCTS[kind]
        start, count = self._items(slot, form.size)
        view = self._source.view[start : start + count * form.size]
        if sys.byteorder == "little":
            return view.cast(_KINDS[kind])  # type: ignore[call-overload,no-any-return]
        return struct.unpack(f"<{count}{_KINDS[kind]}", view)

    def bytes(self, slot: int) -> memoryview | None:
        """A vector of bytes, uncopied; None where the field is left out."""
        at = self._field(slot, 4)
        if at is None:
            return None
        start, count = self._source.vector(at, 1, f"bytes {slot}")
        return self._source.view[start : start + count]

    def blobs(self, slot: int) -> tuple[memoryview, ...]:
        """A vector of strings that hold bytes rather than text, uncopied."""
        source = self._source
        start, count = self._items(slot, 4)
        spans = (source.vector(start + 4 * i, 1, f"bytes {slot}[{i}]") for i in range(count))
        return tuple(source.view[at : at + size] for at, size in spans)

    def _field(self, slot: int, size: int) -> int | None:
        """The position of a field of `size` bytes, None when it is left out."""
        if slot >= self._entries:
            return None
        at = self._vtable + 4 + 2 * slot
        offset = self._source.unpack(_U16, at, "a vtable")
        if offset == 0:
            return None
        if offset < 4 or offset + size > self._object_bytes:
            raise CorruptFile(f"field {slot} lies outside its table", offset=at)
        return int(self.position + offset)

    def _items(self, slot: int, item_bytes: int) -> tuple[int, int]:
        at = self._field(slot, 4)
        if at is None:
            return 0, 0
        start, count = self._source.vector(at, item_bytes, f"vector {slot}")
        self._source.spend(count, start)
        return start, count

    def _text(self, at: int, what: str) -> str:
        source = self._source
        start, count = source.vector(at, 1, what)
        if start not in source.texts:  # shared names are decoded, and kept, once
            source.text_bytes += count
            if count > _MAX_TEXT_BYTES or source.text_bytes > source.size:
                raise CorruptFile(f"{what} of {count} bytes is too long or overlaps", offset=start)
            raw = source.view[start : start + count].tobytes()
            source.texts[start] = raw.decode("utf-8", "backslashreplace")
        return source.texts[start]
