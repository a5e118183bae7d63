"""YOLOv3 with Darknet-53, from Redmon and Farhadi 2018."""

from __future__ import annotations

from typing import Any

__all__ = ["yolo_v3"]

_SLOPE = 0.1  # of the negative side, in every convolution of Darknet
_BLOCKS = (1, 2, 8, 8, 4)  # Darknet-53: residual blocks after each halving (table 1)
_ANCHORS = 3  # boxes a cell and scale (section 2.3)


def yolo_v3(*, size: int, classes: int, width: int) -> Any:
    """Input (size, size, 3) of 0..1. Three outputs (size / s, size / s, 3 * (5 + classes)) for
    s = 32, 16, 8: raw x, y, width, height, objectness and class scores of three boxes a cell.

    `width` is the number of filters of the first convolution (32 in the paper).
    """
    import keras

    layers = keras.layers

    def convolve(x: Any, filters: int, kernel: int, stride: int = 1) -> Any:
        if stride > 1:  # Darknet pads above and left
            x = layers.ZeroPadding2D(((1, 0), (1, 0)))(x)
        padding = "same" if stride == 1 else "valid"
        x = layers.Conv2D(filters, kernel, stride, padding=padding, use_bias=False)(x)
        return layers.LeakyReLU(negative_slope=_SLOPE)(layers.BatchNormalization()(x))

    def neck(x: Any, filters: int) -> Any:
        for kernel, scale in ((1, 1), (3, 2), (1, 1), (3, 2), (1, 1)):
            x = convolve(x, filters * scale, kernel)
        return x

    def head(x: Any, filters: int, name: str) -> Any:
        x = convolve(x, filters * 2, 3)
        return layers.Conv2D(_ANCHORS * (5 + classes), 1, name=name)(x)

    def upward(x: Any, filters: int, beside: Any) -> Any:
        x = layers.UpSampling2D(2)(convolve(x, filters, 1))
        return layers.Concatenate()([x, beside])

    given = keras.Input((size, size, 3), name="image")
    x, stages, filters = convolve(given, width, 3), [], width
    for blocks in _BLOCKS:
        filters *= 2
        x = convolve(x, filters, 3, 2)
        for _ in range(blocks):
            x = layers.Add()([x, convolve(convolve(x, filters // 2, 1), filters, 3)])
        stages.append(x)
    large = neck(stages[4], filters // 2)
    middle = neck(upward(large, filters // 4, stages[3]), filters // 4)
    small = neck(upward(middle, filters // 8, stages[2]), filters // 8)
    outputs = [
        head(large, filters // 2, "large"),
        head(middle, filters // 4, "medium"),
        head(small, filters // 8, "small"),
    ]
    return keras.Model(given, outputs, name="yolo_v3")
