"""Files that hold machine code for an accelerator, whichever: one format for each compiler.

A compiled file keeps what its compiler left to the CPU, and has a custom operator for each part
that runs on the accelerator. The operator's name says which format it is; the registry's
"compiled_formats" names the CompiledFormat of each, so that another compiler is one entry there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edgeopt import registry
from edgeopt.facts import ModelFacts, Operator, Tensor

__all__ = [
    "CompiledFormat",
    "Part",
    "compiled_format",
    "edge",
    "formats_of",
    "holds_code",
    "is_compiled",
    "read_parts",
]

_GROUP = "compiled_formats"


class Part(Protocol):
    """One custom operator, opened. Sizes in bytes; None where the format does not tell.

    `kind` is the accelerator's name for people, `chip` which of them the file says it is for.
    `on_chip_bytes` are parameters that stay on the chip between inferences, `off_chip_bytes` those
    that it reads again with each one; `instruction_bytes` the machine code.
    """

    @property
    def operator(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def chip(self) -> str: ...
    @property
    def min_runtime_version(self) -> int | None: ...
    @property
    def on_chip_bytes(self) -> int | None: ...
    @property
    def off_chip_bytes(self) -> int | None: ...
    @property
    def instruction_bytes(self) -> int: ...
    @property
    def parameter_caching_token(self) -> int: ...
    def to_json(self) -> dict[str, Any]: ...
    def rows(self) -> list[tuple[str, str]]:
        """What a person should see of it, as label and plain text."""
        ...


@dataclass(frozen=True, kw_only=True)
class CompiledFormat:
    """How to read one kind of compiled file.

    `operation` is the custom operator, `chip` the accelerator for people ("an Edge TPU"), `target`
    the one to judge by where none was named, `place` that of its operations. `read` opens one
    operator (CorruptFile where it contradicts its format), `inputs` are the tensors that it reads
    of the graph, without memory of its own. `unlike` says what of an opened part contradicts its
    operator's tensors.
    `parameters` gives weights as stored, where they are the source's in another order.
    `shares_memory`: parts hand results to each other that are no tensors of the file.
    """

    operation: str
    chip: str
    target: str
    place: str
    read: Callable[[Operator], Part]
    inputs: Callable[[Operator], tuple[Tensor, ...]]
    unlike: Callable[[Operator, Part], Iterable[str]]
    parameters: Callable[[Operator], Sequence[memoryview]] | None = None
    shares_memory: bool = False


def edge(tensor: Tensor) -> tuple[Any, ...]:
    """What must be equal of a tensor in a source and in a compiled file, for a program that fills
    or reads it: type, shape (None for no dimensions, which files say in two ways), quantization."""
    return tensor.dtype, tensor.shape or None, tensor.quantization


def holds_code(op: Operator) -> bool:
    """Whether it is a part that some compiler made."""
    return op.custom and op.op in registry.names(_GROUP)


def compiled_format(op: Operator) -> CompiledFormat:
    """That of an operator for which `holds_code` is true."""
    found: CompiledFormat = registry.load(_GROUP, op.op)
    return found


def is_compiled(facts: ModelFacts) -> bool:
    """Whether any part of the model is already compiled for an accelerator."""
    return any(holds_code(op) for op in facts.operators())


def formats_of(facts: ModelFacts) -> list[CompiledFormat]:
    """The formats of a file's parts, each once, in file order; empty where it is not compiled."""
    names = dict.fromkeys(op.op for op in facts.operators() if holds_code(op))
    return [registry.load(_GROUP, name) for name in names]


def read_parts(facts: ModelFacts) -> tuple[Part, ...]:
    """Every part in file order; empty for a model that is not compiled.

    Raises CorruptFile when one contradicts its format.
    """
    return tuple(compiled_format(op).read(op) for op in facts.operators() if holds_code(op))
