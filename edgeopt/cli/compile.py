"""`edgeopt compile`: run the target's compiler on a model, or on several for one chip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli import options, output
from edgeopt.errors import InputError

if TYPE_CHECKING:
    from edgeopt.job import Job

__all__ = ["compile"]


@click.command()
@click.argument(
    "models", metavar="MODEL...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@options.target(required=True)
@options.calibration
@options.preprocess
@options.conversion
@options.quality
@options.training
@options.compiler
@options.timeout
@options.output
@options.as_json
def compile(models: tuple[Path, ...], as_json: bool, **flags: Any) -> None:
    """Compile MODEL with the target's compiler and check what came out.

    A quantized .tflite is compiled as it is, once it obeys the profile; anything else is converted
    first (give --calibration).

    Several quantized models are compiled together for one Edge TPU: they share its parameter
    cache, which is filled in the order given.
    """
    from edgeopt import pipeline
    from edgeopt.cli.perform import perform

    jobs = [options.job(model=model, **flags) for model in models]
    if len(jobs) == 1:
        perform("compile", pipeline.compile_model, jobs[0], as_json=as_json)
    else:
        _together(jobs, as_json)


def _together(jobs: list[Job], as_json: bool) -> None:
    from edgeopt import pipeline
    from edgeopt.report.together import together_summary
    from edgeopt.store import Store

    place = jobs[0].output
    if place is not None and place.suffix == ".tflite":
        raise InputError(
            f"{len(jobs)} models make {len(jobs)} files, and --output names one ({place}).",
            "Give a folder with --output.",
        )
    with output.progress() as progress:
        done = pipeline.compile_together(jobs, Store(), progress)
    if as_json:
        output.emit("compile", done.to_json())
    else:
        output.stdout().print(together_summary(done))
