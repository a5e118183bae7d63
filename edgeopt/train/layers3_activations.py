"""Activations of Keras 3 in tf_keras: by the same name, or as layers of their own behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["COMMON", "after", "hard_sigmoid", "hard_silu", "name_of"]

# Keras 3's name: tf_keras' name of the same function (hard_sigmoid is another function there).
COMMON = {
    **{n: n for n in ("linear", "relu", "sigmoid", "tanh", "softmax", "elu", "selu", "softplus",
                      "softsign", "gelu", "exponential", "mish")},
    "silu": "swish",
    "swish": "swish",
}  # fmt: skip

Tensor = Any


def name_of(activation: Any) -> str:
    """The name of a function of keras.activations; "" for a layer or a user's own function."""
    module = str(getattr(activation, "__module__", ""))
    name = getattr(activation, "__name__", "")
    return str(name) if module.startswith("keras.") and isinstance(name, str) else ""


def after(name: str, claim: Callable[[str], str]) -> Callable[[Tensor], Tensor] | None:
    """What to call behind a linear layer for an activation that tf_keras has no name for; None when
    there is nothing. The formulas are those of keras.activations."""
    import tensorflow as tf
    import tf_keras

    layers = tf_keras.layers
    made: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
        "relu6": lambda: layers.ReLU(6.0, name=claim("relu6")),
        "leaky_relu": lambda: layers.LeakyReLU(0.2, name=claim("leaky_relu")),
        "hard_sigmoid": lambda: hard_sigmoid(claim),
        "hard_silu": lambda: hard_silu(claim),
        "hard_swish": lambda: hard_silu(claim),
        "log_softmax": lambda: tf.nn.log_softmax,
        "log_sigmoid": lambda: tf.math.log_sigmoid,
        "hard_tanh": lambda: lambda x: tf.clip_by_value(x, -1.0, 1.0),
    }
    return made[name]() if name in made else None


def hard_sigmoid(claim: Callable[[str], str]) -> Callable[[Tensor], Tensor]:
    """relu6(x + 3) / 6."""
    import tf_keras

    layers = tf_keras.layers
    steps = (
        layers.Rescaling(1.0, 3.0, name=claim("plus_3")),
        layers.ReLU(6.0, name=claim("relu6")),
        layers.Rescaling(1 / 6, name=claim("sixth")),
    )

    def call(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return call


def hard_silu(claim: Callable[[str], str]) -> Callable[[Tensor], Tensor]:
    """x * relu6(x + 3) / 6."""
    import tf_keras

    gate = hard_sigmoid(claim)
    multiply = tf_keras.layers.Multiply(name=claim("gated"))
    return lambda x: multiply([x, gate(x)])
