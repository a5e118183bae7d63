"""Read what the Edge TPU compiler packed into a model, and so where its operations run.

A compiled model holds one custom operator `edgetpu-custom-op` per Edge TPU partition. Its options
are a FlexBuffers map with a DarwiNN package under "4" (and further ones under "7"), which holds
executables. The slots below are those of libedgetpu's public schema, executable/executable.fbs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from edgeopt.errors import ModelError
from edgeopt.facts import ModelFacts, Operator
from edgeopt.findings import OpPlacement, Placement
from edgeopt.model.flatbuffer import CorruptFile, Table
from edgeopt.model.flexbuffer import read_map
from edgeopt.model.layer_names import layers_of

__all__ = [
    "CUSTOM_OP",
    "Layer",
    "Partition",
    "is_compiled",
    "parameters",
    "placement_of_compiled",
    "read_partition",
    "read_payload",
]

CUSTOM_OP = "edgetpu-custom-op"
_EXECUTABLE_TYPES = ("STAND_ALONE", "PARAMETER_CACHING", "EXECUTION_ONLY")
_MAX_EXECUTABLES = 64  # real packages have one or two
_MAX_PACKAGES = 64
_MAX_RANK = 64
_DMA_DESCRIPTOR = 1  # of union AnyHint
_OUTPUT, _INPUT, _PARAMETER = 0, 1, 2  # of enum Description
_DATA_TYPES = {0: "uint8", 1: "uint16", 2: "int32", 3: "bfloat16", 4: "float16", 5: "float32"}
_SHIFTS = {8: ("int8", 128), 9: ("int16", 32768)}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """An input or output of a partition. `shape` is None where the compiler left it out.

    `size_bytes` is what crosses the link, padding included. `dtype` is a numpy name, or the
    number of a type that has none. `zero_point` is that of the tensor: the payload keeps signed
    ones shifted to be positive (int8 by 128, int16 by 32768).
    """

    name: str
    size_bytes: int
    shape: tuple[int, ...] | None
    dtype: str = ""
    scale: float | None = None
    zero_point: int | None = None
    executions: int = 1  # per inference

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {"shape": None if self.shape is None else list(self.shape)}


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One `edgetpu-custom-op`. All sizes in bytes, exactly as stored.

    `on_chip_bytes` are parameters cached in the chip's memory after the first inference,
    `off_chip_bytes` are sent from the host again with every inference. `instruction_bytes` are
    those of an inference, without the ones that fill the cache once; so are the bytes moved by DMA,
    of which only those known when compiling are there unless `dma_complete`. Models compiled
    together share `parameter_caching_token`. `narrow_bytes_per_tile` is the largest of its
    executables'. `estimated_cycles` is 0 with all but old compilers: no estimate.
    """

    operator: int
    chip: str
    min_runtime_version: int
    compiler_version: str
    executables: tuple[str, ...]
    on_chip_bytes: int
    off_chip_bytes: int
    parameter_caching_token: int
    instruction_chunks: int
    instruction_bytes: int
    input_dma_bytes: int
    output_dma_bytes: int
    parameter_dma_bytes: int
    dma_complete: bool
    estimated_cycles: int
    scratch_bytes: int
    narrow_bytes_per_tile: int
    inputs: tuple[Layer, ...]
    outputs: tuple[Layer, ...]
    payload_bytes: int

    @property
    def kind(self) -> str:
        return "Edge TPU"

    def rows(self) -> list[tuple[str, str]]:
        """All of it, for whoever has no view of its own."""
        return [(name, str(value)) for name, value in self.to_json().items()]

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {
            "executables": list(self.executables),
            "inputs": [layer.to_json() for layer in self.inputs],
            "outputs": [layer.to_json() for layer in self.outputs],
        }


def is_compiled(facts: ModelFacts) -> bool:
    """Whether any part of the model is already compiled for an Edge TPU."""
    return any(op.op == CUSTOM_OP for op in facts.operators())


def read_payload(facts: ModelFacts) -> tuple[Partition, ...]:
    """The Edge TPU partitions in file order; empty for a model that is not compiled.

    Raises CorruptFile when a payload contradicts its format.
    """
    return tuple(read_partition(op) for op in facts.operators() if op.op == CUSTOM_OP)


