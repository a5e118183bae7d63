"""The layers of a Keras configuration and the values between them, in either Keras' notation.

Keras 2 names a value ["conv", 0, 0, {}]; Keras 3 writes a __keras_tensor__ with its shape, type
and keras_history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgeopt.model.flatbuffer import CorruptFile
from edgeopt.model.layer_shapes import Shape

__all__ = [
    "Call",
    "Key",
    "Layer",
    "Value",
    "dtype_of",
    "layers_of",
    "renumber",
    "shape_of",
    "values_in",
]

_MAX_LAYERS = 100_000
_MAX_NESTING = 30

Key = tuple[str, int, int]  # layer, how manieth call, how manieth output


@dataclass(frozen=True, kw_only=True)
class Value:
    """What a layer takes; shape and type where the file states them."""

    key: Key
    shape: Shape | None = None
    dtype: str | None = None


@dataclass(frozen=True, kw_only=True)
class Call:
    sources: tuple[Value, ...]


@dataclass(frozen=True, kw_only=True)
class Layer:
    kind: str
    name: str
    config: Mapping[str, Any]
    entry: Mapping[str, Any]
    calls: tuple[Call, ...]


def layers_of(entries: list[Any]) -> list[Layer]:
    """The layers in the order of the file. Raises CorruptFile for too many."""
    if len(entries) > _MAX_LAYERS:
        raise CorruptFile(f"it has {len(entries)} layers")
    return [_layer(entry) for entry in entries]


def renumber(layers: list[Layer], results: list[Value]) -> tuple[list[Layer], list[Value]]:
    """Count every layer's calls from zero.

    An inner model of Keras 2 was already called once when it was built, and its calls in the
    outer model count on from there.
    """
    mentioned = [v.key for layer in layers for call in layer.calls for v in call.sources]
    highest: dict[str, int] = {}
    for name, call, _ in (*mentioned, *(value.key for value in results)):
        highest[name] = max(call, highest.get(name, 0))
    first = {
        layer.name: max(0, highest.get(layer.name, 0) - max(0, len(layer.calls) - 1))
        for layer in layers
    }

    def shifted(value: Value) -> Value:
        name, call, output = value.key
        return replace(value, key=(name, max(0, call - first.get(name, 0)), output))

    moved = [
        replace(
            layer,
            calls=tuple(Call(sources=tuple(map(shifted, call.sources))) for call in layer.calls),
        )
        for layer in layers
    ]
    return moved, list(map(shifted, results))


def _layer(entry: Mapping[str, Any]) -> Layer:
    config = entry.get("config") or {}
    if not isinstance(config, Mapping):
        config = {"layers": config}  # a Sequential of early Keras 2
    nodes = entry.get("inbound_nodes") or []
    return Layer(
        kind=str(entry["class_name"]),
        name=str(entry.get("name") or config.get("name") or entry["class_name"]),
        config=config,
        entry=entry,
        calls=tuple(Call(sources=tuple(values_in(node))) for node in nodes),
    )


def values_in(node: Any, depth: int = 0) -> Iterator[Value]:
    """Every value that a piece of configuration mentions, in order."""
    if depth > _MAX_NESTING:
        raise CorruptFile("its configuration nests beyond reason")
    if isinstance(node, Mapping):
        if node.get("class_name") == "__keras_tensor__":
            config = node["config"]
            layer, call, output = config["keras_history"]
            yield Value(
                key=(str(layer), int(call), int(output)),
                shape=shape_of(config.get("shape")),
                dtype=dtype_of(config.get("dtype")),
            )
            return
        for item in node.values():
            yield from values_in(item, depth + 1)
    elif isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and _counts(node[1]) and _counts(node[2]):
            yield Value(key=(node[0], node[1], node[2]))
            node = node[3:]
        for item in node:
            yield from values_in(item, depth + 1)


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def shape_of(value: Any) -> Shape | None:
    """A shape as Keras writes it, null for an open dimension; None for anything else."""
    if not isinstance(value, list) or any(isinstance(d, (list, dict, str)) for d in value):
        return None
    return tuple(-1 if d is None else int(d) for d in value)


def dtype_of(value: Any) -> str | None:
    """A type's name; of a DTypePolicy that of what it computes in."""
    if isinstance(value, Mapping):
        value = (value.get("config") or {}).get("name")
    if not isinstance(value, str):
        return None
    return value.removeprefix("mixed_")
