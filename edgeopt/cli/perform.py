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
    from edgeopt.store import Store

__all__ = ["perform"]


def perform(
    verb: str,
    work: Callable[[Job, Store, Progress], Report],
    job: Job,
    *,
    as_json: bool,
    report: Path | None = None,
) -> None:
    """Raises what the work raises, after showing and writing what it had come to."""
    from edgeopt.report import Report
    from edgeopt.report.export import check_suffix, export
    from edgeopt.store import Store

    check_suffix(report)
    try:
        with output.progress() as progress:
            done = work(job, Store(), progress)
    except EdgeoptError as error:
        if isinstance(error.reached, Report):
            if report is not None:
                export(error.reached, report, verb=verb)
            if not as_json and error.reached.constraints is not None:
                _show(error.reached)
            error.reached = error.reached.to_json()
        raise
    if report is not None:
        export(done, report, verb=verb)
    if as_json:
        output.emit(verb, done.to_json())
    else:
        _show(done)


def _show(report: Report) -> None:
    from edgeopt.report.terminal import deploy_summary

    output.stdout().print(deploy_summary(report))
