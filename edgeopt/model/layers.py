"""Turn a Keras model's configuration into operators. Layers are read, never built or run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeopt.facts import Subgraph, Tensor
from edgeopt.model.flatbuffer import CorruptFile
from edgeopt.model.keras_weights import Weights
from edgeopt.model.layer_emit import Emitter, Site
from edgeopt.model.layer_graph import (
    Key,
    Layer,
    Value,
    dtype_of,
    layers_of,
    renumber,
    shape_of,
    values_in,
)
from edgeopt.model.layer_shapes import Shape

__all__ = ["read_layers"]

_MAX_DEPTH = 20
_MAX_PASSES = 100  # layers stand nearly in order; a file that needs more runs in circles


def read_layers(model: Mapping[str, Any], weights: Weights) -> Subgraph:
    """The model's one subgraph. Raises CorruptFile when layers refer to what is not there.

    A model that is a class of its own (its layers are Python code) gives one operator of its name.
    """
    reader = _Reader()
    outputs = reader.model(model, None, _Place(weights=weights, prefix="", depth=0))
    emitter = reader.emitter
    config = model.get("config")
    return Subgraph(
        index=0,
        name=str(config.get("name", "")) if isinstance(config, Mapping) else "",
        inputs=tuple(reader.inputs),
        outputs=tuple(outputs),
        operators=tuple(emitter.operators),
        tensors=tuple(emitter.tensors),
    )


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A model within the model: its weights, the start of its layers' names, its depth."""

    weights: Weights
    prefix: str
    depth: int

    def inside(self, layer: Layer, order: int) -> _Place:
        return _Place(
            weights=self.weights.child(layer.name, layer.kind, order),
            prefix=f"{self.prefix}{layer.name}/",
            depth=self.depth + 1,
        )


