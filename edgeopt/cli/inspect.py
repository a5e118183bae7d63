"""`edgeopt inspect`: what a model file holds, and which rules of a target it breaks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeopt.cli import options, output

if TYPE_CHECKING:
    from edgeopt.facts import ModelFacts

__all__ = ["inspect"]


@click.command()
@options.model
@click.option(
    "--target",
    envvar="EDGEOPT_TARGET",
    metavar="NAME|FILE.toml",
    help="Hold it against this target.",
)
@click.option(
    "--weights", is_flag=True, help="Show zeros and distinct values of each layer's weights."
)
@click.option(
    "--min-runtime-version",
    type=click.IntRange(min=1),
    metavar="N",
    help="Predict for device runtimes from N on, as the Edge TPU compiler does with -m.",
)
@options.as_json
def inspect(
    model: Path,
    target: str | None,
    weights: bool,
    min_runtime_version: int | None,
    as_json: bool,
) -> None:
    """Show MODEL's operations, types, shapes and sizes, without running it.

    With --target, every rule of the hardware profile that it breaks (exit 3 when there is one).
    """
    from edgeopt.errors import InputError, ModelError
    from edgeopt.model import read
    from edgeopt.report import model_json, ops_json

    if min_runtime_version is not None and target is None:
        raise InputError("--min-runtime-version is about a target.", "Add --target edgetpu.")
    facts = read(model)
    found = placement = table = None
    if weights:
        from edgeopt.verify.preservation import weight_table

        _refuse_unless_tflite(facts)
        table = [layer.to_json() for layer in weight_table(facts)]
    if target is not None:
        from edgeopt.target import load_target
        from edgeopt.verify import check, predict

        profile = load_target(target).profile.at_runtime(min_runtime_version)
        found, placement = check(facts, profile), predict(facts, profile)
    content = {
        "model": model_json(facts),
        "ops": ops_json(facts, placement),
        "constraints": found.to_json() if found else None,
        "placement": placement.to_json() if placement else None,
        "weights": table,
    }
    if not as_json:
        from edgeopt.report.terminal import inspection

        output.stdout().print(inspection(facts, found, placement))
        if table is not None:
            from edgeopt.report.preservation import weights_table

            output.stdout().print("", weights_table(table), sep="\n")
    if found is not None and not found.passed:
        count = len(found.violations)
        raise ModelError(
            f"{model.name} breaks {count} rule{'s' * (count > 1)} of {found.profile}.",
            found.violations[0].hint,
            reached=content,
        )
    if as_json:
        output.emit("inspect", content)


def _refuse_unless_tflite(facts: ModelFacts) -> None:
    from edgeopt.errors import InputError

    if facts.format != "tflite":
        raise InputError(
            f"--weights counts what a .tflite stores; {facts.path.name} is {facts.format}.",
            "Convert it first: edgeopt convert --scheme float32.",
        )
