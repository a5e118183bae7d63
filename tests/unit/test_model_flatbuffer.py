"""The FlatBuffers reader believes nothing that the bytes themselves do not prove."""

from __future__ import annotations

import random
import struct
import time

import flatbuffers
import pytest

from edgeopt.errors import ModelError
from edgeopt.model.flatbuffer import CorruptFile, Table


def sample() -> bytes:
    """Root: 0 i32, 1 string, 2 [f32], 3 table, 4 [table], 5 bool, 6 [string], 7 [u8], 8 u64."""
    builder = flatbuffers.Builder(0)
    leaves = []
    for number in (11, 22):
        builder.StartObject(1)
        builder.PrependInt32Slot(0, number, 0)
        leaves.append(builder.EndObject())
    name = builder.CreateString("conv/ü")
    words = [builder.CreateString(word) for word in ("a", "bc")]

    def offsets(items: list[int]) -> int:
        builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            builder.PrependUOffsetTRelative(item)
        return int(builder.EndVector())

    tables, texts = offsets(leaves), offsets(words)
    builder.StartVector(4, 3, 4)
    for value in (3.0, 2.0, 1.0):
        builder.PrependFloat32(value)
    floats = builder.EndVector()
    raw = builder.CreateByteVector(b"\x01\x02\x03")
    builder.StartObject(9)
    builder.PrependInt32Slot(0, -7, 0)
    builder.PrependUOffsetTRelativeSlot(1, name, 0)
    builder.PrependUOffsetTRelativeSlot(2, floats, 0)
    builder.PrependUOffsetTRelativeSlot(3, leaves[0], 0)
    builder.PrependUOffsetTRelativeSlot(4, tables, 0)
    builder.PrependBoolSlot(5, True, False)
    builder.PrependUOffsetTRelativeSlot(6, texts, 0)
    builder.PrependUOffsetTRelativeSlot(7, raw, 0)
    builder.PrependUint64Slot(8, 2**63 + 1, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"TEST")
    return bytes(builder.Output())


def walk(data: bytes) -> list[object]:
    root = Table.root(data)
    child = root.table(3)
    return [
        root.scalar(0, "i32", 0),
        root.string(1),
        list(root.scalars(2, "f32")),
        None if child is None else child.scalar(0, "i32", 0),
        [leaf.scalar(0, "i32", 0) for leaf in root.tables(4)],
        root.scalar(5, "bool", False),
        root.strings(6),
        bytes(root.bytes(7) or b""),
        root.scalar(8, "u64", 0),
    ]


def test_every_kind_of_field_comes_back() -> None:
    assert walk(sample()) == [
        -7,
        "conv/ü",
        [1.0, 2.0, 3.0],
        11,
        [11, 22],
        True,
        ("a", "bc"),
        b"\x01\x02\x03",
        2**63 + 1,
    ]


def test_a_field_left_out_gives_its_default() -> None:
    root = Table.root(sample())
    assert root.scalar(40, "i32", 5) == 5
    assert root.string(40) is root.table(40) is root.bytes(40) is None
    assert not root.has(40) and root.has(0)
    assert list(root.tables(40)) == list(root.scalars(40, "i32")) == []


def test_another_identifier_is_refused() -> None:
    Table.root(sample(), b"TEST")
    with pytest.raises(CorruptFile, match="at byte 4: the identifier is b'TEST'"):
        Table.root(sample(), b"TFL3")


def test_damage_is_a_model_error_that_names_the_byte() -> None:
    with pytest.raises(ModelError, match=r"damaged at byte 0: the offset 4294967295"):
        Table.root(b"\xff" * 64)


def test_every_truncation_is_survived() -> None:
    data = sample()
    for length in range(len(data)):
        try:
            walk(data[:length])
        except CorruptFile:
            continue


def test_every_bit_flip_is_survived() -> None:
    data = sample()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            walk(bytes(flipped))
        except CorruptFile:
            continue


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_survived(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(50):
        with pytest.raises(CorruptFile):
            walk(source.randbytes(source.randrange(200)))


def self_referring() -> bytes:
    """A table whose field 0 is a vector of ten offsets, all to the table itself."""
    at = 16  # offsets are unsigned, so a true cycle needs wrap-around: it must be refused
    body = struct.pack("<I4sHHH2x", at, b"LOOP", 6, 8, 4)
    table = struct.pack("<iI", at - 8, 4)
    return body + table + struct.pack("<I", 10) + struct.pack("<10I", *[2**32 - 8] * 10)


def test_a_cycle_is_refused() -> None:
    with pytest.raises(CorruptFile, match="leads nowhere"):
        Table.root(self_referring()).tables(0)


def shared_tree(levels: int) -> bytes:
    """Each level is a vector of 64 offsets to the one table below it: 64**levels when walked."""
    data = bytearray(struct.pack("<I4sHHH2x", 16, b"TREE", 6, 8, 4))
    for _ in range(levels):
        at = len(data)
        data += struct.pack("<iII", at - 8, 4, 64)
        end = at + 12 + 256
        data += struct.pack("<64I", *(end - (at + 12 + 4 * i) for i in range(64)))
    data += struct.pack("<ii", len(data) - 8, 4) + struct.pack("<I", 0)
    return bytes(data)


def count(table: Table) -> int:
    return 1 + sum(count(child) for child in table.tables(0))


def test_shared_tables_cannot_cost_minutes() -> None:
    started = time.monotonic()
    assert count(Table.root(shared_tree(1))) == 65
    with pytest.raises(CorruptFile, match="beyond reason"):
        count(Table.root(shared_tree(8)))
    assert time.monotonic() - started < 2


def test_a_vector_longer_than_the_file_is_refused() -> None:
    data = bytearray(struct.pack("<I4sHHH2x", 16, b"LONG", 6, 8, 4))
    data += struct.pack("<iII", 8, 4, 2**31)
    with pytest.raises(CorruptFile, match="claims 2147483648 items"):
        Table.root(bytes(data)).scalars(0, "i32")
