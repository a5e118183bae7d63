"""Let several models take turns in the same processes, so that their times can be held against each
other closely on a device whose own pace moves."""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Callable, Sequence
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

__all__ = ["can_take_turns", "take_turns", "too_slow"]

_TIME_S = 0.5  # of each model in each process
_LEAST = 8  # processes: fewer have no interval at 99%
_MOST = 100
_MOST_NS = 10**15
_MOST_CYCLES = 2000
_MADE = 12  # runs of a long model in a process: at least seven cycles, and the warm-up


def can_take_turns(device: Device, requests: Sequence[RunRequest]) -> bool:
    """Is there more than one, on the CPU, by the agent? An Edge TPU holds one model at a time."""
    plain = [
        request.accelerator == "cpu" and runtime_of(device, request) == "litert"
        for request in requests
    ]
    return len(plain) > 1 and all(plain)


def too_slow(typical_s: Sequence[float], effort: Effort) -> str:
    """Why models of these latencies need not begin: so many processes would not fit the time."""
    each = _MADE * sum(typical_s)
    if _LEAST * each <= effort.max_time_s * len(typical_s):
        return ""
    return f"no time for {_LEAST} processes of at least {each:.3g} s (--max-time)"


def take_turns(
    device: Device,
    variants: Sequence[Variant],
    effort: Effort,
    progress: Progress,
    told: Callable[[Turns], None],
    *,
    judged: bool = True,
) -> None:
    """Processes in which the variants take turns, until each one's interval against the first is
    as narrow as the threshold of `compare` is wide, or `effort.max_time_s` for each is over.

    `told` hears what there is after every process, so that nothing is lost by what comes later.
    What stands in the way is no error, since the variants have been measured: it is in `note`.
    """
    names = tuple(variant.name for variant in variants)
    max_time_s = effort.max_time_s * len(variants)
    done: list[TurnProcess] = []
    began, dearest = time.monotonic(), 0.0

    def tell(note: str) -> Turns:
        found = Turns(names=names, processes=tuple(done), judged=judged, note=note)
        told(found)
        return found

    progress.stage(f"Take turns on {device.transport.name}", None, "processes")
    with device.workspace.discarding():
        for number in range(_MOST):
            so_far = tell("stopped")
            good, spent = len(so_far.counted), time.monotonic() - began
            if good >= _LEAST and _sure(so_far):
                tell("")
                return
            if number and spent + max(1, _LEAST - good) * dearest > max_time_s:
                tell("" if good >= _LEAST else _too_few(done, good, dearest))
                return
            try:
                made = _process(device, variants, _order(len(variants), effort.seed, number))
            except EdgeoptError as error:
                tell(error.message)
                return
            if lost := device.held.check() if device.held else "":
                tell(f"the device may be another's now: {lost}")  # and was, perhaps, meanwhile
                return
            done.append(made)
            dearest = max(dearest, time.monotonic() - began - spent)
            progress.advance(number + 1, max(_LEAST, number + 1))
        tell("" if good >= _LEAST else f"{_MOST} processes were started")


def _order(models: int, seed: int, number: int) -> tuple[random.Random, tuple[int, ...]]:
    """A source for this process, and the order in which its models are loaded: random in every even
    one and the other way round in the next, so that no model is mostly first."""
    places = list(range(models))
    random.Random(f"{seed} {number // 2}").shuffle(places)
    return random.Random(f"{seed} turns {number}"), tuple(places[:: -1 if number % 2 else 1])


def _too_few(done: Sequence[TurnProcess], good: int, dearest: float) -> str:
    """Why there will not be enough processes in the time that is left."""
    of = f"{_LEAST} processes of {dearest:.3g} s (--max-time)"
    disturbed = [process.invalid_reasons[0] for process in done if process.invalid_reasons]
    if len(done) == good:
        return f"no time for {of}"
    return f"{len(done) - good} of {len(done)} were disturbed ({disturbed[0]}), no time for {of}"


def _sure(turns: Turns) -> bool:
    first, *others = turns.names
    ends = [centre_interval(turns.log_ratios(first, other), CONFIDENCE) for other in others]
    return all(e is not None and math.expm1(e[1] - e[0]) <= THRESHOLD for e in ends)


def _process(
    device: Device, variants: Sequence[Variant], order: tuple[random.Random, tuple[int, ...]]
) -> TurnProcess:
    """Raises what a run raises, and DeviceError for an answer that is not one."""
    first, *others = (variant.request for variant in variants)
    source, loaded = order
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for number, other in enumerate(others):
            own = Path(folder) / str(number)
            own.mkdir()
            placed = _place(device, other, Silent(), own)
            rows.append(
                {"model": placed.model, "model_sha256": other.sha256, "inputs": placed.inputs}
            )
        seed = source.randrange(1 << 31)
        asked = {"others": rows, "loaded": loaded, "time_s": _TIME_S, "seed": seed}
        fields = ask(device, first, "turns", asked, Silent()).fields
    conditions = told(fields.get("conditions"))
    return TurnProcess(
        medians_ns=_medians(device.transport.name, fields.get("medians_ns"), len(variants)),
        runs=_counts(device.transport.name, fields.get("runs"), len(variants)),
        loaded=loaded,
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
