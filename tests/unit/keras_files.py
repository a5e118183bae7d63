"""Keras files of every format, and files that must be refused.

Run as a program: `keras_files.py FOLDER [SHARED]` writes them, loads each for training, and prints
a JSON line of what came out. Legacy models are compared with tf_keras' own answers.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
import zipfile
from pathlib import Path
from typing import Any


def write_readable(folder: Path) -> dict[str, Any]:
    """File name: the model in it, for files that can be trained."""
    import keras
    import tf_keras
    from tf_keras import layers

    i = tf_keras.Input((8, 8, 3), name="image")
    x = layers.BatchNormalization(name="bn")(layers.Conv2D(4, 3, name="conv")(i), training=False)
    inner = tf_keras.Model(i, layers.ReLU()(x), name="inner")
    block = tf_keras.Sequential([layers.Flatten(input_shape=(6, 6, 4)), layers.Dense(5)])
    a, b = tf_keras.Input((8, 8, 3), name="zeta"), tf_keras.Input((8, 8, 3), name="alpha")
    x, y = inner(a * 2.0), inner(layers.Conv2D(3, 1, name="conv")(b))
    z = layers.Concatenate()([block(x), block(y)[:, 1:]])
    legacy = tf_keras.Model([a, b], [layers.Softmax()(z), x + y])
    legacy.save(folder / "legacy.h5")
    legacy.save(folder / "legacy_zip.keras")
    legacy.save(folder / "legacy_folder", save_format="tf")
    words = layers.Embedding(9, 4, mask_zero=True, input_length=5)
    both = layers.Bidirectional(layers.LSTM(3))
    recurrent = tf_keras.Sequential([words, both, layers.Dense(2)])
    recurrent.save(folder / "recurrent.h5")
    i = keras.Input((8, 8, 3))
    x = keras.layers.ReLU(6.0)(keras.layers.DepthwiseConv2D(3)(i))
    third = keras.Model(i, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    third.save(folder / "third.h5")
    made = dict.fromkeys(("legacy.h5", "legacy_zip.keras", "legacy_folder"), legacy)
    return made | {"recurrent.h5": recurrent, "third.h5": third}


def write_refused(folder: Path) -> list[str]:
    """Names of files that must be refused."""
    import h5py
    import keras
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot
    import tf_keras
    from tf_keras import layers

    ran = str(folder / "ran")

    def code(v: Any) -> Any:
        return [__import__("pathlib").Path(ran).touch(), v * 2][1]

    i = tf_keras.Input((4,))
    model = tf_keras.Model(i, layers.Lambda(code, name="mine")(layers.Dense(4)(i)))
    model.save(folder / "lambda.h5")
    model.save(folder / "lambda_folder", save_format="tf")
    i3 = keras.Input((4,))
    lambda3 = keras.Model(i3, keras.layers.Lambda(lambda v: v * 2, name="mine")(i3))
    lambda3.save(folder / "lambda.keras")
    Path(ran).unlink(missing_ok=True)

    dense = tf_keras.Sequential([layers.Dense(4, input_shape=(4,), name="first")])
    dense.save_weights(folder / "weights.h5")
    tf.saved_model.save(tf.Module(), str(folder / "module_folder"))
    keras.Model(i3, keras.layers.Dense(3)(i3)).export(folder / "export_folder", verbose=False)
    wrapped = tfmot.sparsity.keras.prune_low_magnitude(dense)
    wrapped.save(folder / "wrapped.h5")

    class Custom(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x * 2

    class Own(layers.Layer):
        def call(self, x: Any) -> Any:
            return x * 2

    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    class Sub2(tf_keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    keras.Model(i3, Custom(name="twice")(i3)).save(folder / "custom.keras")
    own = tf_keras.Model(i, Own(name="twice")(i))
    own.save(folder / "custom_folder", save_format="tf")
    own.save(folder / "custom.h5")
    for made, name in ((Subclassed(), "subclassed.keras"), (Sub2(), "subclassed_folder")):
        made(tf.zeros((1, 4)))
        made.save(folder / name)
    unknown = keras.Model(i3, keras.layers.RMSNormalization(name="rms")(i3))
    unknown.save(folder / "unknown_layer.keras")
    keras.Model(i3, keras.ops.cumsum(i3, axis=1)).save(folder / "unknown_operation.keras")
    odd = keras.layers.LSTM(3, recurrent_activation="hard_sigmoid", name="odd")
    i2 = keras.Input((5, 4))
    keras.Model(i2, odd(i2)).save(folder / "unknown_activation.keras")
    tf_keras.Model(i, tf.abs(i)).save(folder / "reads_files.h5")
    with h5py.File(folder / "reads_files.h5", "r+") as file:
        config = file.attrs["model_config"]
        assert "math.abs" in config
        file.attrs["model_config"] = config.replace("math.abs", "io.read_file")
    (folder / "garbage.h5").write_bytes(b"no model")
    with zipfile.ZipFile(folder / "garbage.keras", "w") as archive:
        archive.writestr("config.json", "{")
    return [p.name for p in sorted(folder.iterdir()) if p.suffix or p.name.endswith("_folder")]


def check(source: Path, model: Any = None) -> dict[str, Any]:
    """What loading `source` for training gives, compared with `model` on fresh inputs."""
    import numpy as np
    import tensorflow as tf

    from edgeopt.errors import EdgeoptError
    from edgeopt.train.rebuild import fold_batch_norm, load_for_training
    from edgeopt.train.rebuilt_check import random_inputs

    answer: dict[str, Any] = {"name": source.name}
    try:
        rebuilt = load_for_training(source)
    except EdgeoptError as error:
        return answer | {"error": type(error).__name__, "text": str(error), "hint": error.hint}
    answer |= {"checked": rebuilt.checked, "notes": list(rebuilt.notes)}
    kinds = [type(layer).__name__ for layer in rebuilt.model.layers]
    folded = fold_batch_norm(rebuilt.model)
    left = [type(layer).__name__ for layer in folded.layers].count("BatchNormalization")
    answer |= {"kinds": kinds, "inputs": rebuilt.model.input_names, "norms_left": left,
               "trainable": [n.name for n in rebuilt.model.layers if not n.trainable]}  # fmt: skip
    if model is not None:
        flat = random_inputs(rebuilt.model, count=3, seed=7)
        given = flat if len(flat) > 1 else flat[0]
        wanted = tf.nest.flatten(model(given, training=False))
        found = tf.nest.flatten(rebuilt.model(given, training=False))
        pairs = zip(wanted, found, strict=True)
        answer["difference"] = max(float(np.abs(np.subtract(a, b)).max()) for a, b in pairs)
    return answer


def quantizes_nested(folder: Path) -> dict[str, Any]:
    """tfmot takes the rebuilt model, which as it was has models within it."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    from edgeopt.train.rebuild import load_for_training

    quantize = tfmot.quantization.keras.quantize_model
    i = tf_keras.Input((8, 8, 3))
    inner = tf_keras.Sequential([tf_keras.layers.Conv2D(4, 3, input_shape=(8, 8, 3)),
                                 tf_keras.layers.ReLU(), tf_keras.layers.Flatten()])  # fmt: skip
    nested = tf_keras.Model(i, tf_keras.layers.Dense(3)(inner(i)))
    nested.save(folder / "nested.h5")
    refused = ""
    try:
        quantize(nested)
    except ValueError as error:
        refused = str(error)
    quantized = quantize(load_for_training(folder / "nested.h5").model)
    return {"name": "quantizes", "refused": refused, "layers": [n.name for n in quantized.layers]}


def main() -> None:
    folder = Path(sys.argv[1])
    shared = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    bad = folder / "refused"
    bad.mkdir()
    jobs: list[Any] = [(folder / name, m) for name, m in write_readable(folder).items()]
    jobs += [(bad / name, None) for name in write_refused(bad)]
    jobs += [(Path(__file__).parents[2] / "edgeopt/demo/fashion.keras", None)]
    if shared:
        found = [*shared.glob("models/*/model.*"), *shared.glob("models/*/savedmodel")]
        jobs += [(path, None) for path in sorted(found)]
    for source, model in jobs:
        began = time.process_time()
        try:
            answer = check(source, model)
        except Exception:  # noqa: BLE001 - a case that fails is a line that says so
            answer = {"name": source.name, "failed": traceback.format_exc()}
        answer |= {"source": str(source), "cpu_seconds": time.process_time() - began}
        print(json.dumps(answer), flush=True)
    print(json.dumps(quantizes_nested(folder)), flush=True)
    print(json.dumps({"name": "ran", "ran": (bad / "ran").exists()}), flush=True)


if __name__ == "__main__":
    main()
