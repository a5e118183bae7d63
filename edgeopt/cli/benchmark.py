"""`edgeopt benchmark`: run a .tflite as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeopt.cli import options

__all__ = ["benchmark"]


@click.command()
@options.model
@options.target()
@options.device
@options.calibration
@options.preprocess
@options.measuring
@options.keep
@options.report
@options.as_json
def benchmark(as_json: bool, report: Path | None, **flags: Any) -> None:
    """Measure MODEL (a .tflite) on a device, and compare its answers with the host.

    --calibration gives the inputs; without it they are random, from a fixed seed.
    """
    from edgeopt import pipeline
    from edgeopt.cli.perform import perform

    job = options.job(**flags)
    perform("benchmark", pipeline.benchmark, job, as_json=as_json, report=report)
