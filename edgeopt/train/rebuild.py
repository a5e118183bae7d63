"""A trained Keras file as a tf_keras model that can be trained on, in a child that may hold
TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Rebuilt", "load_for_training"]


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """`model` is a functional or Sequential tf_keras.Model of plain layers, not compiled; `checked`
    says on how many samples and how closely it does what the file's own model does."""

    model: Any
    notes: tuple[str, ...] = ()
    checked: dict[str, Any] = field(default_factory=dict)


def load_for_training(source: Path) -> Rebuilt:
    """The model in a legacy Keras .h5."""
    import tf_keras

    return Rebuilt(model=tf_keras.models.load_model(source, compile=False))
