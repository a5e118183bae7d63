"""`edgeopt inspect`: what a model file holds, which rules of a target it breaks, where it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli import options, output
from edgeopt.cli.options_base import stack

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgeopt.facts import ModelFacts
    from edgeopt.pipeline.inspecting import Inspection

__all__ = ["inspect"]

_compiled = stack(
    click.option(
        "--source",
        type=click.Path(path_type=Path),
        metavar="MODEL",
        help="Prove which operations of this model are inside the compiled one.",
    ),
    click.option(
        "--together",
        type=click.Path(path_type=Path),
        multiple=True,
        metavar="COMPILED",
        help="Tell whether this file was compiled together with MODEL (may be repeated).",
    ),
)
_seeing = stack(
    click.option(
        "--picture",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Draw the graph and where each operation runs: .svg or .html.",
    ),
    click.option(
        "--node-data",
        type=click.Path(path_type=Path),
        metavar="FILE.json",
        help="Write the placement for Model Explorer.",
    ),
)
_estimating = stack(
    click.option(
        "--host",
        metavar="NAME",
        help="Estimate for an accelerator attached this way: usb3 or pcie (default: the target's).",
    ),
    click.option(
        "--beside",
        type=click.Path(path_type=Path),
        multiple=True,
        metavar="MODEL",
        help="Estimate taking turns with this model too (may be repeated).",
    ),
)


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
@_compiled
@_seeing
@_estimating
@options.as_json
def inspect(
    model: Path,
    weights: bool,
    as_json: bool,
    picture: Path | None,
    node_data: Path | None,
    **asked: Any,
) -> None:
    """Show MODEL's operations, types, shapes and sizes, without running it.

    With --target, every rule of the hardware profile that it breaks (exit 3 when there is one).
    A model compiled for an Edge TPU is opened; with --source, the mapping is proven and compared
    with the prediction.
    """
    from edgeopt.model import read
    from edgeopt.pipeline.inspecting import check_drawing, inspect_model

    check_drawing(picture, node_data, target=asked["target"], source=asked["source"])
    facts = read(model)
    table = _weights(facts) if weights else None
    found = inspect_model(facts, weights=table, **asked)
    made: list[Path] = []
    if picture or node_data:
        from edgeopt.pipeline.drawing import draw

        made = draw(found, picture, node_data)
    if not as_json:
        for part in _views(found, table):
            output.stdout().print(part)
    for path in made:
        click.echo(f"edgeopt: wrote {path}", err=True)
    _refuse_broken(found)
    if as_json:
        output.emit("inspect", found.content)


def _weights(facts: ModelFacts) -> list[dict[str, Any]]:
    from edgeopt.errors import InputError
    from edgeopt.verify.preservation import weight_table

    if facts.format != "tflite":
        raise InputError(
            f"--weights counts what a .tflite stores; {facts.path.name} is {facts.format}.",
            "Convert it first: edgeopt convert --scheme float32.",
        )
    return [layer.to_json() for layer in weight_table(facts)]


def _views(found: Inspection, table: list[dict[str, Any]] | None) -> list[RenderableType]:
    from edgeopt.report.compiled import partitions_view, proof_view, together_view
    from edgeopt.report.preservation import weights_table
    from edgeopt.report.repairs import to_map_more
    from edgeopt.report.terminal import inspection

    parts: list[RenderableType] = [
        inspection(found.facts, found.constraints, found.placement, found.estimate)
    ]
    if found.content["explanations"]:
        parts += ["", *to_map_more(found.content["explanations"])]
    if found.partitions:
        parts += ["", partitions_view(found.partitions, found.left)]
        parts += ["", together_view(found.together)] if found.together else []
    if found.proof is not None and found.source is not None:
        proven = found.proof.to_json()
        total = len(found.source.subgraphs[0].operators)
        parts += ["", proof_view(proven["mapping"], proven["prediction"], total)]
    if table is not None:
        parts += ["", weights_table(table)]
    return parts


def _refuse_broken(found: Inspection) -> None:
    from edgeopt.errors import ModelError

    broken = found.constraints
    if broken is not None and not broken.passed:
        count = len(broken.violations)
        raise ModelError(
            f"{found.facts.path.name} breaks {count} rule{'s' * (count > 1)} of {broken.profile}.",
            broken.violations[0].hint,
            reached=found.content,
        )
