"""Features of the networks of coral.ai's benchmark table whose architecture is known for certain.

    python benchmarks/edgetpu_networks.py FOLDER

Builds each with Keras where FOLDER does not hold it yet (a few minutes and 3 GB of memory; random
weights: only shapes count), counts its work with the estimator's own code, and writes
benchmarks/edgetpu_networks.toml, which benchmarks/estimate.py fits to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from edgeopt.estimate.features import of_work  # noqa: E402
from edgeopt.estimate.work import elements, work_of  # noqa: E402
from edgeopt.model import read  # noqa: E402

# Filters of Szegedy et al. 2014, table 1: 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, pool.
EARLY = ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64))
MIDDLE = (
    (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128),
)  # fmt: skip
LATE = ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128))


def inception_v1() -> Any:
    """GoogLeNet as TF-slim trained it: 3x3 in place of 5x5, 1001 classes."""
    import keras
    from keras import layers

    def conv(x: Any, filters: int, size: int, stride: int = 1) -> Any:
        return layers.ReLU()(layers.Conv2D(filters, size, strides=stride, padding="same")(x))

    def pool(x: Any, size: int, stride: int) -> Any:
        return layers.MaxPooling2D(size, stride, "same")(x)

    def module(x: Any, a: int, b0: int, b: int, c0: int, c: int, d: int) -> Any:
        ways = [conv(x, a, 1), conv(conv(x, b0, 1), b, 3), conv(conv(x, c0, 1), c, 3)]
        return layers.Concatenate()([*ways, conv(pool(x, 3, 1), d, 1)])

    image = keras.Input((224, 224, 3), batch_size=1)
    x = conv(pool(conv(image, 64, 7, 2), 3, 2), 64, 1)
    x = pool(conv(x, 192, 3), 3, 2)
    for size, group in ((3, EARLY), (2, MIDDLE), (0, LATE)):
        for filters in group:
            x = module(x, *filters)
        x = pool(x, size, 2) if size else x
    x = layers.Conv2D(1001, 1)(layers.AveragePooling2D(7)(x))
    return keras.Model(image, layers.Softmax()(layers.Flatten()(x)))


def application(name: str, size: int) -> Callable[[], Any]:
    def build() -> Any:
        import keras

        image = keras.Input((size, size, 3), batch_size=1)
        return getattr(keras.applications, name)(weights=None, input_tensor=image)

    return build


# Left out: MobileNet SSDs, DeepLab, U-Net, SqueezeNet and EfficientNet-EdgeTpu, of which the exact
# variant is not told; Inception v4; and Inception-ResNet V2, whose 57 ms are too few for the 50 MB
# that this architecture streams (VGG16's 296 ms allow no host more than 0.47 GB/s).
NETWORKS: dict[str, Callable[[], Any]] = {
    "Inception v1": inception_v1,
    "MobileNet v2": application("MobileNetV2", 224),
    "DenseNet": application("DenseNet121", 224),
    "ResNet-50 V2": application("ResNet50V2", 299),
    "ResNet-152 V2": application("ResNet152V2", 299),
    "VGG16": application("VGG16", 224),
    "VGG19": application("VGG19", 224),
}


def built(name: str, folder: Path) -> Path:
    """The network as a .tflite with weights of one byte, for small files."""
    path = folder / f"{name.replace(' ', '_')}.tflite"
    if not path.exists():
        import tensorflow as tf

        converter = tf.lite.TFLiteConverter.from_keras_model(NETWORKS[name]())
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        path.write_bytes(converter.convert())
    return path


def features(path: Path) -> dict[str, int]:
    """As if every operation were mapped, as the table's classifiers are."""
    facts = read(path)
    work = [work_of(op) for op in facts.operators() if op.op not in ("QUANTIZE", "DEQUANTIZE")]
    sides = (sum(elements(t.shape) for t in side) for side in (facts.inputs, facts.outputs))
    found = of_work(work, inputs=next(sides), outputs=next(sides))
    names = ("macs", "reads", "values", "operations", "streamed", "inputs", "outputs")
    sums = {name: getattr(found, name) for name in names}
    return {**sums, "plain_macs": sum(w.plain_macs for w in work)}


def main() -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    lines = ["# Written by benchmarks/edgetpu_networks.py: do not edit."]
    for name in NETWORKS:
        counted = features(built(name, folder))
        lines += ["", "[[network]]", f'name = "{name}"']
        lines += [f"{key} = {value}" for key, value in counted.items()]
        print(name, counted)
    Path(__file__).with_suffix(".toml").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
