"""The three techniques as wrappers of tensorflow-model-optimization around a model's layers, and
the way back to plain weights. For the child that holds TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError
from edgeopt.train.schedule import Schedule, matching
from edgeopt.training import TrainingRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Wrapped", "choose", "kernels", "plain_weights", "untouched", "wrap"]

# The weight that a technique changes, by the class of the layer.
_KERNELS = {
    "Conv1D": "kernel",
    "Conv2D": "kernel",
    "Conv3D": "kernel",
    "Conv2DTranspose": "kernel",
    "Dense": "kernel",
    "DepthwiseConv2D": "depthwise_kernel",
}
# tfmot's QuantizeAwareActivation raises for others.
_KNOWN_ACTIVATIONS = ("linear", "relu", "swish", "gelu", "softmax", "sigmoid", "tanh")
_FOLLOW = 0.01  # of the distance from a range to a batch's minimum and maximum
_WRAPPERS = ("PruneLowMagnitude", "ClusterWeights", "QuantizeWrapperV2")
# Few weights, each used at every pixel: only when named.
_ON_REQUEST = ("DepthwiseConv2D",)


@dataclass
class Wrapped:
    """`model` trains; `kernel_of` finds the variable of a layer's kernel in it; `left_out` are
    layers that the technique does not know; `ranges` measures activations (qat). `step` is to be
    set to the number of each training step."""

    model: Any
    kernel_of: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    ranges: ActivationRanges | None = None
    step: Any = field(default_factory=lambda: _counter())


def _counter() -> Any:
    import tensorflow as tf

    return tf.Variable(0, dtype=tf.int32, trainable=False)


def kernels(model: Any) -> dict[str, str]:
    """The attribute of the kernel of each layer that has one that can be pruned or clustered."""
    found = {}
    for layer in model.layers:
        attribute = _KERNELS.get(type(layer).__name__)
        if attribute is not None:
            found[layer.name] = attribute
    return found


def choose(model: Any, technique: str, patterns: tuple[str, ...]) -> list[str]:
    """The layers to prune, cluster or quantize. Raises InputError when there are none."""
    known = kernels(model)
    kinds = {layer.name: type(layer).__name__ for layer in model.layers}
    named = any(not p.startswith("!") for p in patterns)
    chosen = [
        name
        for name in known
        if matching(name, patterns)
        and (named or technique == "qat" or kinds[name] not in _ON_REQUEST)
    ]
    if chosen:
        return chosen
    if not known:
        raise InputError(
            f"The model has no layer that {technique} can train: it has "
            f"{', '.join(sorted(set(kinds.values())))}."
        )
    raise InputError(
        f"--layers {' '.join(patterns)} names no layer that {technique} can train."
        if patterns
        else f"{technique} leaves depthwise layers alone unless --layers names them.",
        f"The model has {', '.join(known)}.",
    )


def untouched(model: Any, chosen: list[str]) -> list[str]:
    """The layers outside `chosen` that hold a tenth of the model's parameters or more."""
    sizes = {layer.name: layer.count_params() for layer in model.layers}
    return [n for n, size in sizes.items() if n not in chosen and size >= 0.1 * sum(sizes.values())]


def wrap(
    technique: str,
    model: Any,
    chosen: list[str],
    request: TrainingRequest,
    schedule: Schedule,
    *,
    sparse: bool,
    tensorwise: frozenset[str] = frozenset(),
) -> Wrapped:
    """A copy of `model` in which `technique` is trained into the layers `chosen`.

    `sparse`: zeros are there already and stay. `tensorwise` are layers whose weights will have one
    scale when they are int8 (qat).
    """
    import tf_keras

    from edgeopt.train.dropout import SteadyDropout

    copy = tf_keras.models.clone_model(model, clone_function=SteadyDropout.instead)
    copy.set_weights(model.get_weights())
    with tf_keras.utils.custom_object_scope({"SteadyDropout": SteadyDropout}):
        if technique == "prune":
            made = _pruned(copy, chosen, request, schedule)
        elif technique == "cluster":
            made = _clustered(copy, chosen, request, sparse)
        else:
            made = _quantized(copy, request.layers, tensorwise)
    SteadyDropout.follow(made.model, made.step)
    return made


