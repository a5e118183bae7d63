"""`edgeopt plan`: the decision alone."""

from __future__ import annotations

from typing import Any

import click

from edgeopt.cli import options, output

__all__ = ["plan"]


@click.command()
@options.model
@options.target()
@options.calibration
@options.preprocess
@options.evaluation
@options.conversion
@options.quality
@options.training
@options.as_json
def plan(as_json: bool, **flags: Any) -> None:
    """Say which scheme a deploy of MODEL would use, and why.

    Reads the model without running it; converts and writes nothing.
    """
    from edgeopt import pipeline
    from edgeopt.store import Store

    with output.progress(quiet=True) as progress:
        done = pipeline.plan(options.job(**flags), Store(), progress)
    if as_json:
        content = done.to_json()
        output.emit(
            "plan",
            {key: content[key] for key in ("edgeopt", "model", "target", "plan", "estimate")},
        )
    else:
        from edgeopt.report.terminal import plan_summary

        output.stdout().print(plan_summary(done))