def read_partition(op: Operator) -> Partition:
    """One operator. Raises CorruptFile when its payload contradicts its format."""
    if op.custom_options is None:
        raise CorruptFile(f"{op.where} has no payload")
    packages = _packages(op)
    executables = [e for package in packages for e in _executables(package)]
    if not executables:
        raise CorruptFile(f"the payload of {op.where} holds no executable")
    kinds = [_kind(e) for e in executables]
    runs = [e for e, kind in zip(executables, kinds, strict=True) if kind != "PARAMETER_CACHING"]
    if not runs:
        raise CorruptFile(f"the payload of {op.where} holds nothing that can be executed")
    sizes = [len(e.bytes(6) or b"") for e in executables]
    cached = sum(s for s, kind in zip(sizes, kinds, strict=True) if kind == "PARAMETER_CACHING")
    chunks = [chunk for e in runs for chunk in e.tables(5)]
    moved, complete = _dma_bytes(runs)
    return Partition(
        operator=op.index,
        chip=runs[0].string(10) or "",
        min_runtime_version=max(package.scalar(0, "i32", 0) for package in packages),
        compiler_version=packages[0].string(4) or "",
        executables=tuple(kinds),
        on_chip_bytes=cached,
        off_chip_bytes=sum(sizes) - cached,
        parameter_caching_token=runs[0].scalar(14, "u64", 0),
        instruction_chunks=len(chunks),
        instruction_bytes=sum(len(chunk.bytes(0) or b"") for chunk in chunks),
        input_dma_bytes=moved[_INPUT],
        output_dma_bytes=moved[_OUTPUT],
        parameter_dma_bytes=moved[_PARAMETER],
        dma_complete=complete,
        estimated_cycles=sum(e.scalar(16, "i64", 0) or e.scalar(11, "i32", 0) for e in runs),
        scratch_bytes=sum(e.scalar(4, "i32", 0) for e in executables),
        narrow_bytes_per_tile=max(e.scalar(12, "i32", 0) for e in executables),
        inputs=_layers(runs[0], 8),
        outputs=_layers(runs[0], 9),
        payload_bytes=len(op.custom_options),
    )


def parameters(op: Operator) -> tuple[memoryview, ...]:
    """The parameters of each executable, in the hardware's own order, uncopied. Raises CorruptFile
    when the payload contradicts its format."""
    executables = [e for package in _packages(op) for e in _executables(package)]
    return tuple(data for e in executables if (data := e.bytes(6)) is not None)


def _packages(op: Operator) -> list[Table]:
    if op.custom_options is None:
        raise CorruptFile(f"{op.where} has no payload")
    options = read_map(op.custom_options)
    first, more = options.get("4"), options.get("7")
    if not isinstance(first, memoryview):
        raise CorruptFile(f"the payload of {op.where} holds no package")
    further = more if isinstance(more, tuple) else ()
    waiting = [first, *(data for data in further if isinstance(data, memoryview))]
    _refuse_overlap(waiting, len(op.custom_options))
    found: list[Table] = []
    for data in waiting:  # grows by the packages inside packages; each is smaller than its holder
        package = Table.root(data, b"DWN1")
        found.append(package)
        inner = [held for t in package.tables(6) if (held := t.bytes(0)) is not None]
        _refuse_overlap(inner, len(data))
        waiting += inner
        if len(waiting) > _MAX_PACKAGES:
            raise CorruptFile(f"the payload of {op.where} claims over {_MAX_PACKAGES} packages")
    return found


def _executables(package: Table) -> list[Table]:
    data = package.bytes(1)
    if data is None:
        if len(package.tables(6)):
            return []  # only its inner packages hold some
        raise CorruptFile("an Edge TPU package is empty")
    blobs = Table.root(data).blobs(0)
    if len(blobs) > _MAX_EXECUTABLES:
        raise CorruptFile(f"an Edge TPU package claims {len(blobs)} executables")
    _refuse_overlap(blobs, len(data))
    return [Table.root(blob) for blob in blobs]


def _refuse_overlap(parts: Sequence[memoryview], size: int) -> None:
    """Parts that share bytes would be read again and again: a small file could cost minutes."""
    if sum(len(part) for part in parts) > size:
        raise CorruptFile("the parts of an Edge TPU payload overlap")


def _kind(executable: Table) -> str:
    value = executable.scalar(13, "i16", 0)
    if not 0 <= value < len(_EXECUTABLE_TYPES):
        raise CorruptFile(f"an Edge TPU executable is of the unknown type {value}")
    return _EXECUTABLE_TYPES[value]


