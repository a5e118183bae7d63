"""Let several models take turns in the same processes, so that their times can be held against each
other closely on a device whose own pace moves."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from edgeopt.device.conditions import compact, judge
from edgeopt.device.device import Device
from edgeopt.device.printable import clean_text
from edgeopt.device.profiling.answer import refuse, whole_numbers
from edgeopt.device.python_runner.ask import ask
from edgeopt.device.python_runner.runner import _place
from edgeopt.device.run import RunRequest
from edgeopt.device.runner import runtime_of
from edgeopt.device.series import Variant
from edgeopt.device.told import told
from edgeopt.effort import Effort
from edgeopt.errors import EdgeoptError
from edgeopt.measurement.comparison import CONFIDENCE, THRESHOLD
from edgeopt.measurement.ranks import centre_interval
from edgeopt.measurement.turns import TurnProcess, Turns
from edgeopt.progress import Progress, Silent

__all__ = ["can_take_turns", "take_turns"]

_TIME_S = 0.5  # of each model in each process
_LEAST = 8  # processes: fewer have no interval at 99%
_MOST = 100
_MOST_NS = 10**15
_MOST_CYCLES = 2000


def can_take_turns(device: Device, requests: Sequence[RunRequest]) -> bool:
    """Is there more than one, on the CPU, by the agent? An Edge TPU holds one model at a time."""
    plain = [
        request.accelerator == "cpu" and runtime_of(device, request) == "litert"
        for request in requests
    ]
    return len(plain) > 1 and all(plain)


def take_turns(
    device: Device,
    variants: Sequence[Variant],
    effort: Effort,
    progress: Progress,
    *,
    judged: bool = True,
) -> Turns:
    """Processes in which the variants take turns, until each one's interval against the first is
    as narrow as the threshold of `compare` is wide, or `effort.max_time_s` for each is over.

    What stands in the way is no error, since the variants have been measured: it is in `note`, with
    the processes before it.
    """
    names = tuple(variant.name for variant in variants)
    done: list[TurnProcess] = []
    began, dearest, note = time.monotonic(), 0.0, ""
    max_time_s = effort.max_time_s * len(variants)
    progress.stage(f"Take turns on {device.transport.name}", None, "processes")
    with device.workspace.discarding():
        for number in range(_MOST):
            good = sum(not (judged and process.invalid_reasons) for process in done)
            spent = time.monotonic() - began
            if good >= _LEAST and _sure(Turns(names=names, processes=tuple(done), judged=judged)):
                break
            if number and spent + max(1, _LEAST - good) * dearest > max_time_s:
                if good < _LEAST:
                    note = _too_few(done, good, dearest)
                break
            if lost := device.held.check() if device.held else "":
                note = f"the device may be another's now: {lost}"
                break
            try:
                done.append(_process(device, variants, effort.seed + number))
            except EdgeoptError as error:
                note = error.message
                break
            dearest = max(dearest, time.monotonic() - began - spent)
            progress.advance(number + 1, max(_LEAST, number + 1))
    return Turns(names=names, processes=tuple(done), judged=judged, note=note)


def _too_few(done: Sequence[TurnProcess], good: int, dearest: float) -> str:
    """Why there will not be enough processes in the time that is left."""
    of = f"{_LEAST} processes of {dearest:.2g} s (--max-time)"
    disturbed = [process.invalid_reasons[0] for process in done if process.invalid_reasons]
    if len(done) == good:
        return f"no time for {of}"
    return f"{len(done) - good} of {len(done)} were disturbed ({disturbed[0]}), no time for {of}"


def _sure(turns: Turns) -> bool:
    first, *others = turns.names
    ends = [centre_interval(turns.log_ratios(first, other), CONFIDENCE) for other in others]
    return all(e is not None and math.expm1(e[1] - e[0]) <= THRESHOLD for e in ends)


def _process(device: Device, variants: Sequence[Variant], seed: int) -> TurnProcess:
    """Raises what a run raises, and DeviceError for an answer that is not one."""
    first, *others = (variant.request for variant in variants)
    with tempfile.TemporaryDirectory() as folder:
        rows, numbers = [], count()
        for other in others:
            own = Path(folder) / str(next(numbers))
            own.mkdir()
            placed = _place(device, other, Silent(), own)
            rows.append(
                {"model": placed.model, "model_sha256": other.sha256, "inputs": placed.inputs}
            )
        asked = {"others": rows, "time_s": _TIME_S, "seed": seed}
        fields = ask(device, first, "turns", asked, Silent()).fields
    conditions = told(fields.get("conditions"))
    return TurnProcess(
        medians_ns=_medians(device.transport.name, fields.get("medians_ns"), len(variants)),
        runs=_counts(device.transport.name, fields.get("runs"), len(variants)),
        invalid_reasons=tuple(clean_text(reason, 300) for reason in judge(conditions)),
        conditions=compact(conditions),
    )


def _medians(name: str, found: Any, models: int) -> tuple[tuple[int, ...], ...]:
    if not isinstance(found, list) or not 0 < len(found) <= _MOST_CYCLES:
        refuse(name, "medians_ns", found)
    rows = tuple(whole_numbers(name, "medians_ns", row, 1, _MOST_NS) for row in found)
    if any(len(row) != models for row in rows):
        refuse(name, "medians_ns", "of another number of models")
    return rows


def _counts(name: str, found: Any, models: int) -> tuple[int, ...]:
    runs = whole_numbers(name, "runs", found, 1, _MOST_NS)
    if len(runs) != models:
        refuse(name, "runs", found)
    return runs
