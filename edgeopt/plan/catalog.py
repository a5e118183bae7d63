"""Every choice there is, and what is published about it.

Data needed, size and hardware: the table of techniques in TensorFlow's model optimization guide
(tensorflow.org/model_optimization/guide). int16x8's speed was measured (see the profiles).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeopt.plan.candidate import Spec

__all__ = ["FALLBACK", "SCHEME_FACTS", "TRAINED", "SchemeFact", "training_cost"]

_EVERYWHERE = ("CPU", "Android GPU", "Edge TPU")


@dataclass(frozen=True, kw_only=True)
class SchemeFact:
    """`support` as published; `cost` is what one pays for it, in the words of a report."""

    needs: tuple[str, ...]
    support: tuple[str, ...]
    cost: str


SCHEME_FACTS: Mapping[str, SchemeFact] = {
    "float32": SchemeFact(needs=(), support=("CPU", "GPU"), cost="Saves neither size nor time."),
    "float16": SchemeFact(
        needs=(),
        support=("CPU", "GPU"),
        cost="No data; up to 50% smaller; insignificant loss of accuracy.",
    ),
    "dynamic_int8": SchemeFact(
        needs=(),
        support=("CPU", "Android GPU"),
        cost="No data; up to 75% smaller; activations stay in float.",
    ),
    "int8": SchemeFact(
        needs=("calibration",),
        support=_EVERYWHERE,
        cost="An unlabelled sample; up to 75% smaller; a small loss of accuracy.",
    ),
    "int16x8": SchemeFact(
        needs=("calibration",),
        support=("CPU",),
        cost="An unlabelled sample; up to 75% smaller; for sensitive activations; slow kernels.",
    ),
}

# The worst layers stay in float: more accurate than int8 and slower, where the profile takes float.
FALLBACK = Spec(scheme="int8", quality={"fallback": "float32"})

# Trained candidates, each followed by the best 8-bit scheme of the target.
TRAINED: tuple[tuple[str, ...], ...] = (
    ("qat",),
    ("prune", "cluster"),
    ("prune",),
    ("cluster",),
    ("prune", "cluster", "qat"),
    ("prune", "qat"),
    ("cluster", "qat"),
)

_TRAINING = {
    "prune": "zeros make the download at least 2 times smaller",
    "cluster": "few distinct values make the download smaller",
    "qat": "weights learn to bear 8 bits",
}


def training_cost(techniques: tuple[str, ...]) -> str:
    """What training for these costs and gives, as a sentence."""
    gains = "; ".join(_TRAINING[name] for name in techniques)
    return f"Labelled data and training time; {gains}."
