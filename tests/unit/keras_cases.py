"""Keras 3 models, one for each layer, argument, operation and form of graph that training takes.

Run as a program: `keras_cases.py FOLDER [NAME...]` writes each as .keras, rebuilds it, and prints a
JSON line of what came out. The comparison is on other inputs than edgeopt's own.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_graphs import IMAGE, LINE, VECTOR, WORDS, graphs, wrapped

Layer = tuple[tuple[int, ...], str, dict[str, Any]]

# name: input shape, class, arguments
LAYERS: dict[str, Layer] = {
    "dense": (VECTOR, "Dense", {"units": 3, "activation": "softmax"}),
    "dense_penalties": (VECTOR, "Dense", {"units": 3, "kernel_regularizer": "l2",
                                          "bias_constraint": "non_neg", "activation": "relu"}),
    "conv1d": (LINE, "Conv1D", {"filters": 3, "kernel_size": 3, "padding": "causal"}),
    "conv2d": (IMAGE, "Conv2D", {"filters": 6, "kernel_size": 3, "strides": 2, "groups": 2}),
    "conv2d_same": (IMAGE, "Conv2D", {"filters": 6, "kernel_size": 3, "padding": "same",
                                      "dilation_rate": 2, "use_bias": False}),
    "conv3d": ((4, 4, 4, 2), "Conv3D", {"filters": 3, "kernel_size": 2}),
    "conv1d_transpose": (LINE, "Conv1DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2}),
    "conv2d_transpose": (IMAGE, "Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2,
                                                    "padding": "same", "output_padding": 1}),
    "conv3d_transpose": ((4, 4, 4, 2), "Conv3DTranspose", {"filters": 3, "kernel_size": 2}),
    "depthwise_conv1d": (LINE, "DepthwiseConv1D", {"kernel_size": 3, "depth_multiplier": 2}),
    "depthwise_conv2d": (IMAGE, "DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 2,
                                                    "padding": "same", "strides": 2}),
    "separable_conv1d": (LINE, "SeparableConv1D", {"filters": 3, "kernel_size": 3}),
    "separable_conv2d": (IMAGE, "SeparableConv2D", {"filters": 5, "kernel_size": 3,
                                                    "depth_multiplier": 2, "activation": "relu"}),
    "batch_normalization": (IMAGE, "BatchNormalization", {"epsilon": 1e-2, "momentum": 0.9}),
    "batch_normalization_bare": (IMAGE, "BatchNormalization", {"scale": False, "center": False}),
    "layer_normalization": (LINE, "LayerNormalization", {"axis": -1, "epsilon": 1e-5}),
    "group_normalization": (IMAGE, "GroupNormalization", {"groups": 2}),
    "unit_normalization": (VECTOR, "UnitNormalization", {}),
    "normalization": (IMAGE, "Normalization", {"mean": [1.0, 2, 3, 4], "variance": [1.0, 4, 9, 2]}),
    "normalization_adapted": (IMAGE, "Normalization", {"axis": -1}),
    "normalization_inverted": (VECTOR, "Normalization", {"axis": None, "mean": 3.0, "variance": 2.0,
                                                         "invert": True}),
    "rescaling": (IMAGE, "Rescaling", {"scale": 1 / 127.5, "offset": -1}),
    "rescaling_channels": (IMAGE, "Rescaling", {"scale": [0.1, 0.2, 0.3, 0.4], "offset": 1.5}),
    "resizing": (IMAGE, "Resizing", {"height": 5, "width": 6, "interpolation": "nearest"}),
    "center_crop": (IMAGE, "CenterCrop", {"height": 4, "width": 6}),
    "random_flip": (IMAGE, "RandomFlip", {"mode": "horizontal", "seed": 3}),
    "random_rotation": (IMAGE, "RandomRotation", {"factor": 0.1}),
    "random_zoom": (IMAGE, "RandomZoom", {"height_factor": 0.1}),
    "random_translation": (IMAGE, "RandomTranslation", {"height_factor": 0.1,
                                                        "width_factor": 0.2}),
    "random_contrast": (IMAGE, "RandomContrast", {"factor": 0.1}),
    "random_brightness": (IMAGE, "RandomBrightness", {"factor": 0.1}),
    "random_erasing": (IMAGE, "RandomErasing", {}),
    "re_lu": (IMAGE, "ReLU", {"max_value": 6.0, "negative_slope": 0.1, "threshold": 0.2}),
    "leaky_re_lu": (IMAGE, "LeakyReLU", {"negative_slope": 0.1}),
    "p_re_lu": (IMAGE, "PReLU", {"shared_axes": [1, 2]}),
    "elu": (IMAGE, "ELU", {"alpha": 0.7}),
    "softmax": (LINE, "Softmax", {"axis": 1}),
    "dropout": (VECTOR, "Dropout", {"rate": 0.3, "seed": 1}),
    "spatial_dropout": (IMAGE, "SpatialDropout2D", {"rate": 0.3}),
    "spatial_dropout1d": (LINE, "SpatialDropout1D", {"rate": 0.3}),
    "spatial_dropout3d": ((4, 4, 4, 2), "SpatialDropout3D", {"rate": 0.3}),
    "gaussian_noise": (VECTOR, "GaussianNoise", {"stddev": 0.3}),
    "gaussian_dropout": (VECTOR, "GaussianDropout", {"rate": 0.3}),
    "alpha_dropout": (VECTOR, "AlphaDropout", {"rate": 0.3}),
    "activity_regularization": (VECTOR, "ActivityRegularization", {"l1": 0.1}),
    "max_pooling1d": (LINE, "MaxPooling1D", {}),
    "max_pooling2d": (IMAGE, "MaxPooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}),
    "max_pooling3d": ((4, 4, 4, 2), "MaxPooling3D", {}),
    "average_pooling1d": (LINE, "AveragePooling1D", {"pool_size": 2, "padding": "same"}),
    "average_pooling2d": (IMAGE, "AveragePooling2D", {"pool_size": 3, "padding": "same"}),
    "average_pooling3d": ((4, 4, 4, 2), "AveragePooling3D", {"pool_size": 2}),
    "global_average": (IMAGE, "GlobalAveragePooling2D", {"keepdims": True}),
    "global_average1d": (LINE, "GlobalAveragePooling1D", {}),
    "global_average3d": ((4, 4, 4, 2), "GlobalAveragePooling3D", {}),
    "global_max": (IMAGE, "GlobalMaxPooling2D", {"keepdims": True}),
    "global_max1d": (LINE, "GlobalMaxPooling1D", {}),
    "global_max3d": ((4, 4, 4, 2), "GlobalMaxPooling3D", {}),
    "flatten": (IMAGE, "Flatten", {}),
    "reshape": (IMAGE, "Reshape", {"target_shape": (-1, 8)}),
    "permute": (LINE, "Permute", {"dims": (2, 1)}),
    "repeat_vector": (VECTOR, "RepeatVector", {"n": 3}),
    "cropping1d": (LINE, "Cropping1D", {"cropping": (1, 2)}),
    "cropping2d": (IMAGE, "Cropping2D", {"cropping": ((1, 2), (0, 3))}),
    "cropping3d": ((4, 4, 4, 2), "Cropping3D", {"cropping": 1}),
    "zero_padding1d": (LINE, "ZeroPadding1D", {"padding": (1, 2)}),
    "zero_padding2d": (IMAGE, "ZeroPadding2D", {"padding": ((0, 1), (2, 0))}),
    "zero_padding3d": ((4, 4, 4, 2), "ZeroPadding3D", {}),
    "up_sampling1d": (LINE, "UpSampling1D", {}),
    "up_sampling2d": (IMAGE, "UpSampling2D", {"size": 2, "interpolation": "bilinear"}),
    "up_sampling3d": ((4, 4, 4, 2), "UpSampling3D", {}),
    "identity": (VECTOR, "Identity", {}),
    "masking": (LINE, "Masking", {"mask_value": 0.0}),
    "embedding": (WORDS, "Embedding", {"input_dim": 11, "output_dim": 3}),
    "category_encoding": (WORDS, "CategoryEncoding", {"num_tokens": 9, "output_mode": "multi_hot"}),
    "discretization": (VECTOR, "Discretization", {"bin_boundaries": [-0.5, 0.0, 0.4]}),
    "einsum_dense": (LINE, "EinsumDense", {"equation": "abc,cd->abd", "output_shape": (None, 5),
                                           "bias_axes": "d", "activation": "relu"}),
    "lstm": (LINE, "LSTM", {"units": 3, "return_sequences": True}),
    "gru": (LINE, "GRU", {"units": 3, "recurrent_activation": "sigmoid"}),
    "gru_before": (LINE, "GRU", {"units": 3, "reset_after": False, "go_backwards": True}),
    "simple_rnn": (LINE, "SimpleRNN", {"units": 3}),
    "conv_lstm1d": ((3, 6, 2), "ConvLSTM1D", {"filters": 2, "kernel_size": 3,
                                              "recurrent_activation": "sigmoid"}),
    "conv_lstm2d": ((3, 6, 6, 2), "ConvLSTM2D", {"filters": 2, "kernel_size": 3,
                                                 "recurrent_activation": "sigmoid"}),
    "conv_lstm3d": ((2, 4, 4, 4, 1), "ConvLSTM3D", {"filters": 2, "kernel_size": 2,
                                                    "recurrent_activation": "sigmoid"}),
}  # fmt: skip

_FIRST = ("normalization", "rescaling")  # such a layer says what the range of its input is
GROUPS: dict[str, dict[str, Layer]] = {}
for _name, _case in LAYERS.items():
    _shape = "x".join(map(str, _case[0])) + ("_first" if _name.startswith(_FIRST) else "")
    GROUPS.setdefault(_shape, {})[_name] = _case

# name: input shape, what is done with the tensor; `o` is keras.ops
OPERATIONS: dict[str, tuple[tuple[int, ...], Callable[[Any, Any], Any]]] = {
    "op_numbers": (VECTOR, lambda o, x: (2 - (x + 1) * 3) / 4 - 1),
    "op_same_shape": (VECTOR, lambda o, x: (x + o.tanh(x)) * (x - o.sigmoid(x))),
    "op_broadcast": (IMAGE, lambda o, x: x * o.mean(x, (1, 2), True) + o.max(x, -1, True)),
    "op_mean": (IMAGE, lambda o, x: o.mean(x, axis=[1, 2])),
    "op_mean_odd": (IMAGE, lambda o, x: o.mean(x, axis=-1)),
    "op_reduce": (IMAGE, lambda o, x: o.sum(x, 1) + o.min(x, axis=2) + o.var(x, 1) + o.std(x, 2)),
    "op_reshape": (IMAGE, lambda o, x: o.reshape(o.reshape(x, (-1, 64, 4)), (-1, 16))),
    "op_transpose": (LINE, lambda o, x: o.transpose(o.swapaxes(x, 1, 2), (0, 2, 1))),
    "op_moveaxis": (IMAGE, lambda o, x: o.moveaxis(x, -1, 1)),
    "op_join": (LINE, lambda o, x: o.stack([x, o.concatenate([x[:, :3], x[:, 3:]], 1)], axis=1)),
    "op_split": (LINE, lambda o, x: o.concatenate(o.split(x, 2, axis=1)[::-1], axis=-1)),
    "op_split_at": (LINE, lambda o, x: o.split(x, [1, 3], axis=1)[1]),
    "op_slice": (IMAGE, lambda o, x: x[:, 1:-1, ::2, 0]),
    "op_expand": (VECTOR, lambda o, x: o.squeeze(o.expand_dims(x, 1), 1) + x[..., :1]),
    "op_relus": (VECTOR, lambda o, x: o.relu(x) + o.relu6(x * 9) + o.leaky_relu(x) + o.elu(x, 0.5)),
    "op_hard": (VECTOR, lambda o, x: o.hard_sigmoid(x * 4) + o.hard_silu(x * 4)),
    "op_smooth": (VECTOR, lambda o, x: o.silu(x) + o.softplus(x) + o.gelu(x) + o.gelu(x, False)
                  + o.selu(x) + o.softsign(x)),
    "op_softmax": (LINE, lambda o, x: o.softmax(x, axis=1) + o.log_softmax(x)),
    "op_maths": (VECTOR, lambda o, x: o.exp(x) + o.log(o.abs(x) + 1) + o.sqrt(o.square(x) + 1)
                 + o.rsqrt(x * x + 2) + o.power(o.absolute(x), 1.5) + o.sin(x) - o.negative(x)),
    "op_choose": (VECTOR, lambda o, x: o.where(x > 0, o.maximum(x, 0.3), o.clip(x, -0.4, 0.4))),
    "op_matmul": (LINE, lambda o, x: o.matmul(x, o.transpose(x, (0, 2, 1)))),
    "op_pad": (IMAGE, lambda o, x: o.pad(o.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0))),
                                         ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")),
    "op_pad_value": (LINE, lambda o, x: o.pad(x, ((0, 0), (1, 0), (0, 2)), constant_values=2.5)),
    "op_normalize": (VECTOR, lambda o, x: o.normalize(x, axis=-1)),
    "op_repeat": (LINE, lambda o, x: o.repeat(o.tile(x, (1, 2, 1)), 2, axis=-1)),
    "op_flip": (LINE, lambda o, x: o.roll(o.flip(x, axis=1), 1, axis=2)),
    "op_image": (IMAGE, lambda o, x: o.image.resize(x, (5, 7), interpolation="bilinear")),
    "op_cast": (VECTOR, lambda o, x: o.cast(o.cast(x * 5, "int32"), "float32")),
    "op_take": (LINE, lambda o, x: o.take(x, [0, 2], axis=1)),
    "op_argmax": (LINE, lambda o, x: o.one_hot(o.argmax(x, axis=-1), 4)),
    "op_constant": (LINE, lambda o, x: x * o.convert_to_tensor([1.0, 2.0, 3.0, 4.0])),
}  # fmt: skip

ACTIVATIONS = ("relu6", "leaky_relu", "hard_sigmoid", "hard_silu", "log_softmax", "silu", "gelu",
               "mish", "elu", "selu", "softplus", "softsign", "exponential", "tanh", "sigmoid",
               "log_sigmoid", "hard_tanh")  # fmt: skip


APPLICATIONS = ("mobilenet_v2", "mobilenet_v3", "efficientnet_b0", "resnet50")


def builders(keras: Any) -> dict[str, Callable[[], Any]]:
    """Each case by name, not yet built."""
    layers = keras.layers

    def side_by_side(group: dict[str, Layer]) -> Any:
        (shape,) = {case[0] for case in group.values()}
        i = keras.Input(shape)
        return keras.Model(i, [getattr(layers, k)(**more)(i) for _, k, more in group.values()])

    def operations(shape: tuple[int, ...]) -> Any:
        i = keras.Input(shape)
        runs = [run for own, run in OPERATIONS.values() if own == shape]
        return keras.Model(i, [run(keras.ops, i) for run in runs])

    def activations() -> Any:
        i = keras.Input(VECTOR)
        dense = layers.Dense
        return keras.Model(
            i, [layers.Activation(n)(dense(5, activation=n)(i)) for n in ACTIVATIONS]
        )

    made: dict[str, Callable[[], Any]] = {"activations": activations}
    made |= {f"layers_{name}": (lambda g=group: side_by_side(g)) for name, group in GROUPS.items()}
    made |= {
        f"operations_{shape}": (lambda s=shape: operations(s)) for shape in (IMAGE, LINE, VECTOR)
    }
    return made | wrapped(keras, layers) | graphs(keras, layers)


def _randomize(keras: Any, model: Any, random: Any) -> None:
    """Weights that a trained model could have: positive variances, nothing at its initial value."""
    for layer in model._flatten_layers():
        for variable in [*layer._trainable_variables, *layer._non_trainable_variables]:
            if "float" not in variable.dtype:
                continue
            low, high = (0.5, 2.0) if "variance" in variable.path else (-0.5, 0.5)
            fan = max(1.0, (variable.shape[-2] if len(variable.shape) > 1 else 1) / 8)
            low, high = (low, high) if low > 0 else (low / fan**0.5, high / fan**0.5)
            if "gamma" in variable.path:
                low, high = 0.8, 1.2
            variable.assign(random.uniform(low, high, tuple(variable.shape)))
        if type(layer).__name__ == "Normalization":
            layer.finalize_state()


def check(keras: Any, name: str, folder: Path) -> dict[str, Any]:
    """Build a case, rebuild it, and compare with Keras 3's own answers on fresh inputs."""
    import numpy as np
    import tf_keras

    from edgeopt.train.rebuild import fold_batch_norm, load_for_training
    from edgeopt.train.rebuilt_check import random_inputs

    began = time.monotonic()
    model = builders(keras)[name]()
    _randomize(keras, model, np.random.default_rng(1))
    model.save(folder / f"{name}.keras")
    rebuilt = load_for_training(folder / f"{name}.keras")
    graph = getattr(model, "_functional", None) or model
    fixed = model.inputs[0].shape[0]
    flat = random_inputs(model, count=fixed or 3, seed=99)
    for layer in model._flatten_layers():
        layer.dtype_policy = "float32"
    wanted = keras.tree.flatten(
        model(keras.tree.pack_sequence_as(graph._inputs_struct, flat), training=False)
    )

    def differences(other: Any) -> list[float]:
        import tensorflow as tf

        found = tf.nest.flatten(other(flat if len(flat) > 1 else flat[0], training=False))
        pairs = [
            (np.asarray(a, "f8"), np.asarray(b, "f8")) for a, b in zip(wanted, found, strict=True)
        ]
        return [float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-9)) for a, b in pairs]

    folded = fold_batch_norm(rebuilt.model)
    folded.save(folder / f"{name}.h5")
    again = tf_keras.models.load_model(folder / f"{name}.h5", compile=False)
    kinds = [type(layer).__name__ for layer in rebuilt.model.layers]
    operations = {type(op).__name__ for op in graph._operations if not hasattr(op, "get_weights")}
    return {
        "name": name,
        "seconds": time.monotonic() - began,
        "differences": differences(rebuilt.model),
        "after_folding": differences(again),
        "norms": kinds.count("BatchNormalization"),
        "norms_folded": [type(layer).__name__ for layer in folded.layers].count(
            "BatchNormalization"
        ),
        "kinds": kinds,
        "operations": sorted(operations),
        "penalties": [len(rebuilt.model.losses), len(folded.losses)],
        "names": [layer.name for layer in rebuilt.model.layers],
        "inputs": list(rebuilt.model.input_names),
        "batch": rebuilt.model.inputs[0].shape[0],
        "trainable": [layer.name for layer in rebuilt.model.layers if not layer.trainable],
        "notes": list(rebuilt.notes),
        "checked": rebuilt.checked,
    }


def main() -> None:
    import keras

    folder = Path(sys.argv[1])
    for name in sys.argv[2:] or builders(keras):
        try:
            answer = check(keras, name, folder)
        except Exception:  # noqa: BLE001 - a case that fails is a line that says so
            answer = {"name": name, "failed": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
