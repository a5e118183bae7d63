"""Operations that only move numbers, written as others that move them the same way."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from edgeopt.facts import Operator, Tensor
from edgeopt.model.edit_graph import GraphEdit
from edgeopt.repair.dense import reshape
from edgeopt.repair.repair import Need, Repaired

__all__ = ["rewrite_moves", "suits_moves"]

_EIGHT_BITS = ("int8", "uint8")


def rewrite_moves(data: bytes, need: Need) -> Repaired | None:
    """UNPACK, SPLIT_V, GATHER of a range, TRANSPOSE that reorders nothing, RESIZE of 1 x 1.

    Only refused operations on 8-bit data are looked at, with shapes and parameters known. None
    where there is none.
    """
    edit = GraphEdit(data)
    changes, touched = [], []
    for op in edit.facts.operators:
        way = _WAYS.get(op.op)
        if way is None or not need.wants(op) or not _plain(op):
            continue
        found = way(edit, op, need)
        if found is not None:
            how, made = found
            edit.replace(op, made)
            changes.append(f"{edit.named(op)}: {how}.")
            touched.append(op.index)
    if not changes:
        return None
    return Repaired(data=edit.finish(), changes=tuple(changes), operators=tuple(touched))


Found = tuple[str, list[Any]] | None  # what it becomes in words, and as operations


def suits_moves(op: Operator) -> bool:
    """True where there is a rewriting, as far as the operation itself tells."""
    if op.op not in _WAYS or not _plain(op):
        return False
    if op.op == "TRANSPOSE":
        return _keeps_order(op)
    if op.op.startswith("RESIZE"):
        return _single(op)
    return op.op != "GATHER" or _counted(op) is not None


def _plain(op: Operator) -> bool:
    """8-bit data whose shapes are known, and whose numbers mean the same on both sides."""
    first = op.inputs[0] if op.inputs else None
    if first is None or first.dtype not in _EIGHT_BITS or first.constant or not op.outputs:
        return False
    shapes = [first.shape, *(t.shape for t in op.outputs)]
    if any(s is None or any(d < 1 for d in s) for s in shapes):
        return False
    return all(t.dtype == first.dtype and t.quantization == first.quantization for t in op.outputs)


def _unpack(edit: GraphEdit, op: Operator, need: Need) -> Found:
    first = op.inputs[0]
    assert first is not None and first.shape is not None
    axis = int(op.options.get("axis", 0)) % len(first.shape)
    count = first.shape[axis]
    if len(op.outputs) != count or count < 2 or not (need.takes("SPLIT") and need.takes("RESHAPE")):
        return None
    made: list[Any] = []
    source, shape = first.index, first.shape
    if axis == 0 or len(shape) > 4:  # the batch is never split: its numbers move further in
        shape = (1, prod(shape[:axis]), count, prod(shape[axis + 1 :]))
        source = edit.tensor(f"{first.name}_rows", shape, like=first.index)
        made.append(reshape(edit, first.index, source, shape))
        axis = 2
    part = (*shape[:axis], 1, *shape[axis + 1 :])
    parts = [edit.tensor(f"{t.name}_part", part, like=first.index) for t in op.outputs]
    made.append(_split(edit, op, source, axis, parts, first))
    for piece, result in zip(parts, op.outputs, strict=True):
        made.append(reshape(edit, piece, result.index, result.shape or ()))
    return f"a SPLIT into {count}, each part with a RESHAPE", made


def _split(
    edit: GraphEdit, op: Operator, source: int, axis: int, parts: Sequence[int], first: Tensor
) -> Any:
    where = edit.tensor(
        f"{op.outputs[0].name}_axis", (), dtype="int32", data=struct.pack("<i", axis)
    )
    version = 2 if first.dtype == "int8" else 1
    return edit.operator("SPLIT", version, [where, source], parts, "Split", numSplits=len(parts))


def _split_v(edit: GraphEdit, op: Operator, need: Need) -> Found:
    first, axis = op.inputs[0], _integers(op, 2)
    assert first is not None and first.shape is not None
    if axis is None or len(axis) != 1:
        return None
    along = axis[0] % len(first.shape)
    sizes = [(t.shape or ())[along] for t in op.outputs if t.rank == len(first.shape)]
    if len(sizes) != len(op.outputs) or sum(sizes) != first.shape[along]:
        return None
    if len(set(sizes)) == 1 and along > 0 and need.takes("SPLIT"):
        parts = [t.index for t in op.outputs]
        return f"a SPLIT into {len(parts)} equal parts", [
            _split(edit, op, first.index, along, parts, first)
        ]
    if not need.takes("STRIDED_SLICE"):
        return None
    made, begin = [], 0
    for size, result in zip(sizes, op.outputs, strict=True):
        made.append(_slice(edit, first, result.index, along, begin, size))
        begin += size
    return f"{len(made)} STRIDED_SLICEs of {', '.join(map(str, sizes))}", made


def _gather(edit: GraphEdit, op: Operator, need: Need) -> Found:
    """Indices that count up by one, or a single one, are a slice."""
    first, picks, result = op.inputs[0], _counted(op), op.outputs[0]
    if first is None or first.shape is None or not picks or not need.takes("STRIDED_SLICE"):
        return None
    along = int(op.options.get("axis", 0)) % len(first.shape)
    part = (*first.shape[:along], len(picks), *first.shape[along + 1 :])
    if result.shape == part:
        made = [_slice(edit, first, result.index, along, picks[0], len(picks))]
        return f"a STRIDED_SLICE from {picks[0]} to {picks[-1]}", made
    if prod(part) != prod(result.shape or ()) or not need.takes("RESHAPE"):
        return None
    piece = edit.tensor(f"{result.name}_part", part, like=first.index)
    made = [
        _slice(edit, first, piece, along, picks[0], len(picks)),
        reshape(edit, piece, result.index, result.shape or ()),
    ]
    return f"a STRIDED_SLICE from {picks[0]} to {picks[-1]} and a RESHAPE", made


def _counted(op: Operator) -> tuple[int, ...] | None:
    """The constant indices of a GATHER where they count up by one, inside the data."""
    first, picks = op.inputs[0], _integers(op, 1)
    if first is None or not first.shape or not picks or op.options.get("batch_dims"):
        return None
    size = first.shape[int(op.options.get("axis", 0)) % len(first.shape)]
    counted = picks == tuple(range(picks[0], picks[0] + len(picks)))
    return picks if counted and picks[0] >= 0 and picks[-1] < size else None


def _slice(edit: GraphEdit, first: Tensor, target: int, along: int, begin: int, size: int) -> Any:
    shape = first.shape or ()
    name = (edit.graph.tensors[target].name or b"").decode("utf-8", "replace")
    begins = [begin if i == along else 0 for i in range(len(shape))]
    ends = [begin + size if i == along else d for i, d in enumerate(shape)]
    limits = [
        edit.integers(f"{name}_begin", begins),
        edit.integers(f"{name}_end", ends),
        edit.integers(f"{name}_strides", [1] * len(shape)),
    ]
    version = 2 if first.dtype == "int8" else 1
    inputs = [first.index, *limits]
    return edit.operator("STRIDED_SLICE", version, inputs, [target], "StridedSlice")


def _transpose(edit: GraphEdit, op: Operator, need: Need) -> Found:
    """One that only moves dimensions of 1 leaves every number where it is."""
    first, result = op.inputs[0], op.outputs[0]
    if first is None or not _keeps_order(op) or not need.takes("RESHAPE"):
        return None
    made = reshape(edit, first.index, result.index, result.shape or ())
    return "a RESHAPE, since it only moves dimensions of 1", [made]


def _keeps_order(op: Operator) -> bool:
    first, order = op.inputs[0], _integers(op, 1)
    if first is None or first.shape is None or order is None:
        return False
    if sorted(order) != list(range(len(first.shape))):
        return False
    wide = [axis for axis in order if first.shape[axis] > 1]
    return wide == sorted(wide)


def _integers(op: Operator, index: int) -> tuple[int, ...] | None:
    """A constant input of int32 or int64."""
    tensor = op.inputs[index] if index < len(op.inputs) else None
    if tensor is None or tensor.data is None or tensor.dtype not in ("int32", "int64"):
        return None
    width, code = (4, "i") if tensor.dtype == "int32" else (8, "q")
    count = len(tensor.data) // width
    return struct.unpack(f"<{count}{code}", tensor.data[: count * width])


def _enlarge(edit: GraphEdit, op: Operator, need: Need) -> Found:
    """One value for each channel, repeated: enlarging a map of 1 x 1 makes nothing else."""
    result = op.outputs[0]
    first = op.inputs[0]
    if first is None or not _single(op) or not need.takes("TILE"):
        return None
    assert result.shape is not None
    times = edit.integers(f"{result.name}_multiples", [1, *result.shape[1:3], 1])
    made = edit.operator("TILE", 1, [first.index, times], [result.index], "Tile")
    return f"a TILE, since all of its {result.shape[1]} x {result.shape[2]} values are equal", [
        made
    ]


def _single(op: Operator) -> bool:
    first, result = op.inputs[0], op.outputs[0]
    if first is None or first.shape is None or result.shape is None or len(first.shape) != 4:
        return False
    same = len(result.shape) == 4 and first.shape[::3] == result.shape[::3]
    return same and first.shape[1:3] == (1, 1) and first.shape != result.shape


_WAYS: dict[str, Callable[[GraphEdit, Operator, Need], Found]] = {
    "UNPACK": _unpack,
    "SPLIT_V": _split_v,
    "GATHER": _gather,
    "TRANSPOSE": _transpose,
    "RESIZE_BILINEAR": _enlarge,
    "RESIZE_NEAREST_NEIGHBOR": _enlarge,
}
