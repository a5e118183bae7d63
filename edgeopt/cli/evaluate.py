"""`edgeopt evaluate`: accuracy, measured."""

from __future__ import annotations

from pathlib import Path

import click

from edgeopt.cli import options, output

__all__ = ["evaluate"]


@click.command()
@options.model
@click.option(
    "--eval-data", envvar="EDGEOPT_EVAL_DATA", required=True, metavar="DATA", help="Labelled data."
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="FLOAT.tflite",
    help="Compare with this float model.",
)
@options.preprocess
@click.option(
    "--samples", "limit", type=click.IntRange(1), metavar="N", help="Use the first N samples only."
)
@options.as_json
def evaluate(
    model: Path,
    eval_data: str,
    baseline: Path | None,
    preprocess: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Measure the accuracy of MODEL (a .tflite) on data.

    Labels give top-1 and top-5; a float --baseline gives agreement and noise.
    """
    from edgeopt.errors import ModelError
    from edgeopt.model import detect, read
    from edgeopt.report import model_json
    from edgeopt.verify.accuracy import measure_accuracy

    for path in filter(None, (model, baseline)):
        if detect(path) != "tflite":
            raise ModelError(f"{path} is not a .tflite.", "Convert it first (edgeopt convert).")
    facts = read(model)
    steps = options.preprocessing(preprocess)
    with output.progress() as progress:
        progress.stage("Measuring accuracy", None, "samples")
        found = measure_accuracy(model, baseline, eval_data, steps, progress, limit=limit)
    if as_json:
        output.emit("evaluate", {"model": model_json(facts), "accuracy": found.to_json()})
        return
    console = output.stdout()
    for key, value in found.to_json().items():
        shown = "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
        console.print(f"{key:<16} {shown}", markup=False)
