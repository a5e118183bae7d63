"""What every estimator takes and gives. One for each compiler, in the registry's "estimators":

    estimate(facts, placement, profile, options) -> Estimate | None

The placement comes in as an argument, so that estimating stays apart from predicting. None means
that there is nothing to say: no operation is mapped, or the file has no sizes. An estimator never
runs a model and raises EdgeoptError only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgeopt.facts import ModelFacts
from edgeopt.findings import Placement
from edgeopt.profile import HardwareProfile

__all__ = ["Advice", "Choice", "Estimate", "EstimateOptions", "Estimator", "Latency", "Memory"]

_DIGITS = 4  # of milliseconds in JSON


@dataclass(frozen=True, kw_only=True)
class EstimateOptions:
    """`host` names what the accelerator is attached to (None: the estimator's default); `beside`
    are models that would be compiled together with this one, with their placements."""

    host: str | None = None
    beside: tuple[tuple[ModelFacts, Placement], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Parameter memory in bytes as the compiler will lay it out, padding included.

    `on_chip` stays on the chip between inferences, `off_chip` crosses the link with each one.
    `limit` is the cache that is expected to be left beside activations, between `limit_low` and
    `limit_high`; `fits` is "yes" below all of that range, "no" above it, else "uncertain".
    `activations` is the most that intermediate results need at once, None where not estimated.
    """

    on_chip: int
    off_chip: int
    limit: int
    limit_low: int
    limit_high: int
    fits: str
    activations: int | None = None
    low: int | None = None  # of on_chip + off_chip, from the estimator's known errors
    high: int | None = None

    @property
    def total(self) -> int:
        return self.on_chip + self.off_chip

    def to_json(self) -> dict[str, Any]:
        return {
            "on_chip": self.on_chip,
            "off_chip": self.off_chip,
            "total": self.total,
            "total_interval": None if self.low is None else [self.low, self.high],
            "limit_bytes": self.limit,
            "limit_interval": [self.limit_low, self.limit_high],
            "fits": self.fits,
            "activations": self.activations,
            "source": "estimate",
        }


@dataclass(frozen=True, kw_only=True)
class Latency:
    """One inference in milliseconds. `low` to `high` is meant to hold the share `coverage` of
    models like those of `data`; `terms` add up to `value`, and `bound` names the largest.

    `extrapolated` lists what is outside of the data that the estimate was fitted to; the interval
    is wider then, and `coverage` None: how many models it holds is not known.
    """

    value_ms: float
    low_ms: float
    high_ms: float
    host: str
    terms_ms: Mapping[str, float]
    bound: str
    reason: str
    coverage: float | None
    data: str
    extrapolated: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "value": round(self.value_ms, _DIGITS),
            "low": round(self.low_ms, _DIGITS),
            "high": round(self.high_ms, _DIGITS),
            "coverage": self.coverage,
            "host": self.host,
            "terms": {name: round(ms, _DIGITS) for name, ms in self.terms_ms.items()},
            "bound": self.bound,
            "reason": self.reason,
            "extrapolated": list(self.extrapolated),
            "data": self.data,
            "source": "estimate",
        }


@dataclass(frozen=True, kw_only=True)
class ToldLatency:
    """A time that a tool states without an interval: null in JSON, where Latency has one."""

    value_ms: float
    host: str
    terms_ms: Mapping[str, float]
    bound: str
    reason: str
    data: str

    def to_json(self) -> dict[str, Any]:
        told = Latency(**vars(self), low_ms=0, high_ms=0, coverage=None).to_json()
        return {**told, "low": None, "high": None}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One way to go, with its estimate: milliseconds per inference, and inferences per second
    where several devices work at once (None: one after the other)."""

    name: str
    latency_ms: float
    low_ms: float
    high_ms: float
    per_second: float | None = None
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "latency_ms": {
                "value": round(self.latency_ms, _DIGITS),
                "low": round(self.low_ms, _DIGITS),
                "high": round(self.high_ms, _DIGITS),
            },
            "per_second": None if self.per_second is None else round(self.per_second, _DIGITS),
            "detail": self.detail,
        }


@dataclass(frozen=True, kw_only=True)
class Advice:
    """`kind` is an identifier ("streaming", "segments", "co-compile", "tail" ...), `text` what to
    do in one or two sentences, `choices` what each way would take; all of it estimated."""

    kind: str
    text: str
    choices: tuple[Choice, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "text": self.text,
            "choices": [choice.to_json() for choice in self.choices],
        }


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """All that is estimated for one model; `latency` is None where nothing was fitted for it.

    `memory_bytes` is what the model takes of each kind of memory, by name, where the estimator
    tells that rather than `memory`, `told` a time without interval, `figures` its own as they are.
    """

    estimator: str
    memory: Memory | None = None
    latency: Latency | None = None
    advice: tuple[Advice, ...] = ()
    notes: tuple[str, ...] = field(default=())
    told: ToldLatency | None = None
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "source": "estimate",
            "estimator": self.estimator,
            "parameter_bytes": self.memory.to_json() if self.memory else None,
            "latency_ms": latency.to_json() if (latency := self.latency or self.told) else None,
            "advice": [item.to_json() for item in self.advice],
            "notes": list(self.notes),
            "memory_bytes": dict(self.memory_bytes) or None,
            "figures": dict(self.figures) or None,
        }


class Estimator(Protocol):
    """Raises InputError for a host that it does not know."""

    def __call__(
        self,
        facts: ModelFacts,
        placement: Placement,
        profile: HardwareProfile,
        options: EstimateOptions,
        /,
    ) -> Estimate | None: ...
