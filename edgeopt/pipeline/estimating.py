"""Estimates of a model that is not compiled yet, by the estimator of the target's compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt import registry
from edgeopt.errors import InputError
from edgeopt.facts import ModelFacts
from edgeopt.findings import Placement
from edgeopt.target import Target

if TYPE_CHECKING:
    from edgeopt.estimate import Estimate

__all__ = ["estimate_compiled", "estimate_for", "estimate_json"]


def estimate_for(
    facts: ModelFacts,
    placement: Placement | None,
    target: Target,
    *,
    host: str | None = None,
    beside: Sequence[Path] = (),
) -> Estimate | None:
    """None where there is no estimator for the target's compiler, or nothing to estimate.

    `host` overrides what the target says it is attached to; `beside` are models that take turns
    with this one. Raises InputError for an unknown host or a target without an estimator where
    either was asked for, ModelError for an unreadable model.
    """
    if placement is None or target.compiler not in registry.names("estimators"):
        if host is not None or beside:
            raise InputError(
                f"There is nothing to estimate for {target.name}: no estimator knows its compiler.",
                "Leave --host and --beside out, or give another --target.",
            )
        return None
    from edgeopt.estimate import EstimateOptions

    options = EstimateOptions(
        host=host or target.attached, beside=tuple(_placed(path, target) for path in beside)
    )
    found: Estimate | None = registry.load("estimators", target.compiler)(
        facts, placement, target.profile, options
    )
    return found


def estimate_json(
    facts: ModelFacts,
    placement: Placement | None,
    target: Target,
    *,
    host: str | None = None,
    beside: Sequence[Path] = (),
) -> dict[str, Any] | None:
    """The `estimate` object of a report, with the errors of `estimate_for`."""
    found = estimate_for(facts, placement, target, host=host, beside=beside)
    return found.to_json() if found else None


def estimate_compiled(
    details: Mapping[str, Any], placement: Placement | None, target: Target
) -> dict[str, Any] | None:
    """What the compiler itself estimates, from the `details` of its result; None where nothing."""
    if target.compiler not in registry.names("compiler_estimates"):
        return None
    read = registry.load("compiler_estimates", target.compiler)
    found: Estimate | None = read(details, placement.ops_cpu if placement else 0)
    return found.to_json() if found else None


def _placed(path: Path, target: Target) -> tuple[ModelFacts, Placement]:
    from edgeopt.model import read
    from edgeopt.verify import predict

    facts = read(path)
    placement = predict(facts, target.profile)
    if placement is None or not placement.ops_mapped or placement.source != "predicted":
        raise InputError(
            f"{path} has nothing to estimate for {target.name}.",
            "Give quantized .tflite models from before compiling.",
        )
    return facts, placement
