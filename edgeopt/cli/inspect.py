"""`edgeopt inspect`: what a model file holds, and which rules of a target it breaks."""

from __future__ import annotations

from pathlib import Path

import click

from edgeopt.cli import options, output

__all__ = ["inspect"]


@click.command()
@options.model
@click.option(
    "--target",
    envvar="EDGEOPT_TARGET",
    metavar="NAME|FILE.toml",
    help="Hold it against this target.",
)
@options.as_json
def inspect(model: Path, target: str | None, as_json: bool) -> None:
    """Show MODEL's operations, types, shapes and sizes, without running it.

    With --target, every rule of the hardware profile that it breaks (exit 3 when there is one).
    """
    from edgeopt.errors import ModelError
    from edgeopt.model import read
    from edgeopt.report import model_json, ops_json

    facts = read(model)
    found = placement = None
    if target is not None:
        from edgeopt.target import load_target
        from edgeopt.verify import check, predict

        profile = load_target(target).profile
        found, placement = check(facts, profile), predict(facts, profile)
    content = {
        "model": model_json(facts),
        "ops": ops_json(facts, placement),
        "constraints": found.to_json() if found else None,
        "placement": placement.to_json() if placement else None,
    }
    if not as_json:
        from edgeopt.report.terminal import inspection

        output.stdout().print(inspection(facts, found, placement))
    if found is not None and not found.passed:
        count = len(found.violations)
        raise ModelError(
            f"{model.name} breaks {count} rule{'s' * (count > 1)} of {found.profile}.",
            found.violations[0].hint,
            reached=content,
        )
    if as_json:
        output.emit("inspect", content)
