"""A layer of Keras 3 as the same layer of tf_keras, without its weights. For a child with both.

Most arguments have kept their names. Those that differ are here; an argument that tf_keras does not
know is left out only at the value that means nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from edgeopt.errors import ModelError
from edgeopt.train.layers3_activations import COMMON, after, name_of

__all__ = ["MAPPED", "plain_dtypes", "tf_keras_layer"]

_MAPPED = """
    Activation ActivityRegularization Add AdditiveAttention AlphaDropout Attention Average
    AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization Bidirectional
    CategoryEncoding CenterCrop Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D
    Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Cropping1D Cropping2D Cropping3D Dense
    DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Flatten
    GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GroupNormalization Identity LSTM LSTMCell LayerNormalization LeakyReLU Masking MaxPooling1D
    MaxPooling2D MaxPooling3D Maximum Minimum MultiHeadAttention Multiply Normalization PReLU
    Permute RNN RandomContrast RandomFlip RandomRotation RandomTranslation RandomZoom ReLU
    RepeatVector Rescaling Reshape Resizing SeparableConv1D SeparableConv2D SimpleRNN
    SimpleRNNCell Softmax SpatialDropout1D SpatialDropout2D SpatialDropout3D StackedRNNCells
    Subtract TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D
    ZeroPadding1D ZeroPadding2D ZeroPadding3D
"""
MAPPED = frozenset(_MAPPED.split())
_RENAMED = {("LeakyReLU", "negative_slope"): "alpha"}
# Of no consequence for what the layer computes, or (initializers) for one whose weights are set.
_DROPPED = ("seed", "use_cudnn", "flash_attention", "value_range", "batch_shape", "count",
            "input_axes", "output_axes", "quantization_config")  # fmt: skip
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "data_format": ("channels_last",), "fill_mode": ("constant",), "fill_value": (0.0,),
    "renorm_momentum": (0.99,),
}  # fmt: skip
_ACTIVATIONS = ("activation", "recurrent_activation")


def tf_keras_layer(
    layer: Any, name: str, claim: Callable[[str], str]
) -> tuple[Any, Callable[[Any], Any] | None]:
    """The layer of tf_keras named `name` (or layers, for some activations that stand alone), and
    what to call behind it for its activation, or None.

    `claim` makes names for layers that are added. Raises ModelError, naming the layer and its
    class, for what tf_keras does not have.
    """
    last, config = None, _settings(layer)
    kind = type(layer).__name__
    for key in _ACTIVATIONS:
        if key not in config:
            continue
        activation = getattr(layer, key, None) or getattr(_cell(layer), key, None)
        known = name_of(activation)
        last = None if known in COMMON or key != "activation" else after(known, claim)
        if last is None and known not in COMMON:
            raise _refused(layer, f"its {key} {known or type(activation).__name__} is not there")
        config[key] = COMMON.get(known, "linear")
    if last is not None and kind not in _SPLIT:
        raise _refused(layer, f"its activation {name_of(layer.activation)} is not there")
    if last is not None and kind == "Activation":
        return last, None
    config["name"] = name
    return _constructed(layer, config), last


_SPLIT = ("Activation", "Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose",
          "Conv2DTranspose", "Conv3DTranspose", "DepthwiseConv1D", "DepthwiseConv2D",
          "SeparableConv1D", "SeparableConv2D")  # fmt: skip


def plain_dtypes(config: Any) -> Any:
    """The configuration with type names alone for policies, and float32 for mixed precision."""
    if isinstance(config, list | tuple):
        return [plain_dtypes(item) for item in config]
    if not isinstance(config, dict):
        return config
    made = {key: plain_dtypes(value) for key, value in config.items()}
    policy = config.get("dtype")
    if isinstance(policy, dict):
        policy = policy.get("config", {}).get("name")
    if isinstance(policy, str):
        made["dtype"] = "float32" if policy.startswith("mixed_") else policy
    return made


def _cell(layer: Any) -> Any:
    return getattr(layer, "cell", None)


def _refused(layer: Any, why: str) -> ModelError:
    return ModelError(
        f"The layer {layer.name} ({type(layer).__name__}) cannot be rebuilt in tf_keras, where "
        f"training takes place: {why}.",
        "Replace it in the model, or deploy without --technique.",
        details={"layer": layer.name, "class": type(layer).__name__},
    )


def _settings(layer: Any) -> dict[str, Any]:
    """The layer's configuration for tf_keras, activations and inner layers still Keras 3's."""
    kind, module = type(layer).__name__, type(layer).__module__
    if kind not in MAPPED or not module.startswith("keras.src.layers."):
        raise _refused(layer, "there is no such layer")
    if getattr(layer, "quantization_mode", None):
        raise _refused(layer, "its weights are quantized already")
    if getattr(layer, "lora_enabled", False):
        raise _refused(layer, "it has a low-rank adaptation (merge it into the weights first)")
    config = plain_dtypes(layer.get_config())
    config = {key: value for key, value in config.items() if not key.endswith("_initializer")}
    for key in [k for k in config if k.endswith(("_regularizer", "_constraint"))]:
        config[key] = _penalty(layer, key, config[key])
    return config


def _penalty(layer: Any, key: str, value: Any) -> Any:
    """A regularizer or constraint of keras as tf_keras' of the same name."""
    import tf_keras

    if value is None:
        return None
    home = tf_keras.regularizers if key.endswith("_regularizer") else tf_keras.constraints
    found = getattr(home, str(value.get("class_name")), None) if isinstance(value, dict) else None
    if found is None:
        raise _refused(layer, f"its {key} is not there")
    return found.from_config(value["config"])


