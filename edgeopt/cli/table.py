"""`edgeopt table`: the published tables, with rows and figures of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli import options, output
from edgeopt.errors import EdgeoptError, InputError

if TYPE_CHECKING:
    from edgeopt.pipeline.table_spec import TableSpec

__all__ = ["table"]


@click.command()
@click.argument("spec", metavar="SPEC")
@options.target()
@options.device
@click.option("--only", multiple=True, metavar="NAME", help="Only this row (repeatable).")
@click.option(
    "--scheme", "schemes", multiple=True, metavar="SCHEME", help="Only this scheme (repeatable)."
)
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="For results and models; a later call goes on from there.  [default: edgeopt-out/SPEC]",
)
@click.option("--fresh", is_flag=True, help="Measure again what was measured before.")
@click.option("--show", is_flag=True, help="Only print the spec's text, to make one's own of it.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the tables: .md, .html, .csv, .json or .txt.",
)
@options.as_json
def table(spec: str, show: bool, as_json: bool, report: Path | None, **flags: Any) -> None:
    """Fill a table: accuracy, latency and size of every model of SPEC.

    Each model is converted under each scheme that its row names, and run on the device. SPEC is a
    .toml file, or `published` or `published-int16`, which come with edgeopt. An interrupted table
    goes on where it stopped.
    """
    from edgeopt.pipeline.table_spec import load_spec
    from edgeopt.report.table import check_suffix

    check_suffix(report)
    wanted = _narrowed(load_spec(spec), **flags)
    if show:
        click.echo(wanted.path.read_text(encoding="utf-8"), nl=False)
        return
    folder = flags["folder"] or Path("edgeopt-out") / wanted.path.stem
    try:
        document = _filled(wanted, folder, fresh=flags["fresh"])
    except EdgeoptError as error:
        if isinstance(error.reached, dict) and "rows" in error.reached:
            if not as_json:
                _print(error.reached)
            if failed := _written(error.reached, report):
                output.warn(failed.message)
        raise
    if not as_json:
        _print(document)
    if failed := _written(document, report):
        raise failed
    if as_json:
        output.emit("table", document)


def _written(document: dict[str, Any], report: Path | None) -> EdgeoptError | None:
    """Write the file, where one is asked for. Returns what stood in the way, with the table."""
    from edgeopt.report.table import export

    try:
        if report is not None:
            export(document, report)
    except EdgeoptError as error:
        error.reached = document
        return error
    return None


def _filled(spec: TableSpec, folder: Path, *, fresh: bool) -> dict[str, Any]:
    from edgeopt.pipeline.table import table as fill
    from edgeopt.store import Store

    with output.progress() as progress:
        try:
            return fill(spec, folder, Store(), progress, fresh=fresh)
        except KeyboardInterrupt:
            progress.note(f"What was measured is kept in {folder}: the same command goes on.")
            raise


def _narrowed(
    spec: TableSpec,
    *,
    target: str | None,
    device: str | None,
    only: tuple[str, ...],
    schemes: tuple[str, ...],
    **_: Any,
) -> TableSpec:
    """The spec as the flags change it. Raises InputError for a row or scheme it does not have."""
    from dataclasses import replace

    from edgeopt.toml_file import did_you_mean

    names = [row.name for row in spec.rows]
    for name in only:
        if name not in names:
            guess = did_you_mean(name, names)
            raise InputError(
                f"{spec.path} has no row named {name!r}.{guess}", f"It has: {', '.join(names)}."
            )
    present = {scheme for row in spec.rows for scheme in row.schemes}
    for scheme in schemes:
        if scheme not in present:
            raise InputError(
                f"No row of {spec.path} has the scheme {scheme!r}.{did_you_mean(scheme, present)}",
                f"They have: {', '.join(sorted(present))}.",
            )
    rows = [row for row in spec.rows if not only or row.name in only]
    if schemes:
        rows = [replace(r, schemes=tuple(s for s in r.schemes if s in schemes)) for r in rows]
    kept = tuple(row for row in rows if row.schemes)
    target, device = _said("target", target, spec.target), _said("device", device, spec.device)
    return replace(spec, rows=kept, target=target, device=device)


def _said(name: str, given: str | None, spec: str | None) -> str | None:
    """Flags and environment beat the spec; the spec beats edgeopt.toml."""
    source = click.get_current_context().get_parameter_source(name)
    if source is click.core.ParameterSource.DEFAULT_MAP:
        return spec or given
    return given or spec


def _print(document: dict[str, Any]) -> None:
    from edgeopt.report.table import tables

    console = output.stdout()
    for part in tables(document):
        console.print(part)
        console.print()
