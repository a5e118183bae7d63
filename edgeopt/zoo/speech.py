"""Wav2letter and DeepSpeech, from their papers, in layers that convert to integers whole."""

from __future__ import annotations

from typing import Any

__all__ = ["deepspeech", "wav2letter"]

_SLOPE = 0.2  # of the negative side, as in the published TensorFlow Lite model of Wav2letter
_CEILING = 20.0  # Hannun et al. 2014, section 2: min(max(0, z), 20)


def wav2letter(*, frames: int, features: int, narrow: int, wide: int, classes: int) -> Any:
    """Collobert et al. 2016, table 1 with MFCC input: convolutions along time, the first over 48
    frames in steps of 2, seven over 7, one over 32, then two over one frame.

    Input (frames, features), output (frames / 2, classes): letter scores after a softmax. A
    convolution along time is one over an image that is 1 high: TensorFlow Lite has no other.
    """
    import keras

    layers = keras.layers

    def along_time(x: Any, filters: int, kernel: int, stride: int = 1) -> Any:
        x = layers.Conv2D(filters, (1, kernel), (1, stride), padding="same")(x)
        return layers.LeakyReLU(negative_slope=_SLOPE)(x)

    given = keras.Input((frames, features), name="features")
    x = layers.Reshape((1, frames, features))(given)
    x = along_time(x, narrow, 48, 2)
    for _ in range(7):
        x = along_time(x, narrow, 7)
    x = along_time(x, wide, 32)
    x = along_time(x, wide, 1)
    x = layers.Conv2D(classes, 1)(x)
    x = layers.Reshape((x.shape[2], classes))(x)
    return keras.Model(given, layers.Softmax(name="letters")(x), name="wav2letter")


def deepspeech(*, frames: int, features: int, units: int, classes: int) -> Any:
    """Hannun et al. 2014 with the LSTM of Mozilla's DeepSpeech: three clipped dense layers on each
    frame with its neighbours, a recurrent layer forward in time, one more, then letter scores.

    Input (frames, features), output (frames, classes). The recurrence is unrolled and begins at
    zero, so that the graph has neither loops nor state.
    """
    import keras

    layers = keras.layers

    def clipped(x: Any) -> Any:
        return layers.ReLU(max_value=_CEILING)(layers.Dense(units)(x))

    given = keras.Input((frames, features), name="features")
    x = clipped(clipped(clipped(given)))
    x = layers.LSTM(units, return_sequences=True, unroll=True)(x)
    x = layers.Dense(classes)(clipped(x))
    return keras.Model(given, layers.Softmax(name="letters")(x), name="deepspeech")
