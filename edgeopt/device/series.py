"""Series: the processes of one or more variants on one device, one after the other, never two."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from edgeopt.device.device import Device
from edgeopt.device.enough import Done, Step, next_step
from edgeopt.device.run import RunRequest, RunResult
from edgeopt.device.runner import run
from edgeopt.effort import Effort
from edgeopt.errors import DeviceError, EdgeoptError
from edgeopt.measurement import ProcessRun, measure
from edgeopt.progress import Progress, Silent

__all__ = ["Ran", "Variant", "run_series"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model to measure. Of the request the series sets `runs`, `time_s`, `max_runs`, `warmup`."""

    name: str
    request: RunRequest


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One process that ended: `number` counts the variant's from 0. `valid` when it counts.

    `began_s` is by the host's monotonic clock; `seconds` from the process's start to its end.
    """

    variant: str
    number: int
    result: RunResult
    process: ProcessRun
    began_s: float
    seconds: float
    valid: bool
    complete: bool = True  # False: cut off, with the runs that had arrived


OnProcess = Callable[[Ran], None]


def run_series(
    device: Device,
    variants: Sequence[Variant],
    effort: Effort,
    progress: Progress,
    on_process: OnProcess,
    *,
    judged: bool = True,
    order: list[str] | None = None,
) -> dict[str, EdgeoptError]:
    """Measure the variants, in rounds of random order, until all of them have had enough: one
    that leaves the alternation early could not be compared with what the others see after it.

    Every process goes to `on_process` at once, so that nothing is lost by what comes later. A
    variant that fails has its error in the result, and the others go on. With `judged` False
    disturbed processes count. `order` gets the variants' names as their processes are started.
    Only the first process of a variant computes outputs.
    """
    errors: dict[str, EdgeoptError] = {}
    order = [] if order is None else order
    source = random.Random(effort.seed)
    waiting: dict[str, _Runner] = {}
    for variant in variants:
        waiting[variant.name] = _Runner(device, variant, effort, order, on_process, judged)
    show = _Shown(progress, device, len(variants))
    # What is on the device stays until the last process, also where it may not be kept.
    with device.workspace.discarding():
        while waiting:
            names = list(waiting)
            source.shuffle(names)
            for name in names:
                try:
                    met = all(runner.met for runner in waiting.values())
                    more = waiting[name].process(show, met=met)
                except EdgeoptError as error:
                    errors[name] = error
                    more = False
                if not more:
                    del waiting[name]
    return errors


@dataclass
class _Runner:
    device: Device
    variant: Variant
    effort: Effort
    order: list[str]
    on_process: OnProcess
    judged: bool
    done: list[Done] = field(default_factory=list)
    met: bool = False  # its median is as sure as asked

    def process(self, show: _Shown, *, met: bool) -> bool:
        """Run the next process; False when there have been enough, or another has the device.
        `met`: all medians are as sure as asked."""
        if self._lost():
            return False
        request, name = self.variant.request, self.variant.name
        step = next_step(self.effort, self.done, met=met, deadline_s=request.timeout_s)
        if step is None:
            return False
        number = len(self.done)
        self.order.append(name)
        began = time.monotonic()
        try:
            shown = show.process(name, number, self.effort)
            result = run(self.device, _asked(request, step, self.effort, number), shown)
        except EdgeoptError as error:
            if isinstance(error.reached, RunResult):
                self._take(error.reached, began, complete=False)
            raise
        self._take(result, began)
        return True

    def _lost(self) -> bool:
        """Has the lease ended? What was measured under it is kept, and says so; whoever has the
        device now is not disturbed. Raises DeviceError where nothing was measured yet."""
        lost = self.device.held.check() if self.device.held else ""
        if lost and not self.done:
            raise DeviceError(
                f"{self.device.transport.name} may be another's now: its lease was lost ({lost}).",
                "Try again: edgeopt devices leases shows who has it.",
            )
        return bool(lost)

    def _take(self, result: RunResult, began_s: float, *, complete: bool = True) -> None:
        number, seconds = len(self.done), time.monotonic() - began_s
        seconds = result.seconds if result.seconds is not None else seconds
        process = ProcessRun(
            warmup_ns=result.warmup_ns,
            samples_ns=result.samples_ns,
            summary_ns=result.summary_ns,
            first_ns=result.first_ns,
            init_ns=result.init_ns,
            peak_rss_bytes=result.peak_rss_bytes,
            base_rss_bytes=result.base_rss_bytes,
            conditions=result.conditions,
            invalid_reasons=result.invalid_reasons,
        )
        valid = complete and (not self.judged or measure(processes=[process]).valid)
        self.done.append(Done(process=process, seconds=seconds, valid=valid))
        self.met = self._met()
        ran = Ran(
            variant=self.variant.name,
            number=number,
            result=result,
            process=process,
            began_s=began_s,
            seconds=seconds,
            valid=valid,
            complete=complete,
        )
        self.on_process(ran)

    def _met(self) -> bool:
        valid = [d.process for d in self.done if d.valid]
        if self.effort.runs is not None or len(valid) < self.effort.processes:
            return False
        stats = measure(processes=valid, judged=False).stats
        if valid[0].samples_ns is None:  # a runtime that tells of no single run
            ends, middle = stats.mean_ci95_ns, stats.mean_ns
        else:
            ends, middle = stats.ci95_ns, stats.median_ns
        if ends is None or not middle:
            return False
        return ends[1] - ends[0] <= self.effort.precision * middle


def _asked(request: RunRequest, step: Step, effort: Effort, number: int) -> RunRequest:
    return replace(
        request,
        runs=step.runs,
        time_s=step.time_s,
        max_runs=step.max_runs,
        warmup=effort.warmup,
        want_outputs=request.want_outputs and number == 0,
    )


class _Shown:
    """Progress of a series: a variant's first process says what is sent, then they are counted."""

    def __init__(self, progress: Progress, device: Device, variants: int) -> None:
        self.progress, self.variants = progress, variants
        self.name = device.transport.name
        self.count = 0
        self.counting = False

    def process(self, name: str, number: int, effort: Effort) -> _Process:
        self.count += 1
        if number == 0:
            self.counting = False
            return _Process(self.progress, name if self.variants > 1 else "")
        if not self.counting:
            self.counting = True
            self.progress.stage(f"Repeat in other processes on {self.name}", None, "processes")
        expected = effort.started * self.variants
        self.progress.advance(self.count, max(expected, self.count))
        return _Process(Silent(), "")


class _Process:
    """Progress of one process, which says which variant it is about where there are several."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name
        self.advance, self.note = progress.advance, progress.note

    def stage(self, text: str, total: int | None = None, unit: str = "") -> None:
        self._progress.stage(f"{self._name}: {text}" if self._name else text, total, unit)
