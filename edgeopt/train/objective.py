"""What training aims at: labels where there are any, and what the float model answers.

Everything is computed on logits: a final softmax or sigmoid is taken off while training, so that
neither a saturated nor a quantized probability stops the gradient. The second half of the loss is
self-distillation (Hinton, Vinyals and Dean 2015) from the model as it was, which also trains
without labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Objective", "logits_model", "objective_for"]

_DISTILLED = 0.5  # share of the loss that imitates the float model, where there are labels
_ENOUGH = 20  # samples for a standard error to mean anything


@dataclass(frozen=True)
class Objective:
    """`kind` is "classes" (one logit each), "binary" (one logit) or "imitation" (anything)."""

    kind: str
    labelled: bool
    metric: str

    def loss(self, given: Any, label: Any, teacher: Any) -> Any:
        """The mean loss of a batch of logits (lists of outputs for "imitation")."""
        import tensorflow as tf

        if self.kind == "imitation":
            return tf.add_n([_relative_error(g, t) for g, t in zip(given, teacher, strict=True)])
        z, t = given[0], teacher[0]
        if self.kind == "binary":
            imitate = tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(t), z)
            hard = tf.nn.sigmoid_cross_entropy_with_logits(
                tf.cast(tf.reshape(label, tf.shape(z)), z.dtype), z
            )
        else:
            # The teacher's own entropy taken off: 0 means the same answer.
            entropy = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(t), t)
            imitate = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(t), z) - entropy
            hard = tf.nn.sparse_softmax_cross_entropy_with_logits(label, z)
        if not self.labelled:
            return tf.reduce_mean(imitate)
        return (1 - _DISTILLED) * tf.reduce_mean(hard) + _DISTILLED * tf.reduce_mean(imitate)

    def right(self, given: Any, label: Any, teacher: Any) -> Any:
        """How many samples of a batch are answered as the label, or else as the teacher, says."""
        import tensorflow as tf

        if self.kind == "imitation":
            return tf.constant(0, tf.int64)
        if self.kind == "binary":
            found = tf.cast(tf.reshape(given[0], [-1]) > 0, tf.int64)
            wanted = label if self.labelled else tf.cast(tf.reshape(teacher[0], [-1]) > 0, tf.int64)
        else:
            found = tf.argmax(given[0], -1)
            wanted = label if self.labelled else tf.argmax(teacher[0], -1)
        return tf.reduce_sum(tf.cast(found == wanted, tf.int64))

    def doubt(self, accuracy: float | None, samples: int, teacher: Sequence[NDArray[Any]]) -> str:
        """A warning where the float model, with these answers, is right no more often than who
        guesses (within two standard errors, where there are enough samples for one); "" else."""
        if not self.labelled or accuracy is None:
            return ""
        chance = 1 / (teacher[0].shape[1] if self.kind == "classes" else 2)
        spread = math.sqrt(chance * (1 - chance) / samples) if samples >= _ENOUGH else 0.0
        if accuracy >= chance + 2 * spread:
            return ""
        return (
            f"The float model answers {accuracy:.1%} of {samples} held-back training samples as "
            f"they are labelled, no better than guessing ({chance:.1%}): the labels may be "
            "numbered otherwise than the model's classes, or the input scaled otherwise "
            "(--preprocess)."
        )


def _relative_error(given: Any, teacher: Any) -> Any:
    """Mean square error as a share of the teacher's variance."""
    import tensorflow as tf

    spread = tf.reduce_mean(tf.square(teacher - tf.reduce_mean(teacher)))
    return tf.reduce_mean(tf.square(given - teacher)) / (spread + 1e-12)


def objective_for(model: Any, ending: str, labels: NDArray[Any] | None) -> Objective:
    """The objective of a model whose last activation is `ending`.

    Raises InputError for labels that do not fit the model's outputs.
    """
    outputs = model.outputs
    shape = tuple(outputs[0].shape)
    if len(outputs) != 1 or len(shape) != 2 or not outputs[0].dtype.is_floating:
        return Objective("imitation", False, "relative_error")
    width = shape[1]
    if width == 1:
        if labels is None or (ending != "sigmoid" and not _are_binary(labels)):
            kind = "binary" if ending == "sigmoid" else "imitation"
            return Objective(kind, False, "agreement" if kind == "binary" else "relative_error")
        _check(labels, 2)
        return Objective("binary", True, "top1")
    if ending == "sigmoid":  # several yes-or-no answers: class numbers say nothing about them
        return Objective("imitation", False, "relative_error")
    if labels is None:
        return Objective("classes", False, "agreement")
    _check(labels, width)
    return Objective("classes", True, "top1")


def _are_binary(labels: NDArray[Any]) -> bool:
    return bool(((labels == 0) | (labels == 1)).all())


def _check(labels: NDArray[Any], classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise InputError(
            f"The training labels are {low} to {high}; the model has {classes} classes, "
            f"0 to {classes - 1}.",
            "Number the classes as the model was trained (class folders in the same order), or "
            "give the data that belongs to it.",
        )


def logits_model(model: Any) -> tuple[Any, str]:
    """A copy of `model` (with its weights) that ends before its final softmax or sigmoid, and the
    name of what was taken off ("" when nothing was). Weights have the same order as in `model`."""
    import tf_keras

    copy = tf_keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    if len(copy.outputs) != 1:
        return copy, ""
    last = copy.output._keras_history.layer
    ending = _activation(last)
    if ending not in ("softmax", "sigmoid"):
        return copy, ""
    if not last.weights:  # a layer of its own
        if isinstance(last.input, list) or len(last._inbound_nodes) != 1:
            raise ModelError(f"The layer {last.name} ends the model and is used twice.")
        return tf_keras.Model(copy.inputs, last.input), ending
    last.activation = tf_keras.activations.linear
    rebuilt = tf_keras.models.clone_model(copy)
    rebuilt.set_weights(model.get_weights())
    return rebuilt, ending


def _activation(layer: Any) -> str:
    import tf_keras

    if isinstance(layer, tf_keras.layers.Softmax):
        return "softmax"
    function = getattr(layer, "activation", None)
    return str(getattr(function, "__name__", ""))
