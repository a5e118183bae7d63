"""The image classifiers of the published table, as keras.applications defines them."""

from __future__ import annotations

from typing import Any

__all__ = ["inception_v3", "mobilenet_v1", "mobilenet_v2", "resnet_v2_101"]


def _input(size: int) -> Any:
    import keras

    return keras.Input((size, size, 3), name="image")


def mobilenet_v1(*, size: int, alpha: float, classes: int) -> Any:
    """Howard et al. 2017: 4.25 million parameters at alpha 1 and 1000 classes."""
    import keras

    return keras.applications.MobileNet(
        input_tensor=_input(size), alpha=alpha, classes=classes, weights=None
    )


def mobilenet_v2(*, size: int, alpha: float, classes: int) -> Any:
    """Sandler et al. 2018: 3.54 million parameters at alpha 1 and 1000 classes."""
    import keras

    return keras.applications.MobileNetV2(
        input_tensor=_input(size), alpha=alpha, classes=classes, weights=None
    )


def inception_v3(*, size: int, classes: int) -> Any:
    """Szegedy et al. 2015: 23.9 million parameters at 1000 classes."""
    import keras

    return keras.applications.InceptionV3(input_tensor=_input(size), classes=classes, weights=None)


def resnet_v2_101(*, size: int, classes: int) -> Any:
    """He et al. 2016: 44.7 million parameters at 1000 classes."""
    import keras

    return keras.applications.ResNet101V2(input_tensor=_input(size), classes=classes, weights=None)
