"""Trained: what a training made, and what is known of each layer. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Trained", "TrainedLayer"]


@dataclass(frozen=True, kw_only=True)
class TrainedLayer:
    """A layer that a technique changed. `sparsity` is the share of zeros of its kernel and
    `clusters` the number of its distinct values (None: that technique left it alone)."""

    name: str
    techniques: tuple[str, ...]
    sparsity: float | None = None
    clusters: int | None = None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """`path` is a legacy Keras .h5 (tf_keras) with plain layers: masks, centroids and rounding live
    in its weights, no wrapper is left. `history` has a row of numbers for each epoch; `stopped`
    says why training ended before its last epoch, if it did. `held_back` is how the float model
    did `before` and `after` on the samples that were not trained on.
    """

    path: Path
    layers: tuple[TrainedLayer, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()
    stopped: str = ""
    resumed_from: int = 0
    held_back: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, without the path."""
        return {
            "layers": [asdict(layer) for layer in self.layers],
            "history": [dict(row) for row in self.history],
            "stopped": self.stopped or None,
            "resumed_from": self.resumed_from,
            "held_back": dict(self.held_back),
            "seconds": self.seconds,
            "versions": dict(self.versions),
        }
