"""docs/INTERFACES.md names every variable that is read, and every field that measuring writes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from measuring import several

from edgeopt.cli.app import VERBS, app
from edgeopt.device.load.answer import Phase, RawLoad
from edgeopt.device.load.figures import load_figures
from edgeopt.effort import Effort
from edgeopt.load import Load
from edgeopt.measurement import compare
from edgeopt.measurement.turns import TurnProcess, Turns
from edgeopt.report.fleet import DeviceRow, FleetReport
from edgeopt.report.variants import VariantsReport

PAGE = (Path(__file__).parents[2] / "docs" / "INTERFACES.md").read_text(encoding="utf-8")
WORDS = set(re.findall(r"\w+", PAGE))


def commands() -> Iterator[click.Command]:
    context = click.Context(app)
    for verb in VERBS:
        command = app.get_command(context, verb)
        assert command is not None
        yield command
        if isinstance(command, click.Group):
            yield from command.commands.values()


def test_every_variable_that_sets_a_flag_is_listed() -> None:
    read = {str(p.envvar) for command in commands() for p in command.params if p.envvar}
    assert len(read) > 50 and sorted(read - WORDS) == []


def test_no_variable_is_listed_that_nothing_reads() -> None:
    sources = Path(__file__).parents[2].joinpath("edgeopt").rglob("*.py")
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    flags = {str(p.envvar) for command in commands() for p in command.params if p.envvar}
    listed = set(re.findall(r"EDGEOPT_\w+", PAGE))
    assert sorted(name for name in listed - flags if name not in text) == []


def keys(value: Any, *, but: tuple[str, ...] = ()) -> set[str]:
    """All keys of a document; below those in `but` they are data."""
    if isinstance(value, Mapping):
        inner = [keys(item, but=but) for name, item in value.items() if name not in but]
        return set(value).union(*inner)
    return (
        set().union(*(keys(item, but=but) for item in value)) if isinstance(value, list) else set()
    )


def load_document(rate: float) -> dict[str, Any]:
    times = ((0, 10**7), (10**7, 10**7))
    values: dict[str, Any] = {"wall_ns": 1, "cpu_ns": 1, "cores": 1, "offered": 2, "usage": {}}
    names = ("alone", "load", "alone") if rate else ("load",)
    phases = tuple(Phase(name=name, threads=(times,), **values) for name in names)
    raw = RawLoad(
        runtime="x", runtime_version="1", phases=phases, memory_bytes=None, peak_rss_bytes=None,
        conditions={}, facts={},
    )  # fmt: skip
    return load_figures(raw, Load(rate=rate))


def documents() -> dict[str, Any]:
    old, new = several(1e6, 1), several(1e6, 2)
    found = compare(old, new)
    turn = TurnProcess(medians_ns=((1, 2),), runs=(3, 3), loaded=(0, 1))
    variants = VariantsReport(
        variants=(), comparisons=(("a", "b", found),), order=(), seed=0, interleaved=True,
        turns=Turns(names=("a", "b"), processes=(turn,)),
    )  # fmt: skip
    row = DeviceRow(name="a", url="local", kind="local")
    return {
        "measurement": old.to_json(),
        "effort": Effort().to_json(),
        "variants": variants.to_json(),
        "devices": FleetReport(rows=(row,)).to_json(),
        "closed load": load_document(0),
        "open load": load_document(10.0),
    }


def test_every_field_of_a_document_is_named() -> None:
    for name, document in documents().items():
        found = keys(document, but=("conditions", "edgeopt"))
        assert len(found) > 5 and sorted(found - WORDS) == [], name
