"""`edgeopt deploy`: the main job, whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeopt.cli import options
from edgeopt.cli.fleet_options import devices_of

__all__ = ["deploy"]


@click.command()
@options.whole
@options.profiling
@options.several
@click.option("--run/--no-run", default=True, help="Run on the device, or stop before the push.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done, and why.")
@options.output
@options.report
@options.as_json
def deploy(as_json: bool, dry_run: bool, report: Path | None, **flags: Any) -> None:
    """Optimize MODEL for a target, run it on a device and report the evidence.

    MODEL is a .keras or .h5 file, a SavedModel folder or a .tflite. It is converted, held against
    the target's hardware profile, compiled where the target has a compiler, pushed, compared with
    the host and measured.

    Several devices (--device a,b or --device all, with --tag NAME those of a kind) work at once: it
    is made once a target, and each has its own row.
    """
    from edgeopt import pipeline
    from edgeopt.cli.perform import perform
    from edgeopt.cli.perform_all import deploy_several

    devices = devices_of(flags)
    job = options.job(**flags)
    if devices is not None:
        deploy_several(job, devices, dry_run=dry_run, as_json=as_json, report=report)
    else:
        work = pipeline.plan if dry_run else pipeline.deploy
        perform("deploy", work, job, as_json=as_json, report=report)
