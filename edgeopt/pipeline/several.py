"""Verbs on several devices: what the devices share is made once, the rest a device each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from edgeopt.device.selection import Chosen, Selection
from edgeopt.errors import EdgeoptError, InputError
from edgeopt.job import Job
from edgeopt.pipeline import candidates, evaluating, flow, profiling
from edgeopt.pipeline.destination import settle_device
from edgeopt.pipeline.fleet import Fleet
from edgeopt.pipeline.references import References
from edgeopt.pipeline.session import Session
from edgeopt.progress import Progress, Several
from edgeopt.report import Report
from edgeopt.report.fleet import FleetReport
from edgeopt.store import Store
from edgeopt.target import load_target

__all__ = ["benchmark_all", "deploy_all", "each_device", "evaluate_all", "plan_all"]

Told = Callable[[FleetReport], None]
Verb = Callable[[Job, Progress], Any]


def deploy_all(
    job: Job,
    selection: Selection,
    store: Store,
    show: Several,
    *,
    jobs: int | None = None,
    told: Told | None = None,
) -> FleetReport:
    """Convert, verify and compile once a target; push, run, compare and measure on each device.

    The devices of a target that is made already work while the next one is made. Raises the error
    of the worst row, with the FleetReport in `reached`; Ctrl-C carries it too.
    """
    _refuse(job)
    references = References()
    with Fleet(selection, show, jobs=jobs, told=told) as fleet:
        groups = _by_target(selection.devices, job.target)
        for target, devices in groups.items():
            own = _job(job, target, devices, several=len(groups) > 1)
            session = _made(own, devices, store, fleet)
            if session is None:
                continue
            for chosen in devices:
                if not job.run:
                    fleet.settle(chosen, session.report)
                elif chosen.spec.name not in fleet.settled:
                    fleet.start(chosen, partial(_deploy_one, session, chosen, references))
        return fleet.finish()


def plan_all(job: Job, selection: Selection, store: Store, show: Several) -> FleetReport:
    """Only decide, for each target that the devices have."""
    with Fleet(selection, show) as fleet:
        for target, devices in _by_target(selection.devices, job.target).items():
            own = replace(job, target=target, device=devices[0].spec.name)
            try:
                report = flow.plan(own, store, show.host)
            except EdgeoptError as error:
                _all_failed(fleet, devices, error)
                continue
            for chosen in devices:
                fleet.settle(chosen, report)
        return fleet.finish()


def benchmark_all(
    job: Job,
    selection: Selection,
    store: Store,
    show: Several,
    *,
    jobs: int | None = None,
    told: Told | None = None,
) -> FleetReport:
    """Run a .tflite as it is on each device."""
    references = References()

    def work(own: Job, progress: Progress) -> Report:
        return flow.benchmark(own, store, progress, references)

    return each_device(job, selection, show, work, jobs=jobs, told=told)


def evaluate_all(
    job: Job,
    selection: Selection,
    store: Store,
    show: Several,
    *,
    jobs: int | None = None,
    **more: Any,
) -> FleetReport:
    """Measure the accuracy of a model on each device itself, as evaluate --on-device does."""
    if not job.on_device:
        raise InputError(
            "Without --on-device nothing runs on a device, and several of them have no meaning.",
            "Add --on-device, or leave --device out.",
        )

    def work(own: Job, progress: Progress) -> dict[str, Any]:
        return evaluating.evaluate(own, store, progress, **more)

    return each_device(job, selection, show, work, jobs=jobs)


def each_device(
    job: Job,
    selection: Selection,
    show: Several,
    work: Verb,
    *,
    jobs: int | None = None,
    told: Told | None = None,
) -> FleetReport:
    """The same verb for each device, as it would run for that device alone."""
    with Fleet(selection, show, jobs=jobs, told=told) as fleet:
        for chosen in selection.devices:
            own = replace(job, device=chosen.spec.name)
            fleet.start(chosen, partial(work, own))
        return fleet.finish()


def _refuse(job: Job) -> None:
    if job.on_device and candidates.wanted(job):
        raise InputError(
            "An accuracy budget is searched with the accuracy of one place, and several devices "
            "would each judge by their own.",
            "Leave --on-device out, name one --scheme, or name one device.",
        )


def _by_target(devices: Sequence[Chosen], asked: str | None) -> Mapping[str, list[Chosen]]:
    """The devices by the target that they are to get: the one asked for, else their own."""
    groups: dict[str, list[Chosen]] = {}
    for chosen in devices:
        groups.setdefault(asked or chosen.spec.target or "cpu", []).append(chosen)
    return groups


def _job(job: Job, target: str, devices: Sequence[Chosen], *, several: bool) -> Job:
    """The job of one target. With several, each has a folder of its own in --output."""
    output = job.output
    if several and output is not None:
        if output.suffix == ".tflite":
            raise InputError(
                f"--output {output} names one file, and the devices have several targets.",
                "Give a folder, or one --target for all.",
            )
        output /= load_target(target).name
    return replace(job, target=target, device=devices[0].spec.name, output=output)


def _made(job: Job, devices: Sequence[Chosen], store: Store, fleet: Fleet) -> Session | None:
    """What all `devices` of a target run; None where nothing could be made, which their rows tell.

    A device that cannot run it is told so before any long work.
    """
    try:
        session = flow.planned(Session(job, store, fleet.show.host))
        if job.run:
            left = [chosen for chosen in devices if _reachable(session, chosen, fleet)]
            if not left:
                return None
        return flow.made(session)
    except EdgeoptError as error:
        _all_failed(fleet, devices, error)
        return None


def _reachable(session: Session, chosen: Chosen, fleet: Fleet) -> bool:
    try:
        own = session.on(chosen.spec.name, session.progress, References())
        settle_device(own)
        profiling.check(own)
    except EdgeoptError as error:
        fleet.settle(chosen, replace(session.report, failure=error.to_json()), error)
        return False
    return True


def _all_failed(fleet: Fleet, devices: Sequence[Chosen], error: EdgeoptError) -> None:
    for chosen in devices:
        if chosen.spec.name not in fleet.settled:
            fleet.settle(chosen, error.reached, error)


def _deploy_one(
    made: Session, chosen: Chosen, references: References, progress: Progress
) -> Report:
    return flow.deploy_made(made.on(chosen.spec.name, progress, references))