def _pruned(model: Any, chosen: list[str], request: TrainingRequest, schedule: Schedule) -> Wrapped:
    import tensorflow_model_optimization as tfmot
    import tf_keras

    plan = tfmot.sparsity.keras.PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=request.final_sparsity,
        begin_step=0,
        end_step=schedule.ramp_steps,
        frequency=schedule.mask_every,
    )
    attributes, kernel_of = kernels(model), {}

    def wrapper(layer: Any) -> Any:
        if layer.name not in chosen:
            return layer
        name = attributes[layer.name]
        wrapped = tfmot.sparsity.keras.prune_low_magnitude(layer, pruning_schedule=plan)
        layer.get_prunable_weights = lambda: [getattr(layer, name)]  # tfmot skips depthwise kernels
        kernel_of[layer.name] = getattr(layer, name)
        return wrapped

    made = tf_keras.models.clone_model(model, clone_function=wrapper)
    for layer in made.layers:
        if hasattr(layer, "pruning_step"):
            layer.pruning_step.assign(0)  # what tfmot's UpdatePruningStep does when fit begins
    return Wrapped(made, kernel_of)


def _clustered(model: Any, chosen: list[str], request: TrainingRequest, sparse: bool) -> Wrapped:
    import tensorflow_model_optimization as tfmot
    import tf_keras
    from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster

    kinds = tfmot.clustering.keras.CentroidInitialization
    start = {
        "kmeans++": kinds.KMEANS_PLUS_PLUS,
        "linear": kinds.LINEAR,
        "density": kinds.DENSITY_BASED,
        "random": kinds.RANDOM,
    }[request.centroids]
    attributes, kernel_of = kernels(model), {}

    def wrapper(layer: Any) -> Any:
        name = attributes.get(layer.name, "")
        if layer.name not in chosen or _distinct(getattr(layer, name)) <= request.clusters:
            return layer
        wrapped = cluster.cluster_weights(
            layer,
            number_of_clusters=request.clusters,
            cluster_centroids_init=start,
            preserve_sparsity=sparse,
        )
        layer.get_clusterable_weights = lambda: [(name, getattr(layer, name))]
        kernel_of[layer.name] = getattr(layer, name)
        return wrapped

    return Wrapped(tf_keras.models.clone_model(model, clone_function=wrapper), kernel_of)


def _distinct(kernel: Any) -> int:
    import numpy as np

    return int(np.unique(kernel.numpy()).size)


def _quantized(model: Any, patterns: tuple[str, ...], tensorwise: frozenset[str]) -> Wrapped:
    import tensorflow_model_optimization as tfmot
    import tf_keras
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as registry,
    )

    known = registry.Default8BitQuantizeRegistry()
    attributes = kernels(model)
    annotated = tfmot.quantization.keras.quantize_annotate_layer
    left_out = []

    def annotate(layer: Any) -> Any:
        if isinstance(layer, tf_keras.layers.InputLayer):
            return layer
        if layer.weights and not matching(layer.name, patterns):
            return layer
        function = getattr(getattr(layer, "activation", None), "__name__", "linear")
        if type(layer).__name__ == "Activation" and function == "relu6":
            layer = tf_keras.layers.ReLU(6.0, name=layer.name)  # the converter fuses both alike
        elif not known.supports(layer) or function not in _KNOWN_ACTIVATIONS:
            if layer.weights:
                left_out.append(layer.name)
            return layer
        return annotated(layer)

    made = tf_keras.models.clone_model(model, clone_function=annotate)
    made = tfmot.quantization.keras.quantize_apply(made)
    ranges = ActivationRanges()
    kernel_of = {}
    for layer in made.layers:
        ranges.take_over(layer)
        name = layer.name.removeprefix("quant_")
        if name not in attributes:
            continue
        if type(layer).__name__ not in _WRAPPERS:
            kernel_of[name] = getattr(layer, attributes[name])
        elif type(layer.quantize_config).__name__ == "OutputOnlyConfig":  # left out itself
            kernel_of[name] = getattr(layer.layer, attributes[name])
        else:
            kernel_of[name] = _round_kernel(layer, attributes[name], name in tensorwise)
    return Wrapped(made, kernel_of, tuple(left_out), ranges)


def _round_kernel(wrapper: Any, attribute: str, tensorwise: bool) -> Any:
    """Let `wrapper` round its layer's kernel as the LiteRT quantizer will; the kernel's variable.

    tfmot rounds no kernel at all where a ReLU follows in a layer of its own (its LayerReLUQuantize
    gives the layer a NoOpQuantizeConfig, which also is how its own schemes lose zeros there).
    """
    if wrapper._weight_vars:
        variable, _, own = wrapper._weight_vars[0]
    else:
        variable, own = getattr(wrapper.layer, attribute), None
        config = wrapper.quantize_config
        config.set_quantize_weights = lambda layer, made: setattr(layer, attribute, made[0])
    rounding = _rounding(attribute == "depthwise_kernel", tensorwise)
    wrapper._weight_vars = [(variable, rounding, own)]
    return variable


