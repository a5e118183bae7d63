"""`edgeopt tune`: several candidates measured, and which of them are worth having."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeopt.cli import options, output
from edgeopt.errors import EdgeoptError

__all__ = ["tune"]


@click.command()
@options.whole
@click.option(
    "--candidate", "candidates", multiple=True, metavar="SPEC",
    help="Such as int8, int8:ranges=mse, prune=0.5+int8, cluster=32+int8, qat+int8 (repeatable); "
    "left out: all that the plan says are possible.",
)  # fmt: skip
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw the front: .svg or .png."
)
@options.output
@options.as_json
def tune(
    as_json: bool, candidates: tuple[str, ...], plot: Path | None, fresh: bool, **flags: Any
) -> None:
    """Measure candidates for MODEL: accuracy, latency, size, and which are best.

    Every result is kept under --output as soon as it is there: the same command goes on after an
    interruption; --fresh starts over.
    """
    from edgeopt.pipeline.tuning import tune as work
    from edgeopt.plan import parse_spec
    from edgeopt.report.pareto_plot import check_plot, draw
    from edgeopt.store import Store

    check_plot(plot)
    specs = [parse_spec(text) for text in candidates]
    asked = (*flags["techniques"], *filter(None, [flags["scheme"]]))
    if asked and not specs:
        specs = [parse_spec("+".join(asked))]
    job = options.job(**flags, fresh=fresh)
    with output.progress() as progress:
        tuned = work(job, tuple(specs), Store(), progress, fresh=fresh)
    content = tuned.to_json()
    if not as_json:
        from edgeopt.report.pareto_table import tune_summary

        output.stdout().print(tune_summary(content))
    if plot is not None:
        try:
            draw(content, plot)
        except EdgeoptError as error:
            error.reached = content  # what was measured is not lost with its picture
            raise
    if as_json:
        output.emit("tune", content)
