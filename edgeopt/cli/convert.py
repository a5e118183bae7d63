"""`edgeopt convert`: a verified .tflite for a target."""

from __future__ import annotations

from typing import Any

import click

from edgeopt.cli import options

__all__ = ["convert"]


@click.command()
@options.model
@options.target()
@options.calibration
@options.preprocess
@options.evaluation
@options.conversion
@options.quality
@options.training
@options.output
@click.option("--dry-run", is_flag=True, help="Only say what would be done, and why.")
@options.as_json
def convert(as_json: bool, dry_run: bool, **flags: Any) -> None:
    """Convert MODEL so that it obeys the target's hardware profile.

    The file is written only when every tensor and operator passes; else all violations are listed
    and the exit code is 3.
    """
    from edgeopt import pipeline
    from edgeopt.cli.perform import perform

    job = options.job(**flags)
    work = pipeline.plan if dry_run else pipeline.convert
    perform("convert", work, job, as_json=as_json)
