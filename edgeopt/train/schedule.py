"""How long and how fast to train, and on which samples: decided before anything runs. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from edgeopt.training import TrainingRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Schedule", "Split", "matching", "schedule_for", "split"]

# Chosen on Fashion-MNIST and keyword spotting (benchmarks/training.py): steps after which more no
# longer helps, and the largest step size that does not first undo what the model knows.
_STEPS = {"prune": 6000, "cluster": 1600, "qat": 1600}
_RATES = {"prune": 2e-3, "cluster": 5e-4, "qat": 3e-4}
_MOST_EPOCHS = 40
_LEAST_EPOCHS = {"prune": 4, "cluster": 2, "qat": 2}
_RAMP = 0.6  # of pruning's steps until the final sparsity; the rest is for recovery
_MASK_UPDATES = 50
_FEW = 20  # samples; fewer are not divided
_MOST_HELD_BACK = 10_000


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One technique's training. `ramp_steps` is when pruning reaches its final sparsity, updating
    its masks every `mask_every` steps (a divisor: tfmot only updates at multiples)."""

    epochs: int
    steps: int
    batch: int
    learning_rate: float
    ramp_steps: int
    mask_every: int

    @property
    def total(self) -> int:
        return self.epochs * self.steps

    def rate(self, step: int) -> float:
        """Cosine decay to 1% (Loshchilov and Hutter 2017), after a warm-up of 2% of the steps."""
        warm = max(1, self.total // 50)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        turn = math.pi * (step - warm) / max(1, self.total - warm)
        return self.learning_rate * (0.01 + 0.99 * (1 + math.cos(turn)) / 2)


def schedule_for(technique: str, samples: int, request: TrainingRequest) -> Schedule:
    """The schedule for `samples` training samples; what the request leaves open is chosen."""
    batch = max(1, min(request.batch_size, samples))
    steps = max(1, samples // batch)
    wanted = round(_STEPS[technique] / steps)
    epochs = request.epochs or max(_LEAST_EPOCHS[technique], min(wanted, _MOST_EPOCHS))
    ramp = max(1, math.floor(epochs * steps * _RAMP))
    every = max(1, ramp // _MASK_UPDATES)
    return Schedule(
        epochs=epochs,
        steps=steps,
        batch=batch,
        learning_rate=request.learning_rate or _RATES[technique],
        ramp_steps=every * max(1, ramp // every),
        mask_every=every,
    )


@dataclass(frozen=True, kw_only=True)
class Split:
    """Indices of the samples to train on and of those to judge by; the same ones when there are
    too few to divide, which `notes` say."""

    train: NDArray[Any]
    held: NDArray[Any]
    notes: tuple[str, ...] = ()


def split(labels: NDArray[Any] | None, count: int, share: float, seed: int) -> Split:
    """Hold back `share` of `count` samples, of each class alike where there are labels."""
    import numpy as np

    everything = np.arange(count)
    if count < _FEW:
        note = (
            f"Only {count} training sample{'s' * (count > 1)}: none could be held back to judge by."
        )
        return Split(train=everything, held=everything, notes=(note,))
    random = np.random.default_rng(seed)
    wanted = int(min(max(1, round(count * share)), _MOST_HELD_BACK, count - 1))
    order = random.permutation(count)
    if labels is not None:  # deal the shuffled samples class by class, in turns
        shuffled = labels[order]
        turn = np.zeros(count, np.int64)
        for value in np.unique(shuffled):
            of_class = shuffled == value
            turn[of_class] = np.arange(of_class.sum())
        order = order[np.argsort(turn, kind="stable")]
    held, train = np.sort(order[:wanted]), np.sort(order[wanted:])
    few = f"Held-back accuracy is of {wanted} samples only: a guess, not a measurement."
    return Split(train=train, held=held, notes=(few,) if wanted < 100 else ())


def matching(name: str, patterns: Sequence[str]) -> bool:
    """True when the layer is meant: by no pattern, or by one that is not negated, and by none that
    is (`!`)."""
    wanted = [p for p in patterns if not p.startswith("!")]
    unwanted = [p[1:] for p in patterns if p.startswith("!")]
    if any(fnmatchcase(name, p) for p in unwanted):
        return False
    return not wanted or any(fnmatchcase(name, p) for p in wanted)
