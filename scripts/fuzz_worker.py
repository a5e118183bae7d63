"""The worker of scripts/fuzz: makes a case from its number, and does all the reading on it."""

from __future__ import annotations

import json
import os
import random
import resource
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("EDGEOPT_SHARED", ROOT.parent / "shared"))
_MOST_EDITED = 100_000
_NUMBERS = (-2, -1, 0, 1, 2, 3, 7, 2**31 - 1)
_U32 = (0, 1, 2, 3, 7, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 1 << 16, 1 << 20, 1 << 24, 0x7FFFFFFF,
        0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)  # fmt: skip


@dataclass(frozen=True)
class Base:
    """A sound file, where it stores structure (position, bytes), and the other half of its pair."""

    name: str
    data: bytes
    marks: list[tuple[int, int]]
    source: Path | None  # of a compiled file
    compiled: Path | None  # of a source


def work(seed: int, limit_bytes: int, keep: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="edgeopt-fuzz-", dir=_memory()) as folder:
        os.environ.update({f"EDGEOPT_{n}": f"{folder}/{n}" for n in ("CACHE", "CONFIG", "STATE")})
        bases = _bases(Path(folder))
        _hasten()
        case = _warm(Path(folder) / "case.tflite", bases)
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
        print("ready", flush=True)
        for line in sys.stdin:
            rng = random.Random(f"{seed}/{line.strip()}")
            base = rng.choices(bases, [1 / (1 + len(b.data) / 20_000) for b in bases])[0]
            data = _mutated(base, bases, rng)
            outcome = _outcome(case, base, data, rng)
            if not outcome.startswith(("result", "refused")):
                name = f"seed{seed}-case{line.strip()}-{base.name}"
                (keep / name).write_bytes(data)
            print(outcome, flush=True)
    return 0


