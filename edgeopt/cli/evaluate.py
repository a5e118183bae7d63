"""`edgeopt evaluate`: accuracy, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeopt.cli import options, output
from edgeopt.cli.fleet_options import devices_of

__all__ = ["evaluate"]


@click.command()
@options.model
@click.option(
    "--eval-data", envvar="EDGEOPT_EVAL_DATA", required=True, metavar="DATA", help="Labelled data."
)
@options.judging
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="FLOAT",
    help="Compare with this float model.",
)
@options.preprocess
@click.option(
    "--samples", "limit", type=click.IntRange(1), metavar="N", help="Use the first N samples only."
)
@click.option(
    "--processes",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Processes to share the work; the result does not depend on it. Default: the cores.",
)
@options.target()
@options.device
@options.device_python
@options.timeout
@options.wait
@options.keep
@options.several
@options.as_json
def evaluate(
    baseline: Path | None,
    limit: int | None,
    processes: int | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Measure the accuracy of MODEL on data.

    MODEL and the float --baseline are .tflite, .keras or .h5 files or SavedModel folders. The
    labels decide what is measured, unless --metric does; a baseline adds agreement and noise.
    """
    from edgeopt.verify.accuracy import Measuring

    if (devices := devices_of(flags)) is not None:
        from edgeopt.cli.perform_all import evaluate_several

        more = {"baseline": baseline, "limit": limit, "processes": processes}
        evaluate_several(options.job(**flags), devices, as_json=as_json, **more)
        return
    with output.progress() as progress, Measuring() as measuring:  # it starts beside what follows
        from edgeopt import pipeline
        from edgeopt.store import Store

        found = pipeline.evaluate(
            options.job(**flags), Store(), progress,
            baseline=baseline, limit=limit, processes=processes, measuring=measuring,
        )  # fmt: skip
    if as_json:
        output.emit("evaluate", found)
        return
    console = output.stdout()
    for key, value in found["accuracy"].items():
        if value is not None:  # --json has what was not measured too, as null
            console.print(f"{key:<18} {_shown(value)}", markup=False)
    rate, count = found["run"]["samples_per_second"], found["run"]["processes"]
    console.print(f"[dim]{rate:.4g} samples/s in {count} processes[/]")


def _shown(value: Any) -> str:
    if isinstance(value, dict):  # the device
        return f"{value['name']} ({value['runtime']} {value['runtime_version']})"
    if isinstance(value, float):
        return f"{value:.4f}"
    return str(value)
