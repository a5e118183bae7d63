"""A trained Keras file as a tf_keras model that can be trained on, proven to be the same.

For a child with TensorFlow: tensorflow-model-optimization works on tf_keras (Keras 2) models alone,
and takes none within another. So the file's own Keras loads the model, it is built again layer by
layer, and weights and outputs of both are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeopt.train.fold import fold_batch_norm
from edgeopt.train.keras_source import Original, open_original
from edgeopt.train.layers3 import plain_dtypes, tf_keras_layer
from edgeopt.train.layers3_ops import tf_keras_operation
from edgeopt.train.rebuilt_check import (
    EXACT,
    HALF,
    compare,
    copy_weights,
    outputs_of,
    random_inputs,
)
from edgeopt.train.rebuilt_graph import Names, inner_model, inputs_like, replay

__all__ = ["Rebuilt", "fold_batch_norm", "load_for_training"]

_DROPOUTS = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D",
             "GaussianDropout", "GaussianNoise", "AlphaDropout")  # fmt: skip
# They change images while training and let them through after; tf_keras does not have them.
_AUGMENTATIONS = ("AugMix", "AutoContrast", "CutMix", "Equalization", "MixUp", "RandAugment",
                  "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter",
                  "RandomElasticTransform", "RandomErasing", "RandomGaussianBlur",
                  "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective",
                  "RandomPosterization", "RandomSaturation", "RandomSharpness", "RandomShear",
                  "Solarization")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """`model` is a functional tf_keras.Model of plain layers with an open batch, not compiled, no
    model within it, inputs and outputs in the file's order. `checked` has the number of samples,
    the largest absolute difference of the outputs and the largest output, and the number of arrays
    of weights, which are equal bit for bit."""

    model: Any
    notes: tuple[str, ...] = ()
    checked: dict[str, Any] = field(default_factory=dict)


def load_for_training(source: Path) -> Rebuilt:
    """The model in a .keras, .h5 or SavedModel of Keras. Raises ModelError naming the layer that
    stands in the way, and for code in the file, which is never run."""
    original = open_original(source)
    if original.generation == 3:
        _compute_in_float32(original)
    inputs = random_inputs(original.model)
    wanted = outputs_of(original.model, inputs, _packer(original))
    builder = _Builder(original)
    model = builder.build()
    weights = copy_weights(builder.pairs)
    found = outputs_of(model, inputs, lambda _graph, rows: rows if len(rows) > 1 else rows[0])
    in_half = original.mixed and original.generation == 2
    checked = compare(wanted, found, within=HALF if in_half else EXACT)
    return Rebuilt(
        model=model,
        notes=(*_proof(original, weights, checked), *builder.notes()),
        checked={"samples": len(inputs[0]), "weights": weights, "weights_equal": True, **checked},
    )


def _proof(original: Original, weights: int, checked: dict[str, float]) -> list[str]:
    if original.generation == 2:
        return []
    return [
        f"Rebuilt from Keras 3 in tf_keras, which training needs: {weights} arrays of weights are "
        f"equal, the outputs differ by {checked['largest_difference']:.2g} at most (the largest is "
        f"{checked['largest_output']:.3g})."
    ]


def _compute_in_float32(original: Original) -> None:
    """Mixed precision keeps its weights in float32; so does what is deployed."""
    for layer in original.model._flatten_layers():
        if layer.dtype_policy.name.startswith("mixed_"):
            layer.dtype_policy = "float32"


def _packer(original: Original) -> Callable[[Any, list[Any]], Any]:
    """Puts flat inputs into the structure that the author gave the model."""
    if original.generation == 3:
        import keras

        return lambda graph, rows: keras.tree.pack_sequence_as(graph._inputs_struct, rows)
    import tensorflow as tf

    return lambda graph, rows: tf.nest.pack_sequence_as(graph._nested_inputs, rows)


class _Builder:
    """Makes one layer of tf_keras for each of the original's, and remembers which is which."""

    def __init__(self, original: Original) -> None:
        self._original = original
        self._names = Names()
        self._made: dict[int, Callable[..., Any]] = {}
        self._frozen = 0
        self._left_out: list[str] = []
        self.pairs: list[tuple[Any, Any]] = []

    def build(self) -> Any:
        import tf_keras

        model = self._original.model
        graph = inner_model(model)
        assert graph is not None
        inputs = inputs_like(graph, self._names)
        outputs = replay(graph, inputs, self._make)
        return tf_keras.Model(
            inputs if len(inputs) > 1 else inputs[0],
            outputs if len(outputs) > 1 else outputs[0],
            name=model.name,
        )

    def notes(self) -> list[str]:
        """What a user should know of the difference between the file and what is trained."""
        found = []
        if self._frozen:
            found.append(
                f"Layers that were frozen in the file and are trained too: {self._frozen}."
            )
        if self._left_out:
            found.append(f"Left out of training: {', '.join(self._left_out)}.")
        if self._original.mixed:
            found.append("The model computes in mixed precision; it is trained in float32.")
        return found

    def _make(self, layer: Any, frozen: bool) -> Callable[..., Any]:
        kind = type(layer).__name__
        if id(layer) not in self._made:
            self._made[id(layer)] = self._new(layer, frozen)
        made = self._made[id(layer)]
        if frozen and kind in _DROPOUTS:
            return _let_through
        return made

    def _new(self, layer: Any, frozen: bool) -> Callable[..., Any]:
        kind = type(layer).__name__
        if kind == "SpectralNormalization":  # it has normalized the layer's own kernel
            self._left_out.append(f"{layer.name} ({kind})")
            return self._new(layer.layer, frozen)
        if self._original.generation == 2:
            config = plain_dtypes(layer.get_config())
            config["name"], config["trainable"] = self._names.claim(layer.name), True
            made, last = type(layer).from_config(config), None
        elif not hasattr(layer, "get_weights"):
            return tf_keras_operation(
                layer, lambda role: self._names.claim(layer.name, f"{layer.name}_{role}")
            )
        elif kind in _AUGMENTATIONS:
            self._left_out.append(f"{layer.name} ({kind})")
            return _let_through
        else:
            name = self._names.claim(layer.name)
            made, last = tf_keras_layer(
                layer, name, lambda role: self._names.claim(f"{layer.name}_{role}")
            )
        self._remember(layer, made, frozen)
        return made if last is None else lambda *args, **kwargs: last(made(*args, **kwargs))

    def _remember(self, layer: Any, made: Any, frozen: bool) -> None:
        if layer.weights and type(layer).__name__ != "Normalization":
            self.pairs.append((layer, made))
        still = frozen or not layer.trainable
        if type(layer).__name__ == "BatchNormalization":
            made.trainable = not still  # in tf_keras it then keeps its statistics, as it did
        elif still and layer.weights:
            self._frozen += 1


def _let_through(x: Any, **_: Any) -> Any:
    return x
