"""`edgeopt compile`: run the target's compiler on a model."""

from __future__ import annotations

from typing import Any

import click

from edgeopt.cli import options

__all__ = ["compile"]


@click.command()
@options.model
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
def compile(as_json: bool, **flags: Any) -> None:
    """Compile MODEL with the target's compiler and check what came out.

    A quantized .tflite is compiled as it is, once it obeys the profile; anything else is converted
    first (give --calibration).
    """
    from edgeopt import pipeline
    from edgeopt.cli.perform import perform

    job = options.job(**flags)
    perform("compile", pipeline.compile_model, job, as_json=as_json)