def _memory() -> str | None:
    """A folder in memory where there is one: the disk would be half of the time."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _hasten() -> None:
    """What no mutation changes is done once: finding plug-ins, reading profiles, flushing disks."""
    from edgeopt import registry
    from edgeopt.pipeline import inspecting

    registry.entry_points = lru_cache(registry.entry_points)
    inspecting.load_target = lru_cache(inspecting.load_target)
    os.fsync = lambda _: None


def _outcome(path: Path, base: Base, data: bytes, rng: random.Random) -> str:
    from edgeopt.errors import EdgeoptError

    path.write_bytes(data)
    try:
        _everything(path, base, full=rng.random() < 0.15)
        return "result"
    except EdgeoptError as error:
        if not error.message:
            return "empty-message"
        return "refused"
    except MemoryError:
        return "memory over the limit: " + _last_frame()
    except BaseException as error:  # noqa: BLE001 - finding these is the point
        return f"{type(error).__name__} {str(error)[:200]!r}: " + _last_frame()


def _last_frame() -> str:
    frames = traceback.extract_tb(sys.exc_info()[2])
    return " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames[:-6:-1])


def _everything(path: Path, base: Base, *, full: bool) -> None:
    """What `edgeopt inspect` does with every flag, and what reads models besides."""
    from edgeopt.cli.inspect import _views
    from edgeopt.cli.output import document
    from edgeopt.errors import EdgeoptError
    from edgeopt.model import read
    from edgeopt.model.edgetpu_payload import is_compiled
    from edgeopt.model.read import structure
    from edgeopt.pipeline.drawing import Drawing
    from edgeopt.pipeline.inspecting import inspect_model

    facts = read(path) if full else structure(path)  # less hashing and compressing
    asked: dict[str, Any] = {"target": "edgetpu", "min_runtime_version": None, "weights": None}
    compiled = is_compiled(facts)
    problem: EdgeoptError | None = None
    try:
        found = inspect_model(facts, source=base.source if compiled else None, together=(), **asked)
        document("inspect", found.content)
        if not compiled and full:
            _repairs(path.read_bytes(), found)
        drawing = Drawing.of(found)
        drawing.picture(Path("picture.html" if full else "picture.svg"))
        drawing.node_data()
        if full:
            from rich.console import Console

            with Path(os.devnull).open("w") as nowhere:
                Console(file=nowhere, width=100).print(*_views(found, None))
    except EdgeoptError as error:
        json.dumps(error.to_json())
        problem = error
    if base.compiled is not None and not compiled:
        inspect_model(structure(base.compiled), source=path, together=(), **asked)
    if problem is not None:
        raise problem


def _repairs(data: bytes, found: Any) -> None:
    """Every repair that only edits: made or refused, and what was made can be read."""
    from edgeopt.errors import EdgeoptError
    from edgeopt.model.tflite import parse
    from edgeopt.pipeline import inspecting
    from edgeopt.repair import REPAIRS, Need

    places = found.placement.ops
    need = Need(
        profile=inspecting.load_target("edgetpu").profile,
        refused={p.index: p.cause for p in places if p.placement == "cpu"},
    )
    for repair in REPAIRS.values():
        try:
            made = repair(data, need) if repair else None
        except EdgeoptError:
            continue
        if made is not None:
            parse(made.data)


# What is damaged


def _bases(folder: Path) -> list[Base]:
    sys.path.insert(0, str(ROOT / "tests" / "unit"))
    from compiled_models import compiled_double

    demo = (ROOT / "edgeopt" / "demo" / "fashion.tflite").read_bytes()
    made = _synthetic(demo)
    pairs = [(name, data, compiled_double(data, groups)) for name, data, groups in made]
    models = SHARED / "edgetpu" / "models"
    for after in sorted(models.glob("*_edgetpu.tflite")) if models.is_dir() else ():
        before = after.with_name(after.name.replace("_edgetpu", ""))
        if before.is_file() and after.stat().st_size < 3_500_000:
            pairs.append((before.stem, before.read_bytes(), after.read_bytes()))
    found = []
    for name, before_data, after_data in pairs:
        one, two = folder / f"{name}.tflite", folder / f"{name}_edgetpu.tflite"
        one.write_bytes(before_data)
        two.write_bytes(after_data)
        found.append(Base(one.name, before_data, _marks(before_data), None, two))
        found.append(Base(two.name, after_data, _marks(after_data), one, None))
    return found


def _synthetic(demo: bytes) -> list[tuple[str, bytes, list[set[int]]]]:
    from ai_edge_litert import schema_py_generated as schema
    from tflite_models import fully_connected, out_of_line

    count = len(schema.ModelT.InitFromPackedBuf(demo).subgraphs[0].operators)
    small = fully_connected()
    return [
        ("small", small, [{0}]),
        ("behind", out_of_line(small), [{0}]),
        ("demo", demo, [set(range(1, count // 2)), set(range(count // 2 + 1, count - 1))]),
    ]


def _marks(data: bytes) -> list[tuple[int, int]]:
    """Where the readers look for structure: every number that they unpack from a sound file."""
    import ctypes

    from edgeopt.errors import EdgeoptError
    from edgeopt.facts import ModelFacts
    from edgeopt.model import flatbuffer, flexbuffer, tflite
    from edgeopt.model.edgetpu_payload import read_payload

    found: set[tuple[int, int]] = set()
    copy = bytearray(data)  # writable, so that ctypes tells where a view of it begins
    base = ctypes.addressof(ctypes.c_char.from_buffer(copy))

    def start(view: memoryview) -> int:
        return ctypes.addressof(ctypes.c_char.from_buffer(view)) - base

    unpack, number = flatbuffer._Source.unpack, flexbuffer._Reader.number

    def marked_unpack(self: Any, form: struct.Struct, at: int, what: str) -> Any:
        found.add((start(self.view) + at, form.size))
        return unpack(self, form, at, what)

    def marked_number(self: Any, at: int, width: int, *, signed: bool = False) -> int:
        found.add((start(self.data) + at, width))
        return number(self, at, width, signed=signed)

    flatbuffer._Source.unpack = marked_unpack  # type: ignore[method-assign]
    flexbuffer._Reader.number = marked_number  # type: ignore[method-assign]
    try:
        subgraphs = tflite.parse(memoryview(copy)).subgraphs
        read_payload(
            ModelFacts(path=Path("x"), format="tflite", sha256="", size_bytes=0, gzip_bytes=0,
                       parameters=None, subgraphs=subgraphs)
        )  # fmt: skip
    except EdgeoptError:
        raise SystemExit("a model to start from is damaged itself") from None
    finally:
        flatbuffer._Source.unpack = unpack  # type: ignore[method-assign]
        flexbuffer._Reader.number = number  # type: ignore[method-assign]
    return sorted(mark for mark in found if 0 <= mark[0] < len(data))


def _warm(path: Path, bases: list[Base]) -> Path:
    """Import all of it before memory is limited, and see that what is sound passes."""
    from edgeopt.errors import EdgeoptError

    for base in bases[:4]:
        path.write_bytes(base.data)
        try:
            _everything(path, base, full=True)
        except EdgeoptError as error:
            raise SystemExit(f"{base.name} is sound and was refused: {error}") from error
    return path


# How


def _mutated(base: Base, bases: list[Base], rng: random.Random) -> bytes:
    data = bytearray(base.data)
    if len(data) < _MOST_EDITED and "edgetpu" not in base.name and rng.random() < 0.6:
        return _edited(base.data, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        rng.choices(_WAYS, _WEIGHTS)[0](data, base, bases, rng)
    return bytes(data)


def _edited(data: bytes, rng: random.Random) -> bytes:
    """A sound FlatBuffer with senseless content: what a bit flip hardly ever reaches."""
    from ai_edge_litert import schema_py_generated as schema
    from tflite_models import pack

    model = schema.ModelT.InitFromPackedBuf(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        graph = rng.choice(model.subgraphs)
        if rng.randrange(2):
            _edit_tensor(model, rng.choice(graph.tensors), rng)
        else:
            _edit_operator(model, graph, rng.choice(graph.operators), rng)
    try:
        return pack(model)
    except Exception:  # noqa: BLE001 - the writer refuses some of it, each in its own way
        return data


def _edit_tensor(model: Any, tensor: Any, rng: random.Random) -> None:
    what = rng.randrange(7)
    if what == 0:
        shape = tensor.shape if tensor.shape is not None else []
        tensor.shape = [*shape, rng.choice((*_NUMBERS, 1 << 16))]
    elif what == 1:
        sides = (0, 1, -1, 3, 1 << 20, 2**31 - 1)
        tensor.shape = [rng.choice(sides) for _ in range(rng.randrange(5))]
    elif what == 2:
        tensor.type = rng.randrange(20)
    elif what == 3:
        tensor.buffer = rng.randrange(len(model.buffers))
    elif what == 4 and tensor.quantization is not None:
        values = (0.0, -1.0, float("nan"), float("inf"), 1e-45, 3e38)
        tensor.quantization.scale = [rng.choice(values)]
        tensor.quantization.zeroPoint = [rng.choice((0, -(2**63), 2**63 - 1, 128))]
    elif what == 5:
        tensor.quantization = None
    else:
        names = (b"", b"\x1b[31m", b"[/]", b'<svg>&"', b"\xff\xfe", b"a;" * 3000)
        tensor.name = rng.choice(names)


def _edit_operator(model: Any, graph: Any, op: Any, rng: random.Random) -> None:
    code = model.operatorCodes[op.opcodeIndex]
    number = rng.choice((*_NUMBERS, 1 << 16, len(graph.tensors) - 1))
    indices = [rng.randrange(-1, len(graph.tensors)) for _ in range(rng.randrange(5))]
    what = rng.randrange(7)
    if what == 0:
        op.inputs = indices
    elif what == 1:
        op.outputs = indices
    elif what == 2:
        code.builtinCode = rng.randrange(210)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    elif what == 3:
        code.version = number
    elif what == 4:
        graph.operators.insert(rng.randrange(len(graph.operators) + 1), op)
    elif what == 5:
        setattr(graph, rng.choice(("inputs", "outputs")), [t for t in indices if t >= 0])
    elif op.builtinOptions is not None:
        for name in vars(op.builtinOptions):
            if isinstance(getattr(op.builtinOptions, name), int):
                setattr(op.builtinOptions, name, max(min(number, 127), -1))


def _place(data: bytearray, base: Base, rng: random.Random) -> tuple[int, int]:
    at, size = rng.choice(base.marks)
    return (at, size) if at + size <= len(data) else (rng.randrange(len(data) or 1), 1)


def _flip(data: bytearray, base: Base, bases: list[Base], rng: random.Random) -> None:
    for _ in range(rng.randrange(1, 17)):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _flip_structure(data: bytearray, base: Base, bases: list[Base], rng: random.Random) -> None:
    for _ in range(rng.randrange(1, 9)):
        at, size = _place(data, base, rng)
        if at < len(data):
            data[min(at + rng.randrange(size), len(data) - 1)] ^= 1 << rng.randrange(8)


def _number(data: bytearray, base: Base, bases: list[Base], rng: random.Random) -> None:
    """Lengths, offsets and enums: extreme values, its neighbours, or another place's number."""
    at, size = _place(data, base, rng)
    now = int.from_bytes(data[at : at + size], "little")
    value = rng.choice((rng.choice(_U32), now + rng.choice((-4, -2, -1, 1, 2, 4)),
                        rng.randrange(len(data) + 1), len(data) - at, -at, now * 2))  # fmt: skip
    data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")


