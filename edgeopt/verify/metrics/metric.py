"""Metric: what accuracy means, in two halves: one sample's observation, then one number of all.

`observe` runs in the worker processes and answers with plain JSON values; `score` runs once, over
the observations in the order of the samples, so that no number depends on how many workers there
were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Metric", "Score", "mean_error", "mean_of"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """`value` in the metric's unit. `standard_error` is None where one sample or no formula says
    nothing. `more` are further figures of the same observations; `notes` are for the user."""

    value: float
    standard_error: float | None
    more: Mapping[str, float | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Metric:
    """`target` is the kind of target that `observe` compares with (see dataset.Targets.of).

    `decoders` are the names of those that make what it needs of outputs, the usual one first.
    `library` is (module, package) of what `score` needs beyond the core.
    """

    name: str
    target: str
    decoders: tuple[str, ...]
    observe: Callable[[Any, Any], Any]
    score: Callable[[Sequence[Any]], Score]
    higher_is_better: bool = True
    library: tuple[str, str] | None = None


def mean_of(values: Sequence[float]) -> float:
    """The mean, summed exactly (math.fsum): the same whatever the order."""
    return math.fsum(values) / len(values)


def mean_error(values: Sequence[float]) -> float | None:
    """Standard error of the mean of independent values: s / sqrt(n), s with n - 1."""
    count = len(values)
    if count < 2:
        return None
    middle = mean_of(values)
    spread = math.fsum((v - middle) ** 2 for v in values) / (count - 1)
    return math.sqrt(spread / count)
