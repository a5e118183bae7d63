"""Variants that were measured one process each, held against each other in turns as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeopt.measurement.turns import Turns

if TYPE_CHECKING:
    from edgeopt.device import Device
    from edgeopt.effort import Effort
    from edgeopt.pipeline.measuring import Measuring

__all__ = ["turned"]


def turned(parts: Sequence[Measuring], device: Device, effort: Effort) -> Turns:
    """The turns of what could be measured; none, with a note, where it is not to be had.

    An exact number of runs (--runs) asks for no more of them.
    """
    from edgeopt.device.turns import can_take_turns, take_turns

    session, names = parts[0].session, tuple(part.name for part in parts)
    ready = [part for part in parts if part.ran]
    if effort.runs is not None or effort.processes < 2:
        return Turns(names=names, note="an exact number of runs or one process was asked for")
    if not can_take_turns(device, [part.request for part in ready]):
        return Turns(names=names, note="only models on a CPU, by the Python agent, can")
    judged = session.job.conditions == "judge"
    return take_turns(
        device, [part.variant for part in ready], effort, session.progress, judged=judged
    )