def _swap(data: bytearray, base: Base, bases: list[Base], rng: random.Random) -> None:
    """An offset that leads where another one leads: shared tables, cycles, wrong kinds."""
    marks = [m for m in (_place(data, base, rng) for _ in range(8)) if m[1] == 4]
    if len(marks) < 2:
        return
    (to, _), (from_, _) = marks[:2]
    target = from_ + int.from_bytes(data[from_ : from_ + 4], "little")
    data[to : to + 4] = ((target - to) % (1 << 32)).to_bytes(4, "little")


def _cut(data: bytearray, base: Base, bases: list[Base], rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _drop(data: bytearray, base: Base, bases: list[Base], rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.choice((1, 2, 4, 16, 256, 4096))]


def _splice(data: bytearray, base: Base, bases: list[Base], rng: random.Random) -> None:
    other = rng.choice(bases).data
    size = rng.choice((4, 16, 64, 1024, 65_536))
    at, there = rng.randrange(len(data) + 1), rng.randrange(len(other))
    if rng.random() < 0.5:
        data[at : at + size] = other[there : there + size]
    else:
        data[at:at] = other[there : there + size]


def _fill(data: bytearray, base: Base, bases: list[Base], rng: random.Random) -> None:
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 4, 32, 512))
    data[at : at + size] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF))]) * size


_WAYS: tuple[Callable[[bytearray, Base, list[Base], random.Random], None], ...] = (
    _flip, _flip_structure, _number, _swap, _cut, _drop, _splice, _fill,
)  # fmt: skip
_WEIGHTS = (1, 4, 6, 3, 1, 1, 1, 1)
