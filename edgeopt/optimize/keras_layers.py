"""Keras 3 layers written so that TensorFlow's converter sees operations of TensorFlow 2.5's time.

Keras 3 exports a recurrent layer as a loop and a nearest resize as tiles: int8 stops at the first,
and the Edge TPU has neither, nor LEAKY_RELU. The same values come out of
UNIDIRECTIONAL_SEQUENCE_LSTM (which the converter makes of a function marked as a Keras 2 LSTM:
tensorflow/compiler/mlir/lite/utils/lstm_utils.cc), of a loop unrolled, of RESIZE_NEAREST_NEIGHBOR
and of PRELU. Runs beside TensorFlow, in the converting child; it changes the loaded model and no
file.
"""

from __future__ import annotations

from functools import partial
from typing import Any

__all__ = ["write_plainly"]


def write_plainly(model: Any) -> None:
    """Give each layer of the Keras 3 `model` the form that maps, where it has one."""
    import keras

    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.UpSampling2D):
            _resize(layer)
        elif isinstance(layer, keras.layers.LeakyReLU):
            layer.call = partial(_prelu, float(layer.negative_slope))
        elif isinstance(layer, keras.layers.LSTM) and _fusible(layer):
            layer.inner_loop = partial(_lstm, layer)
        elif isinstance(layer, keras.layers.RNN):
            layer.unroll = True


def _resize(layer: Any) -> None:
    """Repeating whole rows and columns is a nearest resize by a whole factor, value for value."""
    if layer.interpolation != "nearest" or layer.data_format != "channels_last":
        return
    import tensorflow as tf

    def call(inputs: Any) -> Any:
        height, width = inputs.shape[1] * layer.size[0], inputs.shape[2] * layer.size[1]
        return tf.compat.v1.image.resize_nearest_neighbor(inputs, (height, width))

    layer.call = call


def _prelu(slope: float, inputs: Any) -> Any:
    """As the sum that the converter knows for PRELU, with one slope a channel."""
    import tensorflow as tf

    slopes = tf.fill([1] * (len(inputs.shape) - 2) + [inputs.shape[-1]], tf.constant(slope))
    return tf.nn.relu(inputs) + -slopes * tf.nn.relu(-inputs)


def _fusible(layer: Any) -> bool:
    """Whether the operation has all that the layer asks for: its activations, and a bias. (That the
    loop is to be unrolled is no wish for another result, and hundreds of operations do not map.)"""
    import keras

    return (
        layer.activation is keras.activations.tanh
        and layer.recurrent_activation is keras.activations.sigmoid
        and layer.use_bias
        and not layer.stateful
    )


def _lstm(layer: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
    """In place of `LSTM.inner_loop`: the last output, all outputs, and the states.

    Shapes: `sequences` (batch, steps, features), each state (batch, units).
    """
    import tensorflow as tf

    if mask is not None:
        from keras.layers import RNN

        layer.unroll = True
        return RNN.inner_loop(layer, sequences, initial_state, mask, training)
    marks = {
        "api_implements": f"lstm_{layer.name}",
        "time_major": False,
        "go_backwards": bool(layer.go_backwards),
    }
    loop = tf.function(
        partial(_loop, layer.go_backwards), autograph=False, experimental_attributes=marks
    )
    cell = layer.cell
    weights = [tf.convert_to_tensor(w) for w in (cell.kernel, cell.recurrent_kernel, cell.bias)]
    last, outputs, hidden, carry, _ = loop(sequences, *initial_state, *weights)
    outputs = outputs if layer.return_sequences else tf.expand_dims(last, 1)
    return last, outputs, [hidden, carry]


def _loop(
    backwards: bool, inputs: Any, hidden: Any, carry: Any, kernel: Any, recurrent: Any, bias: Any
) -> Any:
    """Keras's LSTM equations; arguments and results in the order that the converter expects of its
    own Keras (inputs, states, weights; last output, outputs, states, a number)."""
    import tensorflow as tf

    frames = tf.transpose(inputs, [1, 0, 2])
    frames = tf.reverse(frames, [0]) if backwards else frames
    steps = inputs.shape[1]

    def step(index: Any, h: Any, c: Any, made: Any) -> Any:
        gates = tf.matmul(frames[index], kernel) + tf.matmul(h, recurrent) + bias
        take, forget, new, show = tf.split(gates, 4, axis=-1)
        c = tf.sigmoid(forget) * c + tf.sigmoid(take) * tf.tanh(new)
        h = tf.sigmoid(show) * tf.tanh(c)
        return index + 1, h, c, made.write(index, h)

    made = tf.TensorArray(inputs.dtype, size=steps, element_shape=hidden.shape)
    start = (tf.constant(0), hidden, carry, made)
    _, h, c, made = tf.while_loop(lambda index, *_: index < steps, step, start)
    return h, tf.transpose(made.stack(), [1, 0, 2]), h, c, tf.constant(0.0)
