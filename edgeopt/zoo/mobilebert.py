"""MobileBERT for question answering, from Sun et al. 2020."""

from __future__ import annotations

from typing import Any

__all__ = ["mobilebert"]

# Sun et al. 2020, table 1, the column MobileBERT.
_EMBEDDING, _HIDDEN, _BOTTLENECK, _HEADS, _STACKED = 128, 512, 128, 4, 4
_POSITIONS, _TYPES = 512, 2
# What a masked word's attention score loses. BERT takes away 10000, which leaves no 8-bit steps
# for the scores themselves; exp(-64) is 0 in float32's last digit all the same.
_MASKED = 64.0


def mobilebert(*, length: int, layers: int, vocabulary: int) -> Any:
    """Inputs input_ids, attention_mask (1: a word, 0: padding) and token_type_ids, (length,) of
    int32 each; outputs start_logits and end_logits, (length,) each.

    NoNorm (equation 1 of the paper) is a learned scale and offset a channel: a batch normalization
    whose statistics stay 0 and 1.
    """
    import keras

    make = keras.layers
    words = keras.Input((length,), dtype="int32", name="input_ids")
    mask = keras.Input((length,), dtype="int32", name="attention_mask")
    types = keras.Input((length,), dtype="int32", name="token_type_ids")
    x = _embedded(words, types, length, vocabulary)
    real = make.Reshape((1, 1, length))(_table(2, 1, "attention_scores", _lost)(mask))
    for number in range(layers):
        x = _layer(x, real, length, f"layer_{number}")
    spans = make.Dense(2, name="qa_outputs")(x)
    start = make.Reshape((length,), name="start_logits")(spans[:, :, :1])
    end = make.Reshape((length,), name="end_logits")(spans[:, :, 1:])
    return keras.Model([words, mask, types], [start, end], name="mobilebert")


def _lost(shape: Any, dtype: Any = None) -> Any:
    """What a word's attention score gains: of padding, which is 0, less than nothing."""
    import numpy as np

    return np.asarray([[-_MASKED], [0.0]], np.float32)


def _table(rows: int, width: int, name: str, start: Any = "uniform") -> Any:
    """An embedding that is one GATHER. Keras's own wraps negative indices first, and TensorFlow's
    converter finds no int16x8 form of that."""
    import keras
    import tensorflow as tf

    class Table(keras.layers.Embedding):  # type: ignore[misc, unused-ignore]
        def call(self, inputs: Any) -> Any:
            return tf.gather(tf.convert_to_tensor(self.embeddings), inputs)

    return Table(rows, width, embeddings_initializer=start, trainable=start == "uniform", name=name)


def _no_norm(x: Any, name: str) -> Any:
    import keras

    return keras.layers.BatchNormalization(epsilon=1e-12, name=name)(x)


def _embedded(words: Any, types: Any, length: int, vocabulary: int) -> Any:
    """Each word with its two neighbours (section 3.1), its place and its side of the question."""
    import keras

    make = keras.layers
    word = _table(vocabulary, _EMBEDDING, "word_embeddings")(words)
    after = make.ZeroPadding1D((0, 1))(make.Cropping1D((1, 0))(word))
    before = make.ZeroPadding1D((1, 0))(make.Cropping1D((0, 1))(word))
    x = make.Concatenate()([after, word, before])
    x = make.Dense(_HIDDEN, name="embedding_transformation")(x)
    places = _table(_POSITIONS, _HIDDEN, "position_embeddings")
    place = places(keras.ops.expand_dims(keras.ops.arange(length, dtype="int32"), 0))
    side = _table(_TYPES, _HIDDEN, "token_type_embeddings")(types)
    return _no_norm(make.Add()([make.Add()([x, place]), side]), "embeddings_norm")


def _layer(x: Any, real: Any, length: int, name: str) -> Any:
    """One block of figure 1(c): a bottleneck, attention, four feed-forward networks, and back."""
    import keras

    make = keras.layers

    def dense(x: Any, units: int, part: str, activation: str | None = None) -> Any:
        return make.Dense(units, activation=activation, name=f"{name}_{part}")(x)

    def added(x: Any, beside: Any, part: str) -> Any:
        return _no_norm(make.Add()([x, beside]), f"{name}_{part}_norm")

    inner = _no_norm(dense(x, _BOTTLENECK, "bottleneck_input"), f"{name}_bottleneck_input_norm")
    shared = _no_norm(
        dense(x, _BOTTLENECK, "bottleneck_attention"), f"{name}_bottleneck_attention_norm"
    )
    found = _attention(
        dense(shared, _BOTTLENECK, "query"),
        dense(shared, _BOTTLENECK, "key"),
        dense(x, _BOTTLENECK, "value"),
        real,
        length,
    )
    y = added(dense(found, _BOTTLENECK, "attention_output"), inner, "attention_output")
    for number in range(_STACKED):
        wide = dense(y, 4 * _BOTTLENECK, f"ffn_{number}_intermediate", "relu")
        y = added(dense(wide, _BOTTLENECK, f"ffn_{number}_output"), y, f"ffn_{number}_output")
    return added(dense(y, _HIDDEN, "bottleneck_output"), x, "bottleneck_output")


def _attention(query: Any, key: Any, value: Any, real: Any, length: int) -> Any:
    """Scaled dot products of each head (Vaswani et al. 2017, equation 1), padding left out."""
    import keras

    make, depth = keras.layers, _BOTTLENECK // _HEADS

    def heads(x: Any, order: tuple[int, int, int]) -> Any:
        return make.Permute(order)(make.Reshape((length, _HEADS, depth))(x))

    scores = keras.ops.matmul(heads(query, (2, 1, 3)), heads(key, (2, 3, 1)))
    scores = make.Add()([make.Rescaling(depth**-0.5)(scores), real])
    weighed = keras.ops.matmul(make.Softmax()(scores), heads(value, (2, 1, 3)))
    return make.Reshape((length, _BOTTLENECK))(make.Permute((2, 1, 3))(weighed))
