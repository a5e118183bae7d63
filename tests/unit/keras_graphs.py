"""Keras 3 models of more than one layer: the graphs of keras_cases.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

IMAGE, LINE, WORDS, VECTOR = (8, 8, 4), (6, 4), (5,), (7,)


def wrapped(keras: Any, layers: Any) -> dict[str, Callable[[], Any]]:
    """Layers that wrap others or take several inputs, each by name, not yet built."""

    def line(layer: Any) -> Any:
        i = keras.Input(LINE)
        return keras.Model(i, layer(i))

    def merge(layer: Any, n: int = 3) -> Any:
        several = [keras.Input(LINE, name=f"in_{k}") for k in range(n)]
        return keras.Model(several, layer(several))

    def attention() -> Any:
        i = keras.Input(LINE)
        x = layers.MultiHeadAttention(2, 3, value_dim=5, dropout=0.1)(i, i)
        return keras.Model(i, layers.LayerNormalization()(layers.Add()([i, x])))

    def plain_attention() -> Any:
        q, v = keras.Input(LINE, name="q"), keras.Input(LINE, name="v")
        x = layers.Attention(use_scale=True)([q, v])
        return keras.Model([q, v], layers.AdditiveAttention()([x, v]))

    def both_ways() -> Any:
        back = layers.GRU(3, go_backwards=True)
        return line(layers.Bidirectional(layers.GRU(3), merge_mode="sum", backward_layer=back))

    def cells() -> Any:
        return line(layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]))

    return {
        "time_distributed": lambda: line(layers.TimeDistributed(layers.Dense(3))),
        "bidirectional": lambda: line(layers.Bidirectional(layers.LSTM(3, return_sequences=True))),
        "bidirectional_sum": both_ways,
        "rnn_of_cells": cells,
        "spectral": lambda: line(layers.SpectralNormalization(layers.Conv1D(3, 2))),
        "attention": attention,
        "plain_attention": plain_attention,
        **{k: (lambda k=k: merge(getattr(layers, k)())) for k in
           ("Add", "Multiply", "Average", "Maximum", "Minimum")},
        "Subtract": lambda: merge(layers.Subtract(), 2),
        "Dot": lambda: merge(layers.Dot(axes=2, normalize=True), 2),
        "Concatenate": lambda: merge(layers.Concatenate(axis=1)),
    }  # fmt: skip


def graphs(keras: Any, layers: Any) -> dict[str, Callable[[], Any]]:
    """Whole models by their form: nested, frozen, shared, with several ends, and published ones."""

    def base() -> Any:
        i = keras.Input(IMAGE)
        x = layers.BatchNormalization(name="bn")(layers.Conv2D(5, 3, name="conv")(i))
        return keras.Model(i, layers.ReLU()(x), name="backbone")

    def nested() -> Any:
        inner = base()
        head = keras.Sequential([keras.Input((6, 6, 5)), layers.Flatten(), layers.Dense(4)])
        i = keras.Input(IMAGE, name="image")
        return keras.Model(i, layers.Softmax()(head(inner(layers.Conv2D(4, 1, name="conv")(i)))))

    def frozen() -> Any:
        inner = base()
        inner.trainable = False
        i = keras.Input(IMAGE)
        x = layers.Dropout(0.5)(inner(i, training=False))
        return keras.Model(i, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))

    def shared() -> Any:
        inner, dense = base(), layers.Dense(3, activation="relu6")
        a, b = keras.Input(IMAGE, name="zeta"), keras.Input(IMAGE, name="alpha")
        x, y = dense(inner(a)), dense(inner(b))
        return keras.Model([a, b], [layers.Subtract()([x, y]), x, dense(inner(a))])

    def structured() -> Any:
        ins = {"b": keras.Input(VECTOR, name="b"), "a": keras.Input(WORDS, name="a", dtype="int32")}
        words = layers.GlobalAveragePooling1D()(layers.Embedding(9, 7, mask_zero=True)(ins["a"]))
        x = layers.Add()([ins["b"], words])
        return keras.Model(ins, {"z": layers.Dense(2)(x), "y": [layers.Dense(3)(x)]})

    def fixed_batch() -> Any:
        i = keras.Input(batch_shape=(1, *VECTOR))
        return keras.Model(i, layers.Dense(3)(i))

    def sequential() -> Any:
        return keras.Sequential([keras.Input(IMAGE), layers.Conv2D(4, 3, activation="relu"),
                                 layers.Flatten(), layers.Dense(3)])  # fmt: skip

    def mixed() -> Any:
        i = keras.Input(VECTOR)
        x = layers.Dense(9, dtype="mixed_bfloat16", activation="relu")(i)
        return keras.Model(i, layers.Dense(3, dtype="float32")(x))

    def several() -> Any:
        i = keras.Input(VECTOR)
        x = layers.Dense(4, name="one")(i)
        return keras.Model(i, [layers.Dense(5, name="zz")(x), layers.Dense(2, name="aa")(x), x])

    def folding() -> Any:
        i = keras.Input(IMAGE)
        x = i
        for layer in (layers.Conv2D(6, 3, use_bias=False, padding="same", kernel_regularizer="l2"),
                      layers.DepthwiseConv2D(3, depth_multiplier=2), layers.SeparableConv2D(4, 2),
                      layers.Conv2DTranspose(3, 2), layers.Dense(5)):  # fmt: skip
            x = layers.ReLU()(layers.BatchNormalization()(layer(x)))
        x = layers.BatchNormalization(scale=False)(layers.Conv2D(3, 1, activation="relu")(x))
        y = layers.Conv2D(3, 1)(x)  # read twice: must stay as it is
        z = layers.BatchNormalization()(y)
        return keras.Model(i, layers.Add()([y, z]))

    def applications(name: str, side: int, **more: Any) -> Any:
        build = getattr(keras.applications, name)
        return build(weights=None, input_shape=(side, side, 3), classes=10, **more)

    return {
        "nested": nested, "frozen": frozen, "shared": shared, "structured": structured,
        "fixed_batch": fixed_batch, "sequential": sequential, "mixed": mixed, "several": several,
        "folding": folding,
        "mobilenet_v2": lambda: applications("MobileNetV2", 32, alpha=0.35),
        "mobilenet_v3": lambda: applications("MobileNetV3Small", 32, include_preprocessing=True),
        "efficientnet_b0": lambda: applications("EfficientNetB0", 32),
        "resnet50": lambda: applications("ResNet50V2", 32),
    }  # fmt: skip
