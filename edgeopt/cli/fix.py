"""`edgeopt fix`: repair a .tflite so that more of it maps, and prove that nothing changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli import options, output
from edgeopt.errors import EdgeoptError

if TYPE_CHECKING:
    from edgeopt.pipeline.fixing import Fixed

__all__ = ["fix"]


@click.command()
@options.model
@options.target(required=True)
@click.option(
    "--io",
    type=click.Choice(["int8", "uint8", "keep"]),
    default=None,
    help="Type of inputs and outputs. Default: 8-bit where the target takes no other.",
)
@click.option(
    "--split-at", multiple=True, metavar="TENSOR[,TENSOR]", help="Cut behind these tensors."
)
@click.option("--cut-head", is_flag=True, help="Cut off what comes before the mapped part.")
@click.option("--cut-tail", is_flag=True, help="Cut off what comes behind the mapped part.")
@click.option(
    "--own-kernels",
    is_flag=True,
    help="Prove with TensorFlow Lite's own kernels alone; XNNPACK may round otherwise.",
)
@click.option("--partial", is_flag=True, help="Write MODEL_partial.tflite if rules stay broken.")
@options.calibration
@options.preprocess
@options.output
@click.option("--dry-run", is_flag=True, help="Explain, repair and prove, but write nothing.")
@options.as_json
def fix(as_json: bool, **flags: Any) -> None:
    """Repair MODEL (a .tflite) so that more maps, and prove that nothing changed.

    Every operation on the CPU is explained. Each repair is kept only if the LiteRT runtime gives
    the same outputs to the bit. MODEL itself is never changed.
    """
    from edgeopt.pipeline.fixing import Fixed, Request
    from edgeopt.pipeline.fixing import fix as work

    request = _request(Request, **flags)
    try:
        with output.progress() as progress:
            done = work(request, progress)
    except EdgeoptError as error:
        if isinstance(error.reached, Fixed) and not as_json:
            _show(error.reached)
        raise
    if as_json:
        output.emit("fix", done.to_json())
    else:
        _show(done)


def _request(kind: Any, **flags: Any) -> Any:
    names = [n for text in flags.pop("split_at") for n in text.split(",") if n]
    steps = options.preprocessing(flags.pop("preprocess", None))
    flags["model"] = Path(flags["model"])
    flags["io"] = flags["io"] or ""
    return kind(split_at=tuple(names), preprocess=steps, **flags)


def _show(fixed: Fixed) -> None:
    from edgeopt.report.repairs import repair_summary

    output.stdout().print(repair_summary(fixed.to_json()))
