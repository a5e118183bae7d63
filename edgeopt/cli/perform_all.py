"""Run a verb on several devices and show what came of each, also when it ends early."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.cli import output
from edgeopt.errors import EdgeoptError
from edgeopt.report.fleet import FleetReport

if TYPE_CHECKING:
    from edgeopt.cli.fleet_options import Devices
    from edgeopt.job import Job
    from edgeopt.progress import Several

    Told = Callable[[FleetReport], None]

__all__ = ["benchmark_several", "deploy_several", "evaluate_several", "perform_all"]


def deploy_several(
    job: Job, devices: Devices, *, dry_run: bool, as_json: bool, report: Path | None
) -> None:
    """deploy, or with `dry_run` only its plan."""
    from edgeopt.pipeline.several import deploy_all, plan_all
    from edgeopt.store import Store

    def work(show: Several, told: Told) -> FleetReport:
        if dry_run:
            return plan_all(job, devices.selection, Store(), show)
        chosen, jobs = devices.selection, devices.jobs
        return deploy_all(job, chosen, Store(), show, jobs=jobs, told=told)

    perform_all("deploy", work, devices, as_json=as_json, report=report)


def benchmark_several(job: Job, devices: Devices, *, as_json: bool, report: Path | None) -> None:
    from edgeopt.pipeline.several import benchmark_all
    from edgeopt.store import Store

    def work(show: Several, told: Told) -> FleetReport:
        chosen, jobs = devices.selection, devices.jobs
        return benchmark_all(job, chosen, Store(), show, jobs=jobs, told=told)

    perform_all("benchmark", work, devices, as_json=as_json, report=report)


def evaluate_several(job: Job, devices: Devices, *, as_json: bool, **more: Any) -> None:
    from edgeopt.pipeline.several import evaluate_all
    from edgeopt.store import Store

    def work(show: Several, told: Told) -> FleetReport:
        chosen, jobs = devices.selection, devices.jobs
        return evaluate_all(job, chosen, Store(), show, jobs=jobs, **more)

    perform_all("evaluate", work, devices, as_json=as_json)


def perform_all(
    verb: str,
    work: Callable[[Several, Told], FleetReport],
    devices: Devices,
    *,
    as_json: bool,
    report: Path | None = None,
) -> None:
    """Raises what the work raises, after showing and writing every row that there is.

    The report file is written anew, whole, with each row: what is finished survives a kill.
    """
    from edgeopt.cli.perform import written
    from edgeopt.report.export import check_suffix

    check_suffix(report)
    warned: set[str] = set()

    def told(so_far: FleetReport) -> None:
        """A file that cannot be written ends no device's work."""
        failed = written(so_far, report, verb)
        if failed and failed.message not in warned:
            warned.add(failed.message)
            output.warn(failed.message)

    names = [chosen.spec.name for chosen in devices.selection.devices]
    try:
        with output.several(names) as show:
            done = work(show, told)
    except (EdgeoptError, KeyboardInterrupt) as error:
        reached = getattr(error, "reached", None)
        if isinstance(reached, FleetReport):
            told(reached)
            if not as_json:
                _show(reached)
        raise
    failed = written(done, report, verb)
    if not as_json:
        _show(done)
    if failed:
        raise failed
    if as_json:
        output.emit(verb, done.to_json())


def _show(fleet: FleetReport) -> None:
    from edgeopt.report.fleet_view import fleet_summary

    output.stdout().print(fleet_summary(fleet))