def _dma_bytes(executables: Sequence[Table]) -> tuple[Counter[int], bool]:
    """Bytes by what they are (a number of the schema's enum Description), and whether all of an
    inference's transfers are listed."""
    moved: Counter[int] = Counter()
    complete = True
    for hints in (e.table(7) for e in executables):
        complete = complete and hints is not None and hints.scalar(1, "bool", False)
        for hint in hints.tables(0) if hints else ():
            descriptor = hint.table(1) if hint.scalar(0, "u8", 0) == _DMA_DESCRIPTOR else None
            meta = descriptor.table(0) if descriptor else None
            if descriptor and meta:
                moved[meta.scalar(0, "i16", 0)] += descriptor.scalar(2, "i32", 0)
    return moved, complete


def _layers(executable: Table, slot: int) -> tuple[Layer, ...]:
    return tuple(_layer(table) for table in executable.tables(slot))


def _layer(table: Table) -> Layer:
    kind = table.scalar(6, "i16", 0)
    signed = kind in _SHIFTS
    dtype = _SHIFTS[kind][0] if signed else _DATA_TYPES.get(kind, f"type {kind}")
    numerics = table.table(5)
    zero_point = scale = None
    if numerics is not None:
        zero_point = numerics.scalar(0, "i32", 0) - (_SHIFTS[kind][1] if signed else 0)
        stored = numerics.scalar(1, "f32", 0.0)
        scale = stored if isfinite(stored) else None
    return Layer(
        name=table.string(0) or "",
        size_bytes=table.scalar(1, "i32", 0),
        shape=_shape(table),
        dtype=dtype,
        scale=scale,
        zero_point=zero_point,
        executions=table.scalar(9, "i32", 1),
    )


def _shape(layer: Table) -> tuple[int, ...] | None:
    """Its dimensions: slot 11 as pairs (first, last), else y, x, z where all three are given.

    Slot 11 and not the schema's 10, since the union before it takes two slots.
    """
    if stored := layer.table(11):
        pairs = stored.scalars(0, "u64")
        if len(pairs) > _MAX_RANK:
            raise CorruptFile(f"a layer of an Edge TPU executable has {len(pairs)} dimensions")
        return tuple(int(p >> 32) - int(p & 0xFFFFFFFF) + 1 for p in pairs)
    sides = tuple(layer.scalar(slot, "i32", 0) for slot in (2, 3, 4))
    return sides if all(side > 0 for side in sides) else None


def placement_of_compiled(compiled: ModelFacts, source: ModelFacts) -> Placement:
    """Which operations of `source` run on the Edge TPU in `compiled`, with exact parameter bytes.

    The compiler keeps an operation it does not map, under the same output names; all others are
    inside a partition. `ops` follows the order of `source` (empty where names do not tell the
    operations apart). Raises ModelError when `compiled` cannot have been made from `source`.
    """
    partitions = read_payload(compiled)
    kept = [op for op in compiled.operators() if op.op != CUSTOM_OP]
    originals = [op for op in source.operators() if op.op != CUSTOM_OP]
    extra = Counter(op.op for op in kept) - Counter(op.op for op in originals)
    if extra:
        listed = ", ".join(f"{count} {name}" for name, count in sorted(extra.items()))
        raise ModelError(
            f"{compiled.path} has operations that {source.path} has not ({listed}): it was not "
            "compiled from it.",
            "Give the model that was compiled, or compile it again.",
        )
    return Placement(
        source="compiled_file",
        ops_total=len(originals),
        ops_mapped=len(originals) - len(kept),
        ops_cpu=len(kept),
        subgraphs=len(partitions),
        on_chip_bytes=sum(p.on_chip_bytes for p in partitions),
        off_chip_bytes=sum(p.off_chip_bytes for p in partitions),
        ops=_op_placements(source, originals, kept),
    )


def _op_placements(
    source: ModelFacts, originals: list[Operator], kept: list[Operator]
) -> tuple[OpPlacement, ...]:
    left = Counter(_identity(op) for op in kept)
    known = Counter(_identity(op) for op in originals)
    # A name that several source operations share only tells where they run if all share one fate.
    if any(known[identity] != count for identity, count in left.items()):
        return ()
    layers = layers_of(source)
    return tuple(
        OpPlacement(
            index=op.index,
            op=op.op,
            placement="cpu" if _identity(op) in left else "edgetpu",
            reason="the compiler left it outside the Edge TPU partition"
            if _identity(op) in left
            else "",
            cause="left_by_compiler" if _identity(op) in left else "",
            layer=layers[id(op)],
        )
        for op in originals
    )


def _identity(op: Operator) -> tuple[str, int, tuple[str, ...]]:
    return op.op, op.subgraph, tuple(tensor.name for tensor in op.outputs)