class ActivationRanges:
    """Fake quantization of activations, in the place of tfmot's moving averages: those begin at
    -6 to 6 and take thousands of steps to forget it.

    While `measuring`, ranges grow to the minimum and maximum seen, as in calibration; afterwards
    they follow a moving average.
    """

    def __init__(self) -> None:
        self.measuring = False
        self._pairs: list[tuple[Any, Any]] = []

    def take_over(self, layer: Any) -> None:
        """Put this in the place of every quantizer of activations in the wrapper `layer`."""
        if type(layer).__name__ == "QuantizeLayer":
            layer.quantizer = self
            self._pairs.append((layer.quantizer_vars["min_var"], layer.quantizer_vars["max_var"]))
        if type(layer).__name__ != "QuantizeWrapperV2":
            return
        if layer._output_quantizers:
            layer._output_quantizers = [self]
            self._add(layer._output_quantizer_vars)
        for activation in layer._quantize_activations:
            activation.quantizer = self
            for name in ("_pre_activation_vars", "_post_activation_vars"):
                self._add(getattr(activation, name, None))

    def _add(self, pair: Any) -> None:
        if pair:
            self._pairs.append((pair["min_var"], pair["max_var"]))

    def forget(self) -> None:
        """Begin to measure."""
        for low, high in self._pairs:
            low.assign(low * 0)
            high.assign(high * 0)
        self.measuring = True

    def __call__(self, value: Any, training: Any, weights: Any = None, **_: Any) -> Any:
        import tensorflow as tf

        low, high = weights["min_var"], weights["max_var"]
        if training:
            least = tf.minimum(tf.reduce_min(value), 0)
            most = tf.maximum(tf.reduce_max(value), 0)
            if self.measuring:
                low, high = (
                    low.assign(tf.minimum(low, least)),
                    high.assign(tf.maximum(high, most)),
                )
            else:
                low = low.assign(low + _FOLLOW * (least - low))
                high = high.assign(high + _FOLLOW * (most - high))
        return tf.quantization.fake_quant_with_min_max_vars(value, low, high, num_bits=8)


def _rounding(depthwise: bool, tensorwise: bool) -> Any:
    """Fake quantization of weights as the LiteRT quantizer does it: symmetric, -127 to 127, a scale
    for each output channel. tfmot's own takes the wrong axis of a depthwise kernel and one scale
    for a dense layer."""
    import tensorflow as tf

    def quantize(kernel: Any, _training: bool, weights: Any = None) -> Any:
        shape = kernel.shape
        channels = 1 if tensorwise else shape[-2] * shape[-1] if depthwise else shape[-1]
        flat = tf.reshape(kernel, [-1, channels])
        most = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(flat), 0), 1e-9))
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            flat, -most, most, num_bits=8, narrow_range=True
        )
        return tf.reshape(rounded, shape)

    return quantize


def plain_weights(wrapped: Wrapped, plain: Any) -> list[NDArray[Any]]:
    """The weights of `wrapped` in the order of `plain`, the model that it was made from: clusters
    are centroids, everything else as it trains."""
    holders: dict[str, Any] = {}
    for layer in wrapped.model.layers:
        inner = layer.layer if type(layer).__name__ in _WRAPPERS else layer
        holders[inner.name] = layer
    values = []
    for layer in plain.layers:
        holder = holders[layer.name]
        if type(holder).__name__ in _WRAPPERS:
            values += [_value(holder, _role(variable)) for variable in layer.weights]
        else:
            values += [variable.numpy() for variable in holder.weights]
    return values


def _role(variable: Any) -> str:
    return str(variable.name).split(":")[0].rsplit("/", 1)[-1]


def _value(holder: Any, role: str) -> Any:
    """The value of the weight `role` in a layer or in the wrapper around it."""
    centroids = getattr(holder, "cluster_centroids", None)
    if centroids is not None and role in centroids:
        holder.update_clustered_weights_associations()
        return getattr(holder.layer, role).numpy()
    named = [w for w in holder.weights if _role(w) == role]
    return named[0].numpy()
