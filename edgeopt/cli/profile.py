"""`edgeopt profile`: where the time of an inference goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeopt.cli import options
from edgeopt.cli.options_base import stack

__all__ = ["profile"]

_asking = stack(
    click.option(
        "--kernels",
        "profile",
        type=click.Choice(["xnnpack", "builtin"]),
        default="xnnpack",
        show_default=True,
        help="As deploy and benchmark run it, or with XNNPACK off: another execution, in which "
        "every operation is told apart.",
    ),
    click.option(
        "--runs",
        type=click.IntRange(1),
        metavar="N",
        help="Profiled runs.  [default: for some seconds, at least 5]",
    ),
    click.option(
        "--node-data",
        type=click.Path(path_type=Path),
        metavar="FILE.json",
        help="Write the times for Model Explorer.",
    ),
)


@click.command()
@options.model
@options.target()
@options.device
@options.calibration
@options.preprocess
@_asking
@options.running
@options.keep
@options.report
@options.as_json
def profile(
    as_json: bool,
    report: Path | None,
    runs: int | None,
    node_data: Path | None,
    **flags: Any,
) -> None:
    """Say where the time of MODEL (a .tflite) goes: its operations, types and layers.

    From LiteRT's own profiler, or from benchmark_model (--runtime benchmark_model). --calibration
    gives the input; without it it is random, from a fixed seed.
    """
    from dataclasses import replace

    from edgeopt import pipeline
    from edgeopt.cli.perform import perform
    from edgeopt.errors import EdgeoptError
    from edgeopt.pipeline.profiling import check_node_data, write_node_data

    check_node_data(node_data)
    job = options.job(**flags)
    job = replace(job, effort=replace(job.effort, runs=runs))

    def work(*given: Any) -> Any:
        found = pipeline.profile(*given)
        if node_data is not None:
            try:
                write_node_data(found, node_data)
            except EdgeoptError as error:
                error.reached = found  # the profile itself is shown all the same
                raise
        return found

    perform("profile", work, job, as_json=as_json, report=report)
    if node_data is not None:
        click.echo(f"edgeopt: wrote {node_data}", err=True)
