"""`edgeopt compiler`: bring Google's Edge TPU compiler here, show which is used, remove it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edgeopt.cli import options, output
from edgeopt.cli.options_base import option
from edgeopt.errors import InputError, ToolError

__all__ = ["compiler"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def compiler() -> None:
    """Install, show or remove the Edge TPU compiler."""


@compiler.command("install")
@click.option(
    "--accept-licence",
    "--accept-license",
    is_flag=True,
    help="You agree to Google's terms: do not ask (for scripts).",
)
@click.option(
    "--index",
    metavar="URL",
    help="Another apt repository that has the package (a mirror). Default: Google's own.",
)
@click.option(
    "--deb",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Install this package, which you fetched yourself.",
)
@click.option(
    "--keyring",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The repository's public key: its signature is checked with gpgv.",
)
@option("--offline", env="OFFLINE", is_flag=True, help="Download nothing.")
@options.as_json
def install(
    accept_licence: bool,
    index: str | None,
    deb: Path | None,
    keyring: Path | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Bring Google's compiler here, for you alone.

    It goes to your data folder: no root is needed, but x86-64 Linux is. The package comes from
    Google's apt repository, and its SHA-256 from the index there. Exit 2 without your agreement to
    Google's terms, exit 4 when something does not match.
    """
    from edgeopt.compile.apt_index import BY_HAND, DEFAULT_INDEX
    from edgeopt.compile.install import install as bring

    if deb is not None and (index or keyring):
        raise InputError("--deb is a file by itself: leave out --index and --keyring.")
    if offline and deb is None:
        raise ToolError("--offline forbids to fetch the compiler.", BY_HAND)
    _agree(accept_licence)
    with output.progress() as progress:
        done = bring(progress, index=index or DEFAULT_INDEX, deb=deb, keyring=keyring)
    found = done.compiler
    if as_json:
        content = {**found.to_json(), "fresh": done.fresh, "notes": list(done.notes)}
        output.emit("compiler", {"installed": content})
        return
    console = output.stdout()
    state = "installed" if done.fresh else "was installed already, unchanged"
    said = f"edgetpu_compiler {found.version} {state}: {found.path}"
    console.print(said, markup=False, soft_wrap=True)
    for note in (*done.notes, *_double(found.is_double)):
        console.print(f"[yellow]note:[/] {note}")


def _agree(accepted: bool) -> None:
    """Raises InputError when the user does not agree, or cannot be asked."""
    from edgeopt.compile.install import LICENCE

    print(LICENCE, file=sys.stderr)
    if accepted:
        return
    if sys.stdin.isatty() and click.confirm("Do you agree to these terms?", err=True):
        return
    raise InputError(
        "The Edge TPU compiler was not installed: that needs your agreement to Google's terms.",
        "Read them, then say so with --accept-licence.",
    )


def _double(is_double: bool) -> tuple[str, ...]:
    said = "It calls itself a test double or a recording: what it makes is no genuine compilation."
    return (said,) if is_double else ()


@compiler.command("show")
@options.compiler_place
@options.as_json
def show(compiler: str | None, as_json: bool) -> None:
    """Which compiler would be used, and why.

    With its version and hash. Exit 4 when there is none.
    """
    content = described(compiler)
    if as_json:
        output.emit("compiler", content)
        return
    console = output.stdout()
    found = content["compiler"]
    console.print(f"[bold cyan]{found['kind']}[/]  ", end="")
    console.print(found["where"], markup=False, soft_wrap=True)
    rows = [("chosen by", found["chosen_by"]), ("version", found["version"])]
    rows += [("sha256", found["sha256"] or "- (on another machine or in an image)")]
    for name, value in rows:
        console.print(f"  {name:<10} {value}", markup=False)
    if present := content["installed"]:
        console.print(f"  {'package':<10} edgetpu-compiler {present['package_version']}")
        console.print(f"  {'from':<10} {present['source']}", markup=False, soft_wrap=True)
        console.print(f"  {'signature':<10} {present['signature']}", markup=False)
    for note in _double(found["is_double"]):
        console.print(f"[yellow]note:[/] {note}")


def described(place: str | None) -> dict[str, Any]:
    """The `compiler` and `installed` of `compiler show`. Raises ToolError where there is none."""
    from edgeopt.compile import CompileOptions
    from edgeopt.compile.attempts import version_of
    from edgeopt.compile.compiler_host import LocalHost, locate
    from edgeopt.compile.compiler_output import says_double
    from edgeopt.compile.identity import hashes_of
    from edgeopt.compile.installed import installed

    found = locate(CompileOptions(compiler=place))
    said, version = version_of(found.host)
    local = found.host.path if isinstance(found.host, LocalHost) else None
    present = installed()
    used = present is not None and local == present.path
    return {
        "compiler": {
            "where": found.host.name,
            "chosen_by": found.origin,
            "kind": found.host.kind,
            "version": version,
            "sha256": hashes_of(local)[-1] if local else None,  # of the program behind a wrapper
            "is_double": found.host.is_stand_in or says_double(said),
        },
        "installed": present.to_json() if present is not None and used else None,
    }


@compiler.command("remove")
@options.as_json
def remove(as_json: bool) -> None:
    """Delete the compiler that `compiler install` brought."""
    from edgeopt.compile.install import remove as delete

    gone = delete()
    if as_json:
        output.emit("compiler", {"removed": gone.to_json() if gone else None})
    elif gone:
        said = f"edgetpu_compiler {gone.version} removed: {gone.path}"
        output.stdout().print(said, markup=False, soft_wrap=True)
    else:
        output.stdout().print("edgeopt has installed no compiler.")