def _constructed(layer: Any, config: dict[str, Any]) -> Any:
    import tf_keras

    kind = type(layer).__name__
    made = getattr(tf_keras.layers, kind)
    config.pop("trainable", None)  # what was frozen then is trained now; see rebuild.py
    special = _SPECIAL.get(kind)
    if special is not None:
        special(layer, config)
    known = _parameters(made)
    arguments = {}
    for key, value in config.items():
        key = _RENAMED.get((kind, key), key)
        if key in known:
            arguments[key] = value
        elif not _means_nothing(layer, key, value):
            raise _refused(layer, f"its {key}={value!r} has no counterpart")
    try:
        return made(**arguments)
    except (TypeError, ValueError) as error:
        raise _refused(layer, str(error).rstrip(".")) from error


def _parameters(kind: type) -> set[str]:
    found = {"name", "dtype"}
    for base in kind.__mro__:
        if "__init__" in base.__dict__:
            found |= set(inspect.signature(base.__init__).parameters)  # type: ignore[misc]
        if base.__name__ == "RNN":
            found.add("zero_output_for_mask")  # among its **kwargs
    return found - {"self", "kwargs", "args", "trainable", "weights", "input_shape"}


def _means_nothing(layer: Any, key: str, value: Any) -> bool:
    if key in _DROPPED or value is None or value is False:
        return True
    if value in _NEUTRAL.get(key, ()):
        return True
    parameter = inspect.signature(type(layer).__init__).parameters.get(key)
    return parameter is not None and bool(parameter.default == value)


def _inner(layer: Any) -> Any:
    """A layer within a layer: its activation must be one that tf_keras has."""
    made, last = tf_keras_layer(layer, layer.name, lambda name: name)
    if last is not None:
        raise _refused(layer, "its activation is not there inside another layer")
    return made


def _wrapper(layer: Any, config: dict[str, Any]) -> None:
    if hasattr(layer.layer, "_nodes_by_depth") or hasattr(layer.layer, "_functional"):
        raise _refused(layer, "a whole model is inside it")
    config["layer"] = _inner(layer.layer)


def _bidirectional(layer: Any, config: dict[str, Any]) -> None:
    config["layer"] = _inner(layer.forward_layer)
    config["backward_layer"] = _inner(layer.backward_layer)


def _rnn(layer: Any, config: dict[str, Any]) -> None:
    config["cell"] = _inner(layer.cell)


def _cells(layer: Any, config: dict[str, Any]) -> None:
    config["cells"] = [_inner(cell) for cell in layer.cells]


def _normalization(layer: Any, config: dict[str, Any]) -> None:
    """Statistics as constants: an adapted layer keeps them as weights that are never trained."""
    import numpy as np

    for key in ("mean", "variance"):
        config[key] = np.asarray(getattr(layer, key)).reshape(layer._mean_and_var_shape)


_SPECIAL: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "TimeDistributed": _wrapper,
    "Bidirectional": _bidirectional,
    "RNN": _rnn,
    "StackedRNNCells": _cells,
    "Normalization": _normalization,
}
