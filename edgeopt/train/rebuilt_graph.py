"""Replay: build a model anew, call by call, nested models opened up. For a child with tf_keras.

A functional model of Keras 3 or tf_keras is a list of calls of layers on tensors. Replaying it on
fresh tf_keras inputs, with another layer put in for each of its own, gives a flat copy:
tensorflow-model-optimization takes no model within a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from edgeopt.errors import ModelError

__all__ = ["Call", "Names", "calls", "inner_model", "inputs_like", "replay"]

# Makes what is called in place of a layer; `frozen` when the author called it with training=False.
Maker = Callable[[Any, bool], Callable[..., Any]]


@dataclass(frozen=True)
class Call:
    """One call of a layer; `fill` gives its arguments when the tensors so far are put in, by id."""

    layer: Any
    fill: Callable[[dict[int, Any]], tuple[tuple[Any, ...], dict[str, Any]]]
    inputs: list[Any]
    outputs: list[Any]


@dataclass
class Names:
    """Layer names that are each used once."""

    taken: set[str] = field(default_factory=set)

    def claim(self, *wanted: str) -> str:
        """The first of `wanted` that is free, else the last with a number."""
        number = 1
        names = list(wanted)
        while names[0] in self.taken:
            names = names[1:] or [f"{wanted[-1]}_{(number := number + 1)}"]
        self.taken.add(names[0])
        return names[0]


class _Found:
    """tf_keras takes each use of a tensor with pop(); a value here may be taken any number of
    times."""

    def __init__(self, tensors: dict[int, Any]) -> None:
        self._tensors = tensors

    def __getitem__(self, key: str) -> _Found:
        found = _Found(self._tensors)
        found._value = self._tensors[int(key)]
        return found

    def pop(self) -> Any:
        return self._value

    _value: Any = None


def inner_model(layer: Any) -> Any | None:
    """The functional model in `layer` when it is one: Keras 3 keeps a Sequential's inside it."""
    if hasattr(layer, "_functional"):
        return layer._functional
    return layer if hasattr(layer, "_nodes_by_depth") else None


def calls(model: Any) -> Iterator[Call]:
    """The model's calls in an order in which every input is known."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            if hasattr(node, "operation"):
                inputs, outputs = list(node.input_tensors), list(node.outputs)
                yield Call(node.operation, node.arguments.fill_in, inputs, outputs)
            else:
                yield _legacy_call(node)


def _legacy_call(node: Any) -> Call:
    import tensorflow as tf

    def fill(tensors: dict[int, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = node.map_arguments(_Found(tensors))
        return tuple(args), dict(kwargs)

    inputs, outputs = tf.nest.flatten(node.keras_inputs), tf.nest.flatten(node.outputs)
    return Call(node.layer, fill, inputs, outputs)


def replay(model: Any, inputs: list[Any], make: Maker, *, frozen: bool = False) -> list[Any]:
    """The outputs, flat, of `model` on `inputs` with `make(layer, frozen)` called for each layer.

    Nested models are replayed in place. Raises ModelError for one without a known graph.
    """
    tensors = {id(own): given for own, given in zip(model.inputs, inputs, strict=True)}
    for call in calls(model):
        if any(id(tensor) not in tensors for tensor in call.inputs):
            continue  # leads to no output of this model
        args, kwargs = call.fill(tensors)
        outputs = _apply(call.layer, args, kwargs, make, frozen)
        tensors.update((id(own), made) for own, made in zip(call.outputs, outputs, strict=True))
    return [tensors[id(tensor)] for tensor in model.outputs]


def _apply(
    layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], make: Maker, frozen: bool
) -> list[Any]:
    import tensorflow as tf

    kwargs = {name: value for name, value in kwargs.items() if value is not None}
    inner = inner_model(layer)
    if inner is None:
        if type(layer).__module__.startswith("keras."):
            kwargs.pop("training", None)  # its default, noted at every call; whoever calls decides
        called = make(layer, frozen or kwargs.get("training") is False)
        return list(tf.nest.flatten(called(*args, **kwargs)))
    training = kwargs.pop("training", args[1] if len(args) > 1 else None)
    given = tf.nest.flatten([args[:1], kwargs.pop("inputs", ())])
    if len(given) != len(inner.inputs) or kwargs:
        raise ModelError(
            f"The model {layer.name} inside the model is called with "
            f"{', '.join(kwargs) or len(given)}, which cannot be followed.",
            "Call it with its inputs alone, and save the model again.",
        )
    return replay(inner, given, make, frozen=frozen or training is False)


def inputs_like(model: Any, names: Names) -> list[Any]:
    """Fresh tf_keras inputs with the model's names, shapes and types, and an open batch."""
    import tf_keras

    made = []
    for tensor, name in zip(model.inputs, _input_names(model), strict=True):
        if tensor.shape is None or getattr(tensor, "sparse", False) is True:
            raise ModelError(f"The input {name} is sparse or of unknown rank.",
                             "Build the model with a dense keras.Input(shape).")  # fmt: skip
        dtype = getattr(tensor.dtype, "name", tensor.dtype)
        shape = tuple(tensor.shape)[1:]
        made.append(tf_keras.Input(shape=shape, dtype=dtype, name=names.claim(name)))
    return made


def _input_names(model: Any) -> list[str]:
    if hasattr(model, "input_names"):
        return list(model.input_names)
    return [tensor._keras_history.operation.name for tensor in model.inputs]
