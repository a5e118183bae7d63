"""`edgeopt benchmark`: run a .tflite as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeopt.cli import options
from edgeopt.cli.fleet_options import devices_of

__all__ = ["benchmark"]


@click.command()
@options.model
@options.target()
@options.device
@options.calibration
@options.preprocess
@options.measuring
@options.keep
@options.several
@options.report
@options.as_json
def benchmark(as_json: bool, report: Path | None, **flags: Any) -> None:
    """Measure MODEL (a .tflite) on a device, and compare its answers with the host.

    --calibration gives the inputs; without it they are random, from a fixed seed.
    """
    from edgeopt import pipeline
    from edgeopt.cli.perform import perform
    from edgeopt.cli.perform_all import benchmark_several

    devices = devices_of(flags)
    job = options.job(**flags)
    if devices is not None:
        benchmark_several(job, devices, as_json=as_json, report=report)
    else:
        perform("benchmark", pipeline.benchmark, job, as_json=as_json, report=report)
