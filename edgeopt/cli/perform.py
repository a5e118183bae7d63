"""Run a pipeline verb and show what came of it: the whole report, or what was reached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgeopt.cli import output
from edgeopt.errors import EdgeoptError

if TYPE_CHECKING:
    from edgeopt.job import Job
    from edgeopt.progress import Progress
    from edgeopt.report import Report
    from edgeopt.report.fleet import FleetReport
    from edgeopt.report.variants import VariantsReport
    from edgeopt.store import Store

__all__ = ["perform", "shown", "written"]


def perform(
    verb: str,
    work: Callable[[Job, Store, Progress], Report],
    job: Job,
    *,
    as_json: bool,
    report: Path | None = None,
) -> None:
    """Raises what the work raises, after showing and writing what it had come to."""
    shown(
        verb,
        lambda store, progress: work(job, store, progress),
        as_json=as_json,
        report=report,
    )


def shown(
    verb: str,
    work: Callable[[Store, Progress], Report | VariantsReport],
    *,
    as_json: bool,
    report: Path | None = None,
) -> None:
    """The same for work on several models. Ctrl-C too shows and writes what there is."""
    from edgeopt.report import Report
    from edgeopt.report.export import check_suffix
    from edgeopt.report.variants import VariantsReport
    from edgeopt.store import Store

    check_suffix(report)
    try:
        with output.progress() as progress:
            done = work(Store(), progress)
    except (EdgeoptError, KeyboardInterrupt) as error:
        reached = getattr(error, "reached", None)
        if isinstance(reached, (Report, VariantsReport)):
            if failed := written(reached, report, verb):
                output.warn(failed.message)
            if not as_json and _telling(reached):
                _show(reached)
        raise
    failed = written(done, report, verb)
    if not as_json:
        _show(done)
    if failed:
        raise failed
    if as_json:
        output.emit(verb, done.to_json())


def written(
    found: Report | FleetReport | VariantsReport, report: Path | None, verb: str
) -> EdgeoptError | None:
    """Write the report file, where one is asked for. Returns what stood in the way, which has the
    report too: what was measured is shown all the same."""
    from edgeopt.report.export import export

    try:
        if report is not None:
            export(found, report, verb=verb)
    except EdgeoptError as error:
        error.reached = found
        return error
    return None


def _telling(reached: Report | VariantsReport) -> bool:
    """Is there more to show than the error says?"""
    from edgeopt.report import Report

    if isinstance(reached, Report):
        parts = (reached.constraints, reached.measurement, reached.profile)
        return any(part is not None for part in parts)
    return True


def _show(report: Report | VariantsReport) -> None:
    from edgeopt.report.export import summary

    output.stdout().print(summary(report))
