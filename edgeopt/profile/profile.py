"""HardwareProfile: what a piece of silicon, with its runtime, accepts; it cannot be invalid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError
from edgeopt.facts import ModelFacts, Operator
from edgeopt.profile.rules import OperationRule
from edgeopt.toml_file import did_you_mean

__all__ = [
    "TYPES",
    "HardwareProfile",
    "Partition",
    "Runtime",
    "Scheme",
    "Tail",
    "load_profile",
    "profile_names",
]

FLOATS = ("float32", "float16", "float64", "bfloat16")
TYPES = frozenset(
    {
        "int2",
        "int4",
        "uint4",
        "int8",
        "uint8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
    }
    | {
        "float8_e4m3fn",
        "float8_e5m2",
        "bool",
        "string",
        "complex64",
        "complex128",
        "resource",
        "variant",
        *FLOATS,
    }
)
# Scheme: weight type, activation type, whether its weights have a scale for each channel.
SCHEMES: Mapping[str, tuple[str, str, bool]] = {
    "float32": ("float32", "float32", False),
    "float16": ("float16", "float32", False),
    "dynamic_int8": ("int8", "float32", True),
    "int8": ("int8", "int8", True),
    "int16x8": ("int8", "int16", True),
}
GRANULARITIES = ("per_channel", "per_tensor")
PICKS = ("none", "first", "largest", "all")


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How well one quantization scheme suits. `expected_size_ratio` is against float32 weights."""

    name: str
    suits: bool
    slow: bool
    note: str
    source: str
    expected_size_ratio: float
    granularity: str

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The interpreter that parses the file: its newest version of each builtin, its customs.

    `operations` gives the lowest and the highest version; a builtin left out does not exist there.
    """

    name: str
    version: str
    operations: Mapping[str, tuple[int, int]]
    custom: tuple[str, ...]
    source: str

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "custom": list(self.custom),
            "operations": {name: list(span) for name, span in sorted(self.operations.items())},
            "source": self.source,
        }


@dataclass(frozen=True, kw_only=True)
class Partition:
    """How the accelerator divides a graph. `pick` "none": everything runs on the CPU;
    "all": each part that it takes goes there. `label` is the place's name for people, `short`
    that in the names of files of which only a part is for it.

    `compiled_operation` is the custom operator that a compiled file holds, "" where there is none;
    `runtime_version` the device runtime's own number, which `OperationRule.min_runtime` refers to;
    `type_runtime` the oldest one that computes with a type.
    """

    place: str = "cpu"
    label: str = ""
    short: str = ""
    pick: str = "none"
    compiled_operation: str = ""
    runtime_version: int | None = None
    type_runtime: Mapping[str, int] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.place)
        object.__setattr__(self, "short", self.short or self.place)


@dataclass(frozen=True, kw_only=True)
class Tail:
    """Post-processing that may stay in float: it begins at `roots`, and uses only `operations`.

    `head` may do so between an 8-bit model input and the first quantized operation.
    """

    roots: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class HardwareProfile:
    """Constraints of one kind of device. Raises InputError when they contradict each other.

    `free_inner_dims`: only that many innermost dimensions of an activation may exceed 1. `remedies`
    is what to do about an operation. `phrases` is what the tool prints for a cause, in the order in
    which it looks ("limitation" for every rule not named). `computed_shapes`: the inputs of each
    operation that must be constants, since the size of its result follows from them; the tool takes
    no open size. `old_reader`: what reads the file has the schema and kernels of TensorFlow 2.5,
    where weights have several scales along `channel_axis` of these operations alone. `sources`
    names where facts are from.
    """

    name: str
    description: str
    weight_types: tuple[str, ...]
    activation_types: tuple[str, ...]
    bias_types: tuple[str, ...]
    granularity: tuple[str, ...]
    io_types: tuple[str, ...]
    default_io: str
    float_fallback: bool
    static_shapes: bool
    runtime: Runtime
    schemes: Mapping[str, Scheme]
    preferred: tuple[str, ...]
    index_types: tuple[str, ...] = ()
    max_batch: int | None = None
    max_rank: int | None = None
    free_inner_dims: int | None = None
    requires_quantization: bool = False
    inline_buffers: bool = False
    old_reader: bool = False
    channel_axis: Mapping[str, int] = field(default_factory=dict)
    sparse_tensors: bool = True
    control_flow: bool = True
    float_only: tuple[str, ...] = ()
    operations: Mapping[str, OperationRule] = field(default_factory=dict)
    partition: Partition = field(default_factory=Partition)
    tail: Tail = field(default_factory=Tail)
    remedies: Mapping[str, str] = field(default_factory=dict)
    phrases: Mapping[str, str] = field(default_factory=dict)
    computed_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise InputError(f"The profile {self.name!r} contradicts itself: {problem}")

    def _problems(self) -> list[str]:
        return [*self._type_problems(), *self._io_problems(), *self._scheme_problems()]

    def _type_problems(self) -> list[str]:
        named = {
            "weights.types": self.weight_types,
            "activations.types": self.activation_types,
            "activations.index_types": self.index_types,
            "bias.types": self.bias_types,
            "io.types": self.io_types,
        }
        named |= {
            f"operation {r.name}": (*r.types, *r.output_types) for r in self.operations.values()
        }
        found = [
            f"{where} names the type {name!r}, which does not exist.{did_you_mean(name, TYPES)}"
            for where, types in named.items()
            for name in types
            if name not in TYPES
        ]
        found += [
            f"weights.granularity {g!r} is not one of {GRANULARITIES}."
            for g in self.granularity
            if g not in GRANULARITIES
        ]
        if not (self.weight_types and self.activation_types and self.granularity):
            found.append(
                "weights.types, activations.types and weights.granularity must not be empty."
            )
        known = self.runtime.operations
        unknown = [f"operation {r.name}" for r in self.operations.values() if not r.custom]
        unknown += [f"float.only {name}" for name in self.float_only]
        unknown += [f"computed_shapes {name}" for name in self.computed_shapes]
        unknown += [f"channel_axis {name}" for name in self.channel_axis]
        found += [
            f"{what} is no operation of {self.runtime.name} {self.runtime.version}."
            f"{did_you_mean(what.split()[1], known)}"
            for what in unknown
            if what.split()[1] not in known
        ]
        if self.requires_quantization and any(t in FLOATS for t in self.activation_types):
            found.append("activations.quantized is set, but activations.types allows float.")
        return found

    def _io_problems(self) -> list[str]:
        allowed = {*self.activation_types, *(FLOATS if self.float_fallback else ())}
        found = [
            f"io.types has {name}, which is not among activations.types; no float fallback."
            for name in self.io_types
            if name not in allowed
        ]
        if self.default_io not in self.io_types:
            found.append(f"io.default {self.default_io!r} is not among io.types.")
        return found

    def _scheme_problems(self) -> list[str]:
        found = []
        for name, scheme in self.schemes.items():
            weight, activation, _ = SCHEMES[name]
            if not scheme.suits:
                continue
            if weight not in self.weight_types:
                found.append(f"scheme {name} suits, but {weight} is not among weights.types.")
            if activation not in self.activation_types:
                found.append(
                    f"scheme {name} suits, but {activation} is not among activations.types."
                )
            if scheme.granularity not in self.granularity:
                found.append(f"scheme {name} suits, but it is {scheme.granularity}.")
        for name in self.preferred:
            if name not in self.schemes or not self.schemes[name].suits:
                found.append(f"preferred names {name}, which is no scheme that suits.")
        if not self.preferred:
            found.append("preferred names no scheme.")
        return found

    @property
    def accelerated(self) -> bool:
        """True where some operations run elsewhere than on the CPU."""
        return self.partition.pick != "none"

    def at_runtime(self, version: int | None) -> HardwareProfile:
        """The same for a device whose runtime is `version`; unchanged for None.

        Raises InputError where the accelerator has no runtime with versions.
        """
        if version is None:
            return self
        if self.partition.runtime_version is None:
            raise InputError(
                f"The profile {self.name} has no device runtime with versions.",
                "Leave the runtime version out.",
            )
        return replace(self, partition=replace(self.partition, runtime_version=version))

    def compiled(self, facts: ModelFacts) -> list[Operator]:
        """The operators of a file that hold machine code for this profile's accelerator."""
        code = self.partition.compiled_operation
        return [op for op in facts.operators() if code and op.custom and op.op == code]

    def to_json(self) -> dict[str, Any]:
        plain = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
            if isinstance(value, (str, bool, int, tuple, type(None)))
        }
        return plain | {
            "path": str(self.path) if self.path else None,
            "partition": vars(self.partition) | {"type_runtime": dict(self.partition.type_runtime)},
            "tail": {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.tail).items()},
            "runtime": self.runtime.to_json(),
            "schemes": {name: scheme.to_json() for name, scheme in self.schemes.items()},
            "operations": [rule.to_json() for rule in self.operations.values()],
            "remedies": dict(self.remedies),
            "phrases": dict(self.phrases),
            "channel_axis": dict(self.channel_axis),
            "computed_shapes": {name: list(ins) for name, ins in self.computed_shapes.items()},
            "sources": dict(self.sources),
        }


def profile_names() -> list[str]:
    """The profiles that can be asked for by name: shipped, and the user's own."""
    from edgeopt.profile.file import named_profiles

    return sorted(named_profiles())


def load_profile(name_or_path: str) -> HardwareProfile:
    """A profile by name, or from a FILE.toml. Raises InputError with file, line and key."""
    from edgeopt.profile.file import load

    return load(name_or_path)
