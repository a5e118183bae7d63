"""Which TensorFlow Lite operation a Keras layer becomes; tables first, their exceptions after.

Checked for about fifty layers by converting one-layer models (tests/tools/layer_operations.py);
the others follow the layer's documentation and are not proven. Where a layer becomes several
operations, the telling one stands here. A class that is missing here keeps its own name, for the
report to say that it is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["FOLDS_NORMALIZATION", "FUSED", "NO_OPERATION", "activation_op", "layer_op"]

# Nothing is left of these at inference.
NO_OPERATION = frozenset(
    {
        "InputLayer",
        "Dropout",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "AlphaDropout",
        "GaussianDropout",
        "GaussianNoise",
        "ActivityRegularization",
        "Masking",
        "Identity",
        "RandomBrightness",
        "RandomContrast",
        "RandomCrop",
        "RandomFlip",
        "RandomRotation",
        "RandomTranslation",
        "RandomZoom",
    }
)
# A BatchNormalization right behind one of these goes into its weights.
FOLDS_NORMALIZATION = frozenset(
    {"Conv1D", "Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose", "Dense", "Conv3D"}
)
# Activations that the schema can fuse into the operation before.
FUSED = {"linear": "NONE", "relu": "RELU", "relu6": "RELU6", "relu_n1_to_1": "RELU_N1_TO_1"}
_ACTIVATIONS = {
    **{key: value for key, value in FUSED.items() if value != "NONE"},
    "softmax": "SOFTMAX",
    "sigmoid": "LOGISTIC",
    "tanh": "TANH",
    "elu": "ELU",
    "gelu": "GELU",
    "leaky_relu": "LEAKY_RELU",
    "exponential": "EXP",
    "hard_swish": "HARD_SWISH",
    "hard_silu": "HARD_SWISH",
    "log_softmax": "LOG_SOFTMAX",
    "swish": "LOGISTIC",  # and a MUL
    "silu": "LOGISTIC",
}
_LAYERS = {
    "Conv1D": "CONV_2D",
    "Conv2D": "CONV_2D",
    "Conv3D": "CONV_3D",
    "Conv2DTranspose": "TRANSPOSE_CONV",
    "Conv3DTranspose": "CONV_3D_TRANSPOSE",
    "DepthwiseConv1D": "DEPTHWISE_CONV_2D",
    "DepthwiseConv2D": "DEPTHWISE_CONV_2D",
    "SeparableConv1D": "DEPTHWISE_CONV_2D",  # and the pointwise CONV_2D
    "SeparableConv2D": "DEPTHWISE_CONV_2D",
    "Dense": "FULLY_CONNECTED",
    "Embedding": "GATHER",
    "AveragePooling1D": "AVERAGE_POOL_2D",
    "AveragePooling2D": "AVERAGE_POOL_2D",
    "MaxPooling1D": "MAX_POOL_2D",
    "MaxPooling2D": "MAX_POOL_2D",
    "GlobalAveragePooling1D": "MEAN",
    "GlobalAveragePooling2D": "MEAN",
    "GlobalMaxPooling1D": "REDUCE_MAX",
    "GlobalMaxPooling2D": "REDUCE_MAX",
    "Add": "ADD",
    "Average": "ADD",
    "Subtract": "SUB",
    "Multiply": "MUL",
    "Divide": "DIV",
    "TrueDivide": "DIV",
    "Maximum": "MAXIMUM",
    "Minimum": "MINIMUM",
    "Dot": "BATCH_MATMUL",
    "Matmul": "BATCH_MATMUL",
    "Concatenate": "CONCATENATION",
    "BatchNormalization": "MUL",  # and an ADD, where nothing before takes it in
    "Rescaling": "MUL",
    "Flatten": "RESHAPE",
    "Reshape": "RESHAPE",
    "Permute": "TRANSPOSE",
    "Transpose": "TRANSPOSE",
    "RepeatVector": "TILE",
    "ZeroPadding1D": "PAD",
    "ZeroPadding2D": "PAD",
    "Cropping1D": "STRIDED_SLICE",
    "Cropping2D": "STRIDED_SLICE",
    "GetItem": "STRIDED_SLICE",
    "SlicingOpLambda": "STRIDED_SLICE",
    "Softmax": "SOFTMAX",
    "ELU": "ELU",
    "PReLU": "PRELU",
    "LeakyReLU": "LEAKY_RELU",
    "LSTM": "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "GRU": "WHILE",
    "SimpleRNN": "WHILE",
    "Mean": "MEAN",
    "Relu": "RELU",
    "Relu6": "RELU6",
    "Sigmoid": "LOGISTIC",
    "Tanh": "TANH",
    "Exp": "EXP",
}
# tf.* calls inside a functional model, by the function that the configuration names.
_FUNCTIONS = {
    "__operators__.add": "ADD",
    "math.add": "ADD",
    "math.subtract": "SUB",
    "math.multiply": "MUL",
    "math.truediv": "DIV",
    "math.reduce_mean": "MEAN",
    "math.sigmoid": "LOGISTIC",
    "math.tanh": "TANH",
    "nn.relu": "RELU",
    "nn.relu6": "RELU6",
    "nn.softmax": "SOFTMAX",
    "concat": "CONCATENATION",
    "reshape": "RESHAPE",
    "transpose": "TRANSPOSE",
    "compat.v1.transpose": "TRANSPOSE",
    "linalg.matmul": "BATCH_MATMUL",
}
_RESIZES = {"nearest": "RESIZE_NEAREST_NEIGHBOR", "bilinear": "RESIZE_BILINEAR"}
_RELU_LIMITS: Mapping[Any, str] = {6.0: "RELU6"}  # another limit is a RELU and a MINIMUM
# Keras 3 builds these of other parts than Keras 2 did.
_KERAS_3 = {"LSTM": "WHILE"}
_KERAS_3_RESIZES = {**_RESIZES, "nearest": "TILE"}


def layer_op(kind: str, config: Mapping[str, Any]) -> str | None:
    """The operation's TensorFlow Lite name, None where the class is not known."""
    if kind == "Activation":
        return activation_op(config.get("activation"))
    if kind == "ReLU":
        if config.get("negative_slope"):
            return "LEAKY_RELU"
        return _RELU_LIMITS.get(config.get("max_value"), "RELU")
    modern = isinstance(config.get("dtype"), Mapping)  # Keras 3 writes a policy, Keras 2 a name
    if kind == "UpSampling2D" and modern:
        return _KERAS_3_RESIZES.get(str(config.get("interpolation", "nearest")))
    if kind in ("UpSampling2D", "Resizing"):
        return _RESIZES.get(str(config.get("interpolation", "nearest")))
    if kind in _KERAS_3 and modern:
        return _KERAS_3[kind]
    if kind == "TFOpLambda":
        return _FUNCTIONS.get(str(config.get("function")))
    return _LAYERS.get(kind)


def activation_op(activation: Any) -> str | None:
    """The operation of an activation by its configured name (or a layer's configuration)."""
    if isinstance(activation, Mapping):  # {"class_name": "ReLU", "config": {...}}
        inner = activation.get("config")
        if isinstance(inner, str):
            return _ACTIVATIONS.get(inner)
        return layer_op(str(activation.get("class_name")), inner or {})
    return _ACTIVATIONS.get(str(activation))
