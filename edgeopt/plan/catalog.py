"""Every choice there is, and what is published about it.

Data needed, size and hardware: the table of techniques in TensorFlow's model optimization guide
(tensorflow.org/model_optimization/guide). int16x8's speed was measured (see the profiles).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeopt.plan.candidate import Spec
from edgeopt.quality import SPLIT_FOR_ACCURACY, QualityRequest

__all__ = [
    "FALLBACK",
    "SCHEME_FACTS",
    "SEARCH_COST",
    "TRAINED",
    "SchemeFact",
    "split_cost",
    "split_spec",
    "training_cost",
]

_EVERYWHERE = ("CPU", "Android GPU", "Edge TPU")


@dataclass(frozen=True, kw_only=True)
class SchemeFact:
    """`support` as published; `cost` is what one pays for it beside the data, in a few words."""

    needs: tuple[str, ...]
    support: tuple[str, ...]
    cost: str


SCHEME_FACTS: Mapping[str, SchemeFact] = {
    "float32": SchemeFact(needs=(), support=("CPU", "GPU"), cost="no gain in size or time"),
    "float16": SchemeFact(
        needs=(),
        support=("CPU", "GPU"),
        cost="insignificant loss of accuracy",
    ),
    "dynamic_int8": SchemeFact(
        needs=(),
        support=("CPU", "Android GPU"),
        cost="small loss; float activations",
    ),
    "int8": SchemeFact(
        needs=("calibration",),
        support=_EVERYWHERE,
        cost="small loss of accuracy",
    ),
    "int16x8": SchemeFact(
        needs=("calibration",),
        support=("CPU",),
        cost="small loss; slow kernels",
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

SEARCH_COST = "a search; slower than int8"


def split_spec(splitting: str) -> Spec:
    """Activations held twice: int8 throughout, for more multiplications, as many as `splitting` (a
    field of QualityRequest) allows."""
    open_choice = splitting in ("auto", "off")
    factor = SPLIT_FOR_ACCURACY if open_choice else splitting
    return Spec(scheme="int8", quality={"splitting": factor})


def split_cost(spec: Spec) -> str:
    """The most that holding activations twice may cost, beside the search for them."""
    limit = QualityRequest(**spec.quality).split_limit
    return f"a search; up to {limit:g} times the work of int8"


def training_cost(techniques: tuple[str, ...]) -> str:
    """What training for these costs: time for all, accuracy for what makes downloads smaller."""
    loss = {"prune", "cluster"}.intersection(techniques) and "qat" not in techniques
    return "training time; some accuracy" if loss else "training time"
