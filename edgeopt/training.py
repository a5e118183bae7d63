"""TrainingRequest: what to train a model for before it is converted, checked once. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeopt.errors import InputError

__all__ = ["CENTROIDS", "TECHNIQUES", "TrainingRequest"]

TECHNIQUES = ("prune", "cluster", "qat")  # also the order in which they are applied
# tfmot.clustering.keras.CentroidInitialization
CENTROIDS = ("kmeans++", "linear", "density", "random")


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """Techniques and their schedules. Raises InputError for what cannot be.

    None means "chosen from the data and the technique". `layers` are patterns of layer names
    (fnmatch) to prune, cluster or quantize; one that begins with `!` leaves layers out; empty is
    every layer that the technique knows. `final_sparsity` is the share of zeros of a pruned layer,
    `validation` the share of the training data that is held back to judge by. `max_accuracy_drop`
    (a fraction) ends training early once the held-back accuracy is that close to float's.
    """

    techniques: tuple[str, ...] = ()
    epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int = 64
    final_sparsity: float = 0.8
    clusters: int = 16
    centroids: str = "kmeans++"
    layers: tuple[str, ...] = ()
    seed: int = 0
    validation: float = 0.1
    max_accuracy_drop: float | None = None
    resume: bool = True

    def __post_init__(self) -> None:
        unknown = [t for t in self.techniques if t not in TECHNIQUES]
        if unknown:
            raise InputError(
                f"There is no technique named {unknown[0]!r}.", f"Known: {', '.join(TECHNIQUES)}."
            )
        ordered = tuple(t for t in TECHNIQUES if t in self.techniques)
        object.__setattr__(self, "techniques", ordered)
        if self.centroids not in CENTROIDS:
            raise InputError(
                f"There is no centroid initialisation {self.centroids!r}.",
                f"Known: {', '.join(CENTROIDS)}.",
            )
        for name, low in (("epochs", 1), ("batch_size", 1), ("clusters", 2)):
            value = getattr(self, name)
            if value is not None and value < low:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} must be at least {low}, not {value}.")
        if self.learning_rate is not None and not 0 < self.learning_rate < 10:
            raise InputError(f"--learning-rate cannot be {self.learning_rate:g}.", "Try 0.0001.")
        if not 0 < self.final_sparsity < 1:
            raise InputError(
                f"--final-sparsity is a share between 0 and 1, not {self.final_sparsity:g}.",
                "0.8 makes four of five weights zero.",
            )
        if not 0 < self.validation < 1:
            raise InputError(f"The held-back share must be between 0 and 1, not {self.validation}.")

    @property
    def kept(self) -> tuple[str, ...]:
        """What every later step must not lose: "zeros" of pruning, "clusters" of clustering."""
        names = {"prune": "zeros", "cluster": "clusters"}
        return tuple(names[t] for t in self.techniques if t in names)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for reports and cache keys (`resume` does not change a result)."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values.pop("resume")
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
