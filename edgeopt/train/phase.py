"""Phase: one technique on its way, what would be kept if it ended now, and what is said of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeopt.train.loop import Judgement

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TITLES", "Phase"]

TITLES = {"prune": "Pruning", "cluster": "Clustering", "qat": "Quantization-aware training"}
_UNTRAINED = {"prune": "pruned", "cluster": "clustered", "qat": "original"}


@dataclass
class Phase:
    """One technique on its way. `best` is what would be kept if it ended now; epoch 0 is the
    technique applied to the model as it came, without training."""

    technique: str
    index: int
    chosen: list[str]
    start: list[NDArray[Any]]
    best: list[NDArray[Any]] = field(default_factory=list)
    best_epoch: int = -1
    judged: Judgement = field(default_factory=lambda: Judgement(math.nan, None))
    epoch: int = 0
    stopped: bool = False  # before its last epoch

    def offer(self, weights: list[NDArray[Any]], judged: Judgement, samples: int) -> None:
        """Keep these weights if they are the best so far of `samples` held back."""
        if not judged.finite:
            return
        if self.best_epoch < 0 or judged.better_than(self.judged, samples):
            self.best, self.best_epoch, self.judged = weights, self.epoch, judged

    def reached(
        self,
        budget: float | None,
        before: Judgement,
        weights: list[NDArray[Any]],
        judged: Judgement,
    ) -> bool:
        """True when these weights are within the accuracy budget; then what is kept is, too, though
        of few samples the loss may have chosen others."""
        if not judged.within(budget, before):
            return False
        if not self.judged.within(budget, before):
            self.best, self.best_epoch, self.judged = weights, self.epoch, judged
        return True

    @property
    def diverged(self) -> str:
        """That the last epoch's loss was no number."""
        return f"{TITLES[self.technique]} diverged (the loss is no number) in epoch {self.epoch}"

    def without_use(self, before: Judgement, metric: str) -> str:
        """That all epochs were for nothing, and what is left."""
        said = (
            f"{TITLES[self.technique]} did not beat the {_UNTRAINED[self.technique]} weights "
            "without training on the held-back samples: those were kept"
        )
        now, was = self.judged.accuracy, before.accuracy
        if now is None or was is None:
            return f"{said}."
        return (
            f"{said}, with {metric} {now:.4f} there (float {was:.4f}). If that is too little, use "
            "a lower --learning-rate or more --epochs."
        )