class _Reader:
    def __init__(self) -> None:
        self.emitter = Emitter()
        self.inputs: list[Tensor] = []

    def model(
        self, model: Mapping[str, Any], given: Sequence[Tensor] | None, place: _Place
    ) -> list[Tensor]:
        """The outputs of a model called on `given`, at the top (None) on inputs of its own."""
        if place.depth > _MAX_DEPTH:
            raise CorruptFile("its models nest beyond reason")
        config = model.get("config")
        listed = config.get("layers") if isinstance(config, Mapping) else config
        if not isinstance(listed, list):
            return self._opaque(model, given, place)
        layers = layers_of(listed)
        places = _places(layers, place)
        if model["class_name"] == "Sequential" or not isinstance(config, Mapping):
            return self._sequential(model, layers, places, given)
        return self._functional(config, layers, places, given)

    def _opaque(
        self, model: Mapping[str, Any], given: Sequence[Tensor] | None, place: _Place
    ) -> list[Tensor]:
        """A model whose inside is Python code: one operator of its class name."""
        kind = str(model["class_name"])
        shape = shape_of((model.get("build_config") or {}).get("input_shape"))
        sources = [self._input("input", shape, "float32")] if given is None else list(given)
        site = Site(
            kind=kind, name=place.prefix.rstrip("/"), config={}, arrays=place.weights.arrays()
        )
        return self.emitter.custom(site, sources)

    def _sequential(
        self,
        model: Mapping[str, Any],
        layers: Sequence[Layer],
        places: Sequence[_Place],
        given: Sequence[Tensor] | None,
    ) -> list[Tensor]:
        values = list(given or [])
        if given is None:
            config = layers[0].config if layers else {}
            shape = next(_stated_shapes(model, config), None)
            name = layers[0].name if layers else "input"
            values = [self._input(name, shape, dtype_of(config.get("dtype")) or "float32")]
        for layer, place in zip(layers, places, strict=True):
            if layer.kind != "InputLayer":
                values = self._call(layer, place, values, Value(key=(layer.name, 0, 0)), False)
        return values

    def _functional(
        self,
        config: Mapping[str, Any],
        layers: Sequence[Layer],
        places: Sequence[_Place],
        given: Sequence[Tensor] | None,
    ) -> list[Tensor]:
        layers, results = renumber(list(layers), list(values_in(config.get("output_layers"))))
        stated = {v.key: v for layer in layers for call in layer.calls for v in call.sources}
        uses = Counter(v.key for layer in layers for call in layer.calls for v in call.sources)
        uses.update(value.key for value in results)
        known = self._functional_inputs(config, layers, given)
        pending = [
            (layer, place, index)
            for layer, place in zip(layers, places, strict=True)
            for index in range(len(layer.calls))
            if layer.kind != "InputLayer"
        ]
        for _ in range(_MAX_PASSES):
            waiting = []
            for layer, place, index in pending:
                key: Key = (layer.name, index, 0)
                sources = layer.calls[index].sources
                if any(value.key not in known for value in sources):
                    waiting.append((layer, place, index))
                    continue
                wanted = stated.get(key, Value(key=key))
                values = [known[value.key] for value in sources]
                shared = any(uses[value.key] > 1 for value in sources)
                for t, tensor in enumerate(self._call(layer, place, values, wanted, shared)):
                    known[(layer.name, index, t)] = tensor
                self._further_outputs(key, stated, known)
            if len(waiting) == len(pending):
                break
            pending = waiting
        return [_result(known, value.key) for value in results]

    def _further_outputs(
        self, key: Key, stated: Mapping[Key, Value], known: dict[Key, Tensor]
    ) -> None:
        """Outputs beyond the first (an LSTM's states) appear where a later layer takes them."""
        for output in range(1, 8):
            further = (*key[:2], output)
            if further in stated and further not in known:
                value = stated[further]
                known[further] = self.emitter.tensor(
                    f"{key[0]}:{output}", value.shape, value.dtype or "float32"
                )

    def _functional_inputs(
        self,
        config: Mapping[str, Any],
        layers: Sequence[Layer],
        given: Sequence[Tensor] | None,
    ) -> dict[Key, Tensor]:
        keys = [(value.key[0], 0, 0) for value in values_in(config.get("input_layers"))]
        if given is not None:
            return dict(zip(keys, given, strict=False))
        by_name = {layer.name: layer for layer in layers}
        known: dict[Key, Tensor] = {}
        for key in keys:
            layer = by_name[key[0]]
            shape = next(_stated_shapes({}, layer.config), None)
            dtype = dtype_of(layer.config.get("dtype")) or "float32"
            known[key] = self._input(layer.name, shape, dtype)
        return known

    def _call(
        self, layer: Layer, place: _Place, values: list[Tensor], wanted: Value, shared: bool
    ) -> list[Tensor]:
        """The outputs of one call of a layer, which may be a model of its own."""
        if isinstance(layer.config.get("layers"), list):
            return self.model(layer.entry, values, place)
        site = Site(
            kind=layer.kind,
            name=place.prefix.rstrip("/"),
            config=layer.config,
            arrays=place.weights.arrays(),
            own_class=_own_class(layer.entry),
            shape=wanted.shape,
            dtype=wanted.dtype or dtype_of(layer.config.get("dtype")) or "float32",
            shared=shared,
        )
        return self.emitter.layer(site, values)

    def _input(self, name: str, shape: Shape | None, dtype: str) -> Tensor:
        tensor = self.emitter.tensor(name, shape, dtype)
        self.inputs.append(tensor)
        return tensor


def _places(layers: Sequence[Layer], place: _Place) -> list[_Place]:
    """Keras 3 numbers a model's layers by class, in order."""
    counts: Counter[str] = Counter()
    places = []
    for layer in layers:
        places.append(place.inside(layer, counts[layer.kind]))
        counts[layer.kind] += 1
    return places


def _stated_shapes(model: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Shape]:
    """Where a model's input shape may stand, the most certain first."""
    outer = model.get("config")
    places = (
        config.get("batch_shape"),
        config.get("batch_input_shape"),
        (model.get("build_config") or {}).get("input_shape"),
        outer.get("build_input_shape") if isinstance(outer, Mapping) else None,
    )
    for place in places:
        shape = shape_of(place)
        if shape is not None:
            yield shape


def _own_class(entry: Mapping[str, Any]) -> bool:
    """Whether a layer is the user's own code: registered as such, or of another module."""
    module = entry.get("module")
    foreign = isinstance(module, str) and module.partition(".")[0] not in ("keras", "tf_keras")
    return foreign or ">" in f"{entry.get('registered_name')}{entry['class_name']}"


def _result(known: Mapping[Key, Tensor], key: Key) -> Tensor:
    if key not in known:
        raise CorruptFile(f"layer {key[0][:80]!r} is missing, or waits for itself")
    return known[key]
