"""`edgeopt benchmark`: run a .tflite as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgeopt.cli import options
from edgeopt.cli.fleet_options import Devices, devices_of
from edgeopt.errors import InputError

if TYPE_CHECKING:
    from edgeopt.job import Job
    from edgeopt.progress import Progress
    from edgeopt.report.variants import VariantsReport
    from edgeopt.store import Store

__all__ = ["benchmark"]


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--interleave",
    is_flag=True,
    envvar="EDGEOPT_INTERLEAVE",
    help="Measure several models in random alternation, then in turns of milliseconds in the same"
    " processes, so that drift hits all alike.",
)
@options.target()
@options.device
@options.calibration
@options.preprocess
@options.measuring
@options.profiling
@options.loading
@options.keep
@options.several
@options.report
@options.as_json
def benchmark(
    models: tuple[Path, ...], interleave: bool, as_json: bool, report: Path | None, **flags: Any
) -> None:
    """Measure MODELS (.tflite) on a device, and compare their answers with the host.

    --calibration gives the inputs; without it they are random, from a fixed seed. Of several models
    each is held against the first.
    """
    from edgeopt import pipeline
    from edgeopt.cli.perform import perform, shown
    from edgeopt.cli.perform_all import benchmark_several

    given = click.get_current_context().get_parameter_source("interleave")
    devices = devices_of(flags)
    job = options.job(model=models[0], **flags)
    if len(models) > 1:
        _refuse_both(devices)
        _refuse_extras(job)
        jobs = [replace(job, model=model) for model in models]
        work = _several(jobs, interleave=interleave, report=report)
        shown("benchmark", work, as_json=as_json, report=report)
    elif interleave and given == ParameterSource.COMMANDLINE:
        raise InputError("--interleave alternates models, and one was given.", "Give several.")
    elif devices is not None:
        benchmark_several(job, devices, as_json=as_json, report=report)
    else:
        perform("benchmark", pipeline.benchmark, job, as_json=as_json, report=report)


def _several(
    jobs: Sequence[Job], *, interleave: bool, report: Path | None
) -> Callable[[Store, Progress], VariantsReport]:
    """The work on several models; the report is written anew when one more is measured."""
    from edgeopt.cli.perform import written
    from edgeopt.pipeline.variants import benchmark_variants

    def told(so_far: VariantsReport) -> None:
        written(so_far, report, "benchmark")  # what stands in its way is told at the end

    return lambda store, progress: benchmark_variants(
        jobs, store, progress, interleave=interleave, told=told
    )


def _refuse_both(devices: Devices | None) -> None:
    if devices is not None:
        raise InputError(
            "Several models on several devices at once cannot be benchmarked together.",
            "Give one model, or one --device.",
        )


def _refuse_extras(job: Job) -> None:
    if job.profile is not None or job.load is not None:
        raise InputError(
            "Several models that are benchmarked together are neither profiled nor put under load.",
            "Do it with each: edgeopt profile MODEL, edgeopt benchmark MODEL --concurrency N.",
        )
