"""Write down the operators that a converter would make of single Keras layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgeopt.facts import Operator, Tensor
from edgeopt.model.hdf5 import Dataset
from edgeopt.model.layer_ops import (
    FOLDS_NORMALIZATION,
    FUSED,
    NO_OPERATION,
    activation_op,
    layer_op,
)
from edgeopt.model.layer_options import layer_options
from edgeopt.model.layer_shapes import Shape, output_shape
from edgeopt.model.tflite import tensor_bytes

__all__ = ["Emitter", "Site"]

_WRAPPERS = ("TimeDistributed", "Bidirectional")


@dataclass(frozen=True, kw_only=True)
class Site:
    """One call of one layer. `shared` says that another layer takes the same input."""

    kind: str
    name: str
    config: Mapping[str, Any]
    arrays: Sequence[Dataset]
    own_class: bool = False
    shape: Shape | None = None
    dtype: str = "float32"
    shared: bool = False


@dataclass
class Emitter:
    """Collects tensors and operators; a result may take in the BatchNormalization behind it."""

    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    foldable: set[int] = field(default_factory=set)

    def tensor(
        self, name: str, shape: Shape | None, dtype: str, *, constant: bool = False
    ) -> Tensor:
        made = Tensor(
            index=len(self.tensors),
            name=name,
            dtype=dtype,
            shape=shape,
            constant=constant,
            size_bytes=tensor_bytes(dtype, shape),
        )
        self.tensors.append(made)
        return made

    def layer(self, site: Site, sources: list[Tensor]) -> list[Tensor]:
        """The layer's outputs, after as many operators as it takes (none for Dropout)."""
        if site.own_class or site.kind == "Lambda":
            return self.custom(site, sources)
        if site.kind in NO_OPERATION or _is_linear(site):
            return sources
        if site.shape is None:
            shapes = [source.shape for source in sources]
            site = replace(site, shape=output_shape(site.kind, site.config, shapes))
        if site.kind in _WRAPPERS:
            return self._wrapped(site, sources)
        if site.kind == "BatchNormalization" and self._folds(site, sources):
            return sources
        if site.kind.startswith("SeparableConv"):
            return [self._separable(site, sources)]
        op = layer_op(site.kind, site.config)
        if op is None:
            return [self._operator(site.kind, site, [*sources, *self._constants(site)], {})]
        return [self._known(op, site, sources)]

    def custom(self, site: Site, sources: list[Tensor]) -> list[Tensor]:
        """A class that only its own Python code explains: listed, never run."""
        inputs = [*sources, *self._constants(site)]
        return [self._operator(site.kind, site, inputs, {}, custom=True)]

    def _known(self, op: str, site: Site, sources: list[Tensor]) -> Tensor:
        options = layer_options(op, site.config)
        result = self._operator(op, site, [*sources, *self._constants(site)], options)
        if site.kind == "BatchNormalization" or (site.kind == "Rescaling" and _offset(site)):
            result = self._operator("ADD", site, [result], {})
        activation = site.config.get("activation")
        inside = op in ("UNIDIRECTIONAL_SEQUENCE_LSTM", "WHILE")  # a recurrent layer's own
        if site.kind != "Activation" and not inside and activation:
            return self._activated(activation, site, result)
        return result

    def _activated(self, activation: Any, site: Site, result: Tensor) -> Tensor:
        """Behind a layer: fused, or one more operator (two for swish, x * sigmoid(x))."""
        if str(activation) in FUSED:
            if str(activation) == "linear" and site.kind in FOLDS_NORMALIZATION:
                self.foldable.add(result.index)
            return result
        op = activation_op(activation) or str(activation)
        gate = self._operator(op, site, [result], {})
        if activation in ("swish", "silu"):
            return self._operator("MUL", site, [result, gate], {})
        return gate

    def _separable(self, site: Site, sources: list[Tensor]) -> Tensor:
        """A depthwise convolution, then a pointwise one that has the bias."""
        constants = self._constants(site)
        alike = output_shape(f"Depthwise{site.kind}", site.config, [sources[0].shape])
        middle = replace(site, shape=alike)
        depthwise = self._operator(
            "DEPTHWISE_CONV_2D",
            middle,
            [*sources, *constants[:1]],
            {**layer_options("DEPTHWISE_CONV_2D", site.config), "fused_activation": "NONE"},
        )
        fused = FUSED.get(str(site.config.get("activation", "linear")), "NONE")
        options = {"padding": "VALID", "stride_w": 1, "stride_h": 1, "fused_activation": fused}
        result = self._operator("CONV_2D", site, [depthwise, *constants[1:]], options)
        return self._activated(site.config.get("activation", "linear"), site, result)

    def _wrapped(self, site: Site, sources: list[Tensor]) -> list[Tensor]:
        """TimeDistributed and Bidirectional: the layer inside, on the wrapper's weights."""
        inner = site.config.get("layer") or {}
        kind, config = str(inner.get("class_name", site.kind)), inner.get("config") or {}
        op = layer_op(kind, config)
        if op is None or not isinstance(config, Mapping):
            return self.custom(site, sources)
        options = layer_options(op, config)
        if site.kind == "Bidirectional" and op == "UNIDIRECTIONAL_SEQUENCE_LSTM":
            op = "BIDIRECTIONAL_SEQUENCE_LSTM"
        result = self._operator(op, site, [*sources, *self._constants(site)], options)
        if site.kind == "TimeDistributed":
            activation = config.get("activation", "linear")
            return [self._activated(activation, replace(site, kind=kind), result)]
        return [result]

    def _folds(self, site: Site, sources: list[Tensor]) -> bool:
        return len(sources) == 1 and sources[0].index in self.foldable and not site.shared

    def _constants(self, site: Site) -> list[Tensor]:
        return [self.tensor(a.path, a.shape, a.dtype, constant=True) for a in site.arrays]

    def _operator(
        self,
        op: str,
        site: Site,
        inputs: Sequence[Tensor],
        options: Mapping[str, Any],
        *,
        custom: bool = False,
    ) -> Tensor:
        result = self.tensor(site.name, site.shape, site.dtype)
        self.operators.append(
            Operator(
                index=len(self.operators),
                subgraph=0,
                op=op,
                version=None,
                inputs=tuple(inputs),
                outputs=(result,),
                options=options,
                custom=custom,
                layer=site.name,
            )
        )
        return result


def _is_linear(site: Site) -> bool:
    return site.kind == "Activation" and site.config.get("activation") == "linear"


def _offset(site: Site) -> bool:
    offset = site.config.get("offset", 0)
    return not isinstance(offset, (int, float)) or offset != 0
