"""Read what Arm's vela packed into a model for an Ethos-U NPU.

Each part is a custom operator `ethos-u` with four inputs of its own before those of the graph: the
command stream, the constants, the memory for intermediate results and its fast part (which may be
the same). The command stream begins with actions for the driver: "COP1" or "COP2", then words whose
low byte says what follows (ethos-u-vela, ethosu/vela/driver_actions.py; ethos-u-core-driver,
src/ethosu_driver.c).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import unpack_from
from typing import Any

from edgeopt.facts import Operator, Tensor
from edgeopt.model.compiled import CompiledFormat, Part
from edgeopt.model.flatbuffer import CorruptFile

__all__ = ["CUSTOM_OP", "FORMAT", "EthosUPart", "read_part"]

CUSTOM_OP = "ethos-u"
_OWN_INPUTS = 4
_MAGICS = (b"COP1", b"COP2")
_CONFIG, _STREAM, _NOP = 1, 2, 5
_PRODUCTS = {0: "Ethos-U55", 1: "Ethos-U65", 2: "Ethos-U85"}


@dataclass(frozen=True, kw_only=True)
class EthosUPart:
    """One `ethos-u` operator. Sizes in bytes, as stored.

    `chip` and `macs_per_cycle` are what it was compiled for; the driver refuses another. All parts
    of a file share the constants (`constant_bytes`) and the memory (`arena_bytes`). An Ethos-U has
    no parameter memory of its own, and its driver no version numbers: those are None.
    """

    operator: int
    chip: str
    macs_per_cycle: int
    instruction_bytes: int
    constant_bytes: int
    arena_bytes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    min_runtime_version: int | None = None
    on_chip_bytes: int | None = None
    off_chip_bytes: int | None = None
    parameter_caching_token: int = 0

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {"inputs": list(self.inputs), "outputs": list(self.outputs)}

    @property
    def kind(self) -> str:
        return "Ethos-U"

    def rows(self) -> list[tuple[str, str]]:
        return [
            ("chip", f"{self.chip} with {self.macs_per_cycle} MACs a cycle"),
            ("instructions", f"{self.instruction_bytes:,} bytes"),
            ("constants", f"{self.constant_bytes:,} bytes, shared by all parts"),
            ("memory", f"{self.arena_bytes:,} bytes, shared by all parts"),
            ("inputs", "\n".join(self.inputs) or "-"),
            ("outputs", "\n".join(self.outputs) or "none: its results stay in the memory"),
        ]


def read_part(op: Operator) -> EthosUPart:
    """Raises CorruptFile where the operator is not as vela writes it."""
    own = op.inputs[:_OWN_INPUTS]
    if len(own) < _OWN_INPUTS or any(tensor is None for tensor in own):
        raise CorruptFile(f"{op.where} has not the {_OWN_INPUTS} inputs that vela gives it")
    stream, constants, arena, _ = (tensor for tensor in own if tensor is not None)
    if stream.data is None:
        raise CorruptFile(f"{op.where} has no command stream")
    config, length = _actions(bytes(stream.data), op.where)
    return EthosUPart(
        operator=op.index,
        chip=_PRODUCTS.get(config >> 28, f"Ethos-U product {config >> 28}"),
        macs_per_cycle=1 << (config & 0xF),
        instruction_bytes=4 * length,
        constant_bytes=constants.size_bytes or 0,
        arena_bytes=arena.size_bytes or 0,
        inputs=tuple(tensor.name for tensor in graph_inputs(op)),
        outputs=tuple(tensor.name for tensor in op.outputs),
    )


def _actions(data: bytes, where: str) -> tuple[int, int]:
    """The configuration word, and the number of words of the command stream."""
    if data[:4] not in _MAGICS or len(data) % 4:
        raise CorruptFile(f"the command stream of {where} does not begin as vela's do")
    config: int | None = None
    at = 4
    while at < len(data):
        (word,) = unpack_from("<I", data, at)
        action, at = word & 0xFF, at + 4
        if action == _CONFIG and at + 8 <= len(data):
            (config,) = unpack_from("<I", data, at)
            at += 8
        elif action == _STREAM and config is not None:
            length = (word >> 16) | (word >> 8 & 0xFF) << 16
            if at + 4 * length > len(data):
                break
            return config, length
        elif action != _NOP:
            break
    raise CorruptFile(f"the command stream of {where} is damaged or cut short")


def graph_inputs(op: Operator) -> tuple[Tensor, ...]:
    """What it reads of the graph while it runs."""
    return tuple(t for t in op.inputs[_OWN_INPUTS:] if t is not None and not t.constant)


def _unlike(op: Operator, part: Part) -> Iterator[str]:
    """The command stream names no tensors: there is nothing to hold against them."""
    return iter(())


FORMAT = CompiledFormat(
    operation=CUSTOM_OP,
    chip="an Ethos-U",
    target="ethos-u55",
    place=CUSTOM_OP,
    read=read_part,
    inputs=graph_inputs,
    unlike=_unlike,
    shares_memory=True,
)
