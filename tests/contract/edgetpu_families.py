"""Keras models of the families that people put on an Edge TPU, with random weights.

Run as a program: `edgetpu_families.py FOLDER NAME[:OPTION=VALUE,...] ...` writes NAME.keras for
each, and NAME.npz with seeded samples `x` and the first output `y`. Options change a size:
`unet:size=64,width=8`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["FAMILIES", "main"]

_SAMPLES = 8
_SLOPE = 0.1


def unet(*, size: int = 128, width: int = 32, depth: int = 4, up: str = "nearest") -> Any:
    """Ronneberger et al. 2015, with padded convolutions; `up` is how its second half grows."""
    from keras import Input, Model, layers

    def block(x: Any, filters: int) -> Any:
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        return x

    def grown(x: Any, filters: int) -> Any:
        if up == "transpose":
            return layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
        x = layers.UpSampling2D(2, interpolation=up)(x)
        return layers.Conv2D(filters, 2, padding="same")(x)

    given = Input((size, size, 3), name="image")
    x, kept = given, []
    for level in range(depth):
        x = block(x, width << level)
        kept.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = block(x, width << depth)
    for level in reversed(range(depth)):
        x = layers.Concatenate()([grown(x, width << level), kept[level]])
        x = block(x, width << level)
    return Model(given, layers.Conv2D(1, 1, activation="sigmoid", name="mask")(x))


def tiny_yolo(*, size: int = 416, width: int = 16, classes: int = 20, act: str = "leaky") -> Any:
    """YOLOv3-tiny's form: a chain that halves five times, two heads, one of them after a resize."""
    from keras import Input, Model, layers

    def convolve(x: Any, filters: int, kernel: int = 3) -> Any:
        x = layers.Conv2D(filters, kernel, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        return layers.ReLU(6.0)(x) if act == "relu6" else layers.LeakyReLU(_SLOPE)(x)

    def head(x: Any, filters: int, name: str) -> Any:
        x = layers.Conv2D(3 * (5 + classes), 1)(convolve(x, filters))
        return layers.Activation("sigmoid", name=name)(x)

    given = Input((size, size, 3), name="image")
    x = given
    for level in range(5):
        fine = convolve(x, width << level)
        x = layers.MaxPooling2D(2)(fine)
    x = convolve(convolve(x, width << 6), width << 4, 1)
    coarse = head(x, width << 5, "coarse")
    x = layers.UpSampling2D(2)(convolve(x, width << 3, 1))
    x = layers.Concatenate()([x, fine])
    return Model(given, [coarse, head(x, width << 4, "fine")])


def _recurrent(layer: str, steps: int, features: int, units: int, both: bool, more: Any) -> Any:
    from keras import Input, Model, layers

    given = Input((steps, features), name="frames")
    one = getattr(layers, layer)(units, **more)
    x = layers.Bidirectional(one)(given) if both else one(given)
    return Model(given, layers.Dense(10, activation="softmax")(x))


def lstm(
    *, steps: int = 28, features: int = 28, units: int = 20, both: int = 0, unroll: int = 0
) -> Any:
    """A row of an image a step, as in TensorFlow's own example for MNIST."""
    return _recurrent("LSTM", steps, features, units, bool(both), {"unroll": bool(unroll)})


def gru(
    *, steps: int = 28, features: int = 28, units: int = 20, both: int = 0, unroll: int = 0
) -> Any:
    """The same with gated recurrent units, which have no operation of their own."""
    return _recurrent("GRU", steps, features, units, bool(both), {"unroll": bool(unroll)})


def _zoo(name: str, **fixed: float) -> Callable[..., Any]:
    def make(**options: Any) -> Any:
        from edgeopt.zoo import images

        return getattr(images, name)(**{"classes": 1000, **fixed, **options})

    return make


FAMILIES: dict[str, Callable[..., Any]] = {
    "unet": unet,
    "tiny_yolo": tiny_yolo,
    "lstm": lstm,
    "gru": gru,
    "mobilenet_v1": _zoo("mobilenet_v1", size=224, alpha=1.0),
    "mobilenet_v2": _zoo("mobilenet_v2", size=224, alpha=1.0),
    "inception_v3": _zoo("inception_v3", size=299),
    "resnet_v2_101": _zoo("resnet_v2_101", size=299),
}


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _settle(model: Any, noise: Any) -> None:
    """Normalizations learn the statistics of noise: else the signal of deep models fades away."""
    import keras

    norms = [x for x in model._flatten_layers() if isinstance(x, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    if norms:
        model([noise], training=True)


def main() -> None:
    import keras
    import numpy as np

    folder = Path(sys.argv[1])
    for wanted in sys.argv[2:]:
        label, _, rest = wanted.partition(":")
        options = {k: _value(v) for k, _, v in (p.partition("=") for p in rest.split(",") if p)}
        name = options.pop("name", label)
        keras.utils.set_random_seed(1)
        model = FAMILIES[label](**options)
        shape = model.inputs[0].shape[1:]
        noise = np.random.default_rng(1).uniform(-1, 1, (_SAMPLES, *shape)).astype(np.float32)
        _settle(model, noise[:2])
        model.save(folder / f"{name}.keras")
        answers = model([noise], training=False)
        first = answers[0] if isinstance(answers, list) else answers
        np.savez(folder / f"{name}.npz", x=noise, y=first.numpy())
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
