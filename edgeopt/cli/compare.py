"""`edgeopt compare`: two reports, one verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgeopt.cli import options, output
from edgeopt.errors import InputError, ResultError

__all__ = ["compare"]


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option(
    "--threshold", type=click.FloatRange(0), default=0.03, show_default=True, metavar="X",
    help="A slowdown of more than this fraction is a regression.",
)  # fmt: skip
@options.as_json
def compare(old: Path, new: Path, threshold: float, as_json: bool) -> None:
    """Compare the latencies of two reports (--report FILE.json, or --json output).

    Exit 6 when NEW is slower than OLD by more than the threshold and beyond noise, or when the two
    cannot be compared.
    """
    from edgeopt.measurement import Measurement
    from edgeopt.measurement import compare as judge

    documents = [_load(old), _load(new)]
    differences = _differences(*documents)
    if differences:
        raise ResultError(
            "These measurements cannot be compared: " + "; ".join(differences) + ".",
            "Measure both on the same device with the same runtime and threads.",
        )
    before, after = (Measurement.from_json(d["measurement"]) for d in documents)
    found = judge(before, after, threshold=threshold)
    content = {"old": str(old), "new": str(new), "threshold": threshold, **found.to_json()}
    if not as_json:
        output.stdout().print(str(found), markup=False)
    if found.verdict == "slower":
        raise ResultError(
            f"{new.name} is slower than {old.name}: {found}",
            f"Find what changed, or accept it with a higher --threshold (now {threshold:g}).",
            reached=content,
        )
    if as_json:
        output.emit("compare", content)


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"{path} is not a JSON report: {error}.") from error
    schema = document.get("schema", "") if isinstance(document, dict) else ""
    if schema not in ("edgeopt.deploy/1", "edgeopt.benchmark/1"):
        raise InputError(
            f"{path} is not a report of deploy or benchmark (schema {schema!r}).",
            "Write one with --report FILE.json.",
        )
    if not document.get("measurement"):
        raise InputError(f"{path} holds no measurement.", "The run that wrote it did not finish.")
    return dict(document)


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What must be equal for two latencies to mean the same thing."""
    found = []
    for key in ("runtime", "runtime_version", "accelerator", "threads"):
        before, after = old["device"].get(key), new["device"].get(key)
        if before != after:
            found.append(f"{key} {before} and {after}")
    for key in ("cpu", "arch", "model"):
        before, after = old["device"]["facts"].get(key), new["device"]["facts"].get(key)
        if before != after:
            found.append(f"device {key} {before} and {after}")
    return found
