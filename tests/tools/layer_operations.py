"""Prints what TFLiteConverter makes of one-layer models, and what the saved models say, as JSON.

usage: layer_operations.py keras|tf_keras FOLDER
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

IMAGE, ROW, STEPS = (8, 8, 4), (8,), (8, 4)
ACTIVATIONS = (
    "relu relu6 softmax sigmoid tanh elu gelu leaky_relu exponential hard_silu log_softmax silu"
)


def layers(keras: Any) -> list[tuple[Any, tuple[int, ...], int]]:
    """Layer, shape of an input, number of inputs."""
    make = keras.layers
    both = [
        (make.Conv2D(4, 3), IMAGE), (make.Dense(4), ROW), (make.PReLU(shared_axes=[1, 2]), IMAGE),
        (make.LSTM(4), STEPS), (make.ReLU(1.0), IMAGE), (make.UpSampling2D(2), IMAGE),
        (make.BatchNormalization(beta_initializer="ones"), IMAGE),
        (make.GlobalAveragePooling2D(), IMAGE),
    ]  # fmt: skip
    if keras.__name__ == "tf_keras":
        return [(*case, 1) for case in both]
    single = [
        (make.Conv1D(4, 3), STEPS), (make.Conv3D(4, 3), (8, 8, 8, 4)),
        (make.Conv2DTranspose(4, 3), IMAGE), (make.DepthwiseConv2D(3), IMAGE),
        (make.SeparableConv2D(4, 3), IMAGE), (make.Embedding(10, 4), ROW),
        (make.AveragePooling2D(2), IMAGE), (make.MaxPooling1D(2), STEPS),
        (make.MaxPooling2D(2), IMAGE), (make.GlobalMaxPooling2D(), IMAGE),
        (make.Rescaling(0.5), IMAGE), (make.Flatten(), IMAGE), (make.Permute((2, 1, 3)), IMAGE),
        (make.RepeatVector(3), ROW), (make.ZeroPadding2D(1), IMAGE), (make.Cropping2D(1), IMAGE),
        (make.Softmax(), ROW), (make.ELU(), IMAGE), (make.LeakyReLU(), IMAGE),
        (make.GRU(4), STEPS), (make.ReLU(), IMAGE), (make.ReLU(6.0), IMAGE),
        (make.ReLU(4.0), IMAGE), (make.UpSampling2D(2, interpolation="bilinear"), IMAGE),
        *((make.Activation(name), IMAGE) for name in ACTIVATIONS.split()),
    ]  # fmt: skip
    names = "Add Average Subtract Multiply Maximum Minimum Concatenate"
    pairs = [(getattr(make, name)(), IMAGE) for name in names.split()]
    cases = [(*case, 1) for case in both + single] + [(*case, 2) for case in pairs]
    return [*cases, (make.Dot(axes=(2, 1)), (4, 4), 2)]


def models(keras: Any) -> dict[str, Any]:
    found = {}
    for index, (layer, shape, count) in enumerate(layers(keras)):
        inputs = [keras.Input(batch_shape=(1, *shape)) for _ in range(count)]
        made = keras.Model(inputs, layer(inputs if count > 1 else inputs[0]))
        found[f"{index}_{layer.name}"] = made
    return found


def pair(model: Any) -> Any:
    return lambda first, second: model([first, second])


def export(keras: Any, made: dict[str, Any], folder: str) -> None:
    """One SavedModel, a signature for each."""
    import tensorflow as tf

    if keras.__name__ == "keras":
        archive = keras.export.ExportArchive()
        for name, model in made.items():
            archive.track(model)
            given = [keras.InputSpec(shape=i.shape, dtype="float32") for i in model.inputs]
            call = model.__call__ if len(given) == 1 else pair(model)
            archive.add_endpoint(name, call, input_signature=given)
        return archive.write_out(folder, verbose=False)
    module, signatures = tf.Module(), {}
    module.models = list(made.values())
    for name, model in made.items():
        call = tf.function(lambda x, model=model: {"y": model(x)}, autograph=False)
        given = tf.TensorSpec(model.inputs[0].shape, tf.float32, name="x")
        signatures[name] = call.get_concrete_function(given)
    return tf.saved_model.save(module, folder, signatures=signatures)


def main(which: str, folder: Path) -> None:
    import tensorflow as tf

    from edgeopt.model import read
    from edgeopt.model.packing import unpack

    keras = importlib.import_module(which)
    made = models(keras)
    export(keras, made, str(folder / "saved"))
    data = tf.lite.TFLiteConverter.from_saved_model(
        str(folder / "saved"), signature_keys=list(made)
    ).convert()
    (folder / "all.tflite").write_bytes(data)
    graphs = read(folder / "all.tflite").subgraphs
    answer = {}
    for signature in unpack(data).signatureDefs:
        name = signature.signatureKey.decode()
        saved = folder / f"{name}.{'keras' if which == 'keras' else 'h5'}"
        made[name].save(saved)
        answer[name] = {
            "said": [op.op for op in read(saved).operators()],
            "made": [op.op for op in graphs[signature.subgraphIndex].operators],
        }
    print("\n" + json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
