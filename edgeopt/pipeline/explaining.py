"""Explanations with what each repair would win: placement and catalogue joined."""

from __future__ import annotations

from collections.abc import Iterable

from edgeopt.facts import ModelFacts
from edgeopt.findings import Placement
from edgeopt.profile import HardwareProfile
from edgeopt.repair import Explanation, explain
from edgeopt.verify.partition import Choice
from edgeopt.verify.placement import survey

__all__ = ["explanations", "gains", "mapped_with"]

_MOST_WORK = 4_000_000  # operations looked at for all the questions "what if": seconds, not minutes


def explanations(
    facts: ModelFacts, placement: Placement | None, profile: HardwareProfile
) -> tuple[Explanation, ...]:
    """Why each operation is on the CPU and what maps it; empty where there is no placement."""
    if placement is None or not profile.accelerated or facts.format != "tflite":
        return ()
    if placement.source == "compiled_file":
        return explain(facts, placement, profile, {})
    return explain(facts, placement, profile, gains(facts, profile))


def gains(facts: ModelFacts, profile: HardwareProfile) -> dict[int, int | None]:
    """For each refused operation of the main subgraph: by how many more operations the accelerator
    would run, were that one supported. The prediction is made again, the rest as it is; None where
    a model has too many for that."""
    what_if = _WhatIf(facts, profile)
    refused = [index for index, taken in enumerate(what_if.supported) if not taken]
    if len(refused) * len(what_if.supported) > _MOST_WORK:
        return dict.fromkeys(refused)
    now = len(what_if.mapped(()))
    return {index: len(what_if.mapped((index,))) - now for index in refused}


def mapped_with(
    facts: ModelFacts, profile: HardwareProfile, supported: Iterable[int]
) -> frozenset[int]:
    """The operations that would be mapped, were these supported too."""
    return _WhatIf(facts, profile).mapped(supported)


class _WhatIf:
    """The prediction of a model, to be made again with more operations supported."""

    def __init__(self, facts: ModelFacts, profile: HardwareProfile) -> None:
        found = survey(facts, profile)
        self.supported = [verdict.supported for verdict in found.judged]
        self._choice = Choice(found.graph, profile.partition.pick)

    def mapped(self, more: Iterable[int]) -> frozenset[int]:
        taken = list(self.supported)
        for index in more:
            taken[index] = True
        return self._choice.of(taken)
