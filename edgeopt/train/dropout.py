"""Dropout whose noise is a function of the seed, the layer and the training step.

tf_keras draws it from generators that count on inside compiled functions, so that a training that
was resumed would go on with other noise. For the child that holds TensorFlow.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

__all__ = ["SteadyDropout"]


class SteadyDropout(tf_keras.layers.Layer):  # type: ignore[misc]
    """Drops as the Dropout or SpatialDropout layer does in whose place it is. `axes` are those
    along which the noise is the same."""

    def __init__(self, rate: float, axes: list[int], noise: list[int | None] | None,
                 **named: Any) -> None:  # fmt: skip
        super().__init__(**named)
        self.rate, self.axes, self.noise = rate, axes, noise
        self.supports_masking = True
        self._key = zlib.crc32(self.name.encode()) & 0x7FFFFFFF
        self._now: Callable[[], Any] = int

    @classmethod
    def instead(cls, layer: Any) -> Any:
        """For clone_model: a copy of `layer`, a steady one where it is dropout."""
        kinds = tf_keras.layers
        axes = {
            kinds.Dropout: [],
            kinds.SpatialDropout1D: [1],
            kinds.SpatialDropout2D: [1, 2],
            kinds.SpatialDropout3D: [1, 2, 3],
        }.get(type(layer))
        if axes is None or getattr(layer, "data_format", "") == "channels_first":
            return type(layer).from_config(layer.get_config())
        noise = layer.noise_shape if not axes else None
        return cls(layer.rate, axes, noise, name=layer.name)

    @classmethod
    def follow(cls, model: Any, step: Any) -> None:
        """Let the layers of `model` read the step's number from the variable `step`."""
        for layer in model.layers:
            inner = getattr(layer, "layer", layer)
            if isinstance(inner, cls):
                inner._now = lambda: step

    def call(self, inputs: Any, training: Any = None) -> Any:
        if training is None:
            training = tf_keras.backend.learning_phase()
        if not training or not self.rate:
            return tf.identity(inputs)
        shape = tf.shape(inputs)
        size = self.noise or [1 if axis in self.axes else None for axis in range(inputs.shape.rank)]
        noise = [shape[axis] if n is None else n for axis, n in enumerate(size)]
        return tf.nn.experimental.stateless_dropout(
            inputs, self.rate, seed=tf.stack([self._key, self._now()]), noise_shape=noise
        )

    def get_config(self) -> dict[str, Any]:
        own = {"rate": self.rate, "axes": self.axes, "noise": self.noise}
        return {**super().get_config(), **own}
