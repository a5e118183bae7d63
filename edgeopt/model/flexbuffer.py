"""Read a FlexBuffers map from bytes nobody vouches for; nothing is trusted, nothing recursive.

Only what custom operators use is understood: a map of numbers, strings, blobs and flat vectors of
them. The layout is that of https://flatbuffers.dev/flexbuffers/. The last byte is the root's width,
the one before it the root's packed type (type << 2 | log2 of the width it refers to), before those
stands the root itself. Offsets count backwards from where they stand. Before a map's values stand
the offset and width of its keys and its length; after them one packed type per value.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeopt.model.flatbuffer import CorruptFile

__all__ = ["Value", "read_map"]

Scalar = int | memoryview | None
Value = Scalar | tuple[Scalar, ...]

# Type numbers of flatbuffers' flexbuffers.h. Floats, keys and nested maps read as None.
_INT, _UINT, _STRING, _INDIRECT_INT, _INDIRECT_UINT, _MAP, _VECTOR = 1, 2, 5, 6, 7, 9, 10
_VECTOR_INT, _VECTOR_UINT, _BLOB, _BOOL = 11, 12, 25, 26
_ITEM_OF = {_VECTOR_INT: _INT, _VECTOR_UINT: _UINT}
_MAX_ITEMS = 256  # the maps of edgetpu-custom-op have fewer than ten keys


def read_map(data: memoryview) -> dict[str, Value]:
    """The root map. Raises CorruptFile when the bytes are not a FlexBuffers map."""
    reader = _Reader(data.cast("B") if data.format != "B" else data)
    if len(data) < 3:
        raise CorruptFile(f"{len(data)} bytes are too few for a FlexBuffers map")
    width = reader.width(reader.number(len(data) - 1, 1))
    packed = reader.number(len(data) - 2, 1)
    if packed >> 2 != _MAP:
        raise CorruptFile(f"its custom options are of FlexBuffers type {packed >> 2}, not a map")
    at = reader.follow(len(data) - 2 - width, width)
    return reader.map(at, 1 << (packed & 3))


@dataclass(frozen=True)
class _Reader:
    data: memoryview

    def width(self, value: int) -> int:
        if value not in (1, 2, 4, 8):
            raise CorruptFile(f"its custom options claim values of {value} bytes")
        return value

    def number(self, at: int, width: int, *, signed: bool = False) -> int:
        if at < 0 or at + width > len(self.data):
            raise CorruptFile("its custom options point outside themselves", offset=at)
        return int.from_bytes(self.data[at : at + width], "little", signed=signed)

    def follow(self, at: int, width: int) -> int:
        target = at - self.number(at, width)
        if not 0 <= target < at:
            raise CorruptFile("an offset of its custom options leads nowhere", offset=at)
        return target

    def length(self, at: int, width: int) -> int:
        """The item count before a vector whose items, and one type byte each, must fit."""
        count = self.number(at - width, width)
        if count > _MAX_ITEMS or at + count * width > len(self.data):
            raise CorruptFile(f"a list of its custom options claims {count} items", offset=at)
        return count

    def map(self, at: int, width: int) -> dict[str, Value]:
        count = self.length(at, width)
        keys = self.follow(at - 3 * width, width)
        keys_width = self.width(self.number(at - 2 * width, width))
        if self.length(keys, keys_width) != count:
            raise CorruptFile("its custom options have more keys than values", offset=keys)
        found: dict[str, Value] = {}
        for i in range(count):
            key = self.text(self.follow(keys + i * keys_width, keys_width))
            found[key] = self.value(at + i * width, width, self.number(at + count * width + i, 1))
        return found

    def text(self, at: int) -> str:
        """A key: bytes up to a nul, which must come soon."""
        raw = self.data[at : at + 256].tobytes()
        end = raw.find(0)
        if end < 0:
            raise CorruptFile("a key of its custom options has no end", offset=at)
        return raw[:end].decode("utf-8", "backslashreplace")

    def value(self, at: int, width: int, packed: int) -> Value:
        kind, inner = packed >> 2, 1 << (packed & 3)
        if kind not in (_VECTOR, *_ITEM_OF):
            return self.scalar(at, width, kind, inner)
        start = self.follow(at, width)
        count = self.length(start, inner)
        if kind in _ITEM_OF:
            return tuple(
                self.scalar(start + i * inner, inner, _ITEM_OF[kind], inner) for i in range(count)
            )
        types = [self.number(start + count * inner + i, 1) for i in range(count)]
        return tuple(
            self.scalar(start + i * inner, inner, t >> 2, 1 << (t & 3)) for i, t in enumerate(types)
        )

    def scalar(self, at: int, width: int, kind: int, inner: int) -> Scalar:
        if kind in (_INT, _UINT, _BOOL):
            return self.number(at, width, signed=kind == _INT)
        if kind in (_INDIRECT_INT, _INDIRECT_UINT):
            return self.number(self.follow(at, width), inner, signed=kind == _INDIRECT_INT)
        if kind in (_STRING, _BLOB):  # the compiler stores packages as strings
            return self.bytes(self.follow(at, width), inner)
        return None

    def bytes(self, at: int, width: int) -> memoryview:
        size = self.number(at - width, width)
        if at + size > len(self.data):
            raise CorruptFile(f"a value of its custom options claims {size} bytes", offset=at)
        return self.data[at : at + size]
