"""`edgeopt benchmark`: run a .tflite as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeopt.cli import options, output

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
    from edgeopt.report.export import check_suffix, export
    from edgeopt.store import Store

    job = options.job(**flags)
    check_suffix(report)
    with output.progress() as progress:
        done = pipeline.benchmark(job, Store(), progress)
    if report is not None:
        export(done, report)
    if as_json:
        output.emit("benchmark", done.to_json())
    else:
        from edgeopt.report.terminal import deploy_summary

        output.stdout().print(deploy_summary(done))
