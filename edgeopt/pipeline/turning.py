"""Variants that were measured one process each, held against each other in turns as well."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING

from edgeopt.measurement.turns import Turns

if TYPE_CHECKING:
    from edgeopt.device import Device
    from edgeopt.effort import Effort
    from edgeopt.pipeline.measuring import Measuring

__all__ = ["turned"]


def turned(
    parts: Sequence[Measuring],
    device: Device,
    effort: Effort,
    told: Callable[[Turns], None],
    *,
    failed: Container[str],
) -> None:
    """`told` hears the turns of what was measured and may be believed, as they come in, or why
    there are none. `failed` are the names of those that had an error."""
    from edgeopt.device.turns import take_turns

    session = parts[0].session
    ready = [p for p in parts if p.ran and p.name not in failed and p.valid(device, effort)]
    if note := _why_not(ready, device, effort):
        told(Turns(names=tuple(part.name for part in parts), note=note))
        return
    judged = session.job.conditions == "judge"
    take_turns(
        device, [part.variant for part in ready], effort, session.progress, told, judged=judged
    )


def _why_not(ready: Sequence[Measuring], device: Device, effort: Effort) -> str:
    from edgeopt.device.turns import can_take_turns, too_slow

    if effort.runs is not None:
        return "an exact number of runs was asked for"
    if effort.processes < 2:
        return "one process was asked for"
    if len(ready) < 2:
        return "fewer than two models could be measured and believed"
    if not can_take_turns(device, [part.request for part in ready]):
        return "only models on a CPU, run by the Python agent, can take turns"
    return too_slow([part.typical_s(device, effort) for part in ready], effort)
