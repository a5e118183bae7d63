"""`edgeopt targets`: what can be deployed to."""

from __future__ import annotations

import click

from edgeopt.cli import options, output

__all__ = ["targets"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def targets() -> None:
    """List the targets, or show one with its hardware profile."""


@targets.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """All targets: the shipped ones, your own and those of plug-ins."""
    from edgeopt.target import list_targets

    found = list_targets()
    if as_json:
        output.emit("targets", {"targets": [t.to_json() for t in found]})
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("target", "profile", "schemes", "runtime", "description"):
        table.add_column(name, overflow="fold")
    for target in found:
        schemes = ", ".join(n for n, s in target.profile.schemes.items() if s.suits)
        table.add_row(target.name, target.profile.name, schemes, target.runtime, target.description)
    output.stdout().print(table)


@targets.command("show")
@click.argument("name")
@options.as_json
def show(name: str, as_json: bool) -> None:
    """One target whole: constraints, schemes, and the source of each rule."""
    from edgeopt.target import load_target

    target = load_target(name)
    if as_json:
        content = {"target": target.to_json(), "profile": target.profile.to_json()}
        output.emit("targets", content)
        return
    from edgeopt.report.target_listing import target_listing
    from edgeopt.verify import requirement

    output.stdout().print(target_listing(target, requirement))
