"""`edgeopt compare`: two reports, one verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli import options, output
from edgeopt.cli.options_base import fraction
from edgeopt.errors import InputError, ResultError

if TYPE_CHECKING:
    from edgeopt.measurement import Comparison, Measurement
    from edgeopt.measurement.differences import Difference
    from edgeopt.measurement.turns import Turns

__all__ = ["compare"]

_SCHEMAS = ("edgeopt.deploy/1", "edgeopt.benchmark/1")
_ROWS = ("variants", "devices")


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option(
    "--threshold", default="2%", show_default=True, metavar="X", callback=fraction,
    envvar="EDGEOPT_THRESHOLD", help="A slowdown of more than this is a regression.",
)  # fmt: skip
@click.option(
    "--confidence", default="99%", show_default=True, metavar="X", callback=fraction,
    envvar="EDGEOPT_CONFIDENCE", help="Of the interval that has to leave out 1.",
)  # fmt: skip
@click.option(
    "--session-noise", default="1%", show_default=True, metavar="X", callback=fraction,
    envvar="EDGEOPT_SESSION_NOISE", help="How far two sessions may differ though nothing changed;"
    " not used where OLD and NEW were measured in alternation.",
)  # fmt: skip
@click.option(
    "--variant", "variants", multiple=True, metavar="NAME",
    help="Of reports with several models or devices: which one. Twice: of OLD, then of NEW.",
)  # fmt: skip
@click.option(
    "--allow", multiple=True, metavar="KEY=REASON",
    help="Compare although KEY (device, runtime, runtime-version, accelerator, threads,"
    " preparation, shapes, inputs, parity, effort) differs or is too little; the reason is"
    " reported. Repeatable.",
)  # fmt: skip
@options.as_json
def compare(
    old: Path, new: Path, threshold: float, confidence: float, session_noise: float,
    variants: tuple[str, ...], allow: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Compare the latencies of two reports (--report FILE.json, or --json output).

    Exit 6 when NEW is slower than OLD by more than the threshold and beyond noise, or when the two
    cannot be compared. "inconclusive" exits 0: the verdict is in the words and in --json.
    """
    from edgeopt.measurement import compare as judge
    from edgeopt.measurement.differences import differences, read_allowed

    if not 0.5 <= confidence < 1:
        raise InputError(f"--confidence must be 0.5 or more and below 1, not {confidence:g}.")
    names = _names(variants)
    documents = [_load(path, name) for path, name in zip((old, new), names, strict=True)]
    if variants and not any("row" in d for d in documents):
        raise InputError("Both reports are of one model on one device: leave out --variant.")
    measured = [_measured(path, d) for path, d in zip((old, new), documents, strict=True)]
    found = differences(documents, measured, read_allowed(allow))
    content: dict[str, Any] = {
        "old": str(old), "new": str(new), "variants": [d.get("row") for d in documents],
        "threshold": threshold,
        "differences": [d.to_json() for d in found],
    }  # fmt: skip
    _refuse(found, content)
    _refuse_one_twice(measured)
    _refuse_invalid(measured, content)
    together = old == new and all(d.get("interleaved") for d in documents)
    session = 0.0 if together else session_noise
    turns = _turns(old, documents, together=together)
    logs = turns.log_ratios(*(str(d.get("row")) for d in documents))
    result = judge(
        *measured, threshold=threshold, confidence=confidence, session=session, turns=logs
    )
    notes = _unfinished(documents) + _notes(measured, result, together=together)
    notes += _not_by_turns(turns, len(logs), result)
    sides = [_side(m, result.basis) for m in measured]
    content |= {**result.to_json(), "notes": notes, "sides": sides}
    if not as_json:
        _show(result, sides, found, notes, which=_which((old, new), documents))
    if result.verdict == "slower":
        raise ResultError(
            f"{_name(new, documents[1])} is slower than {_name(old, documents[0])}: "
            f"{result.figures}",
            _what_next(measured, threshold, together=together),
            reached=content,
        )
    if as_json:
        output.emit("compare", content)


def _what_next(measured: Sequence[Measurement], threshold: float, *, together: bool) -> str:
    accept = f"accept it with a higher --threshold (now {100 * threshold:.4g}%)."
    if not together and any(side.disturbance for side in measured):
        return (
            "Disturbed processes are in it, and not measured in alternation: see whether edgeopt"
            f" benchmark OLD NEW --interleave says the same, or {accept}"
        )
    return f"Find what changed, or {accept}"


def _measured(path: Path, document: Mapping[str, Any]) -> Measurement:
    from edgeopt.measurement import Measurement

    try:
        return Measurement.from_json(document["measurement"])
    except InputError as error:
        error.message = f"{path}: {error.message}"
        raise


def _turns(path: Path, documents: Sequence[Mapping[str, Any]], *, together: bool) -> Turns:
    """The processes in which the models of one report took turns; none of two reports."""
    from edgeopt.measurement.turns import Turns

    try:
        return Turns.from_json(documents[0].get("turns") if together else None)
    except InputError as error:
        error.message = f"{path}: {error.message}"
        raise


def _not_by_turns(turns: Turns, count: int, result: Comparison) -> list[str]:
    """Why the verdict does not stand on turns although the models were to take them."""
    if not turns.names or result.method == "turns":
        return []
    why = f": {turns.note}" if turns.note else ""
    return [
        f"Judged by the processes of each, not by turns: {count} processes in which both took turns"
        f" count, too few for an interval at {100 * result.confidence:.12g}%{why}."
    ]


def _refuse_one_twice(measured: Sequence[Measurement]) -> None:
    """A job that compares a build with its own file would always pass. Raises InputError."""
    old, new = ([(p.samples_ns, p.run.summary_ns) for p in m.processes] for m in measured)
    if old == new:
        raise InputError(
            "OLD and NEW are one and the same measurement: every run of them is equal.",
            "Give the report of each build; of several in one file, --variant twice.",
        )


def _names(variants: Sequence[str]) -> tuple[str | None, str | None]:
    if len(variants) > 2:
        raise InputError("--variant can be given twice at most: of OLD, then of NEW.")
    first, last = (variants[0], variants[-1]) if variants else (None, None)
    return first, last


def _name(path: Path, document: Mapping[str, Any]) -> str:
    return str(document.get("row") or path.name)


def _refuse(found: Sequence[Difference], content: Mapping[str, Any]) -> None:
    """Raises ResultError for what differs without a reason."""
    refused = [d for d in found if d.reason is None]
    if not refused:
        return
    keys = list(dict.fromkeys(d.key for d in refused))
    hint = "Measure both on the same device with the same runtime, threads and inputs"
    if "parity" in keys:
        hint = "A model whose answers are wrong has no latency to compare: mend it first"
    if keys == ["effort"]:
        hint = "Measure with more than one process (--processes 5)"
    flags = " ".join(f'--allow "{key}=REASON"' for key in keys)
    raise ResultError(
        f"These measurements cannot be compared: {'; '.join(d.text for d in refused)}.",
        f"{hint}, or say why they may be compared: {flags}.",
        details={"differences": [d.to_json() for d in refused]},
        reached=dict(content),
    )


def _refuse_invalid(measured: Sequence[Measurement], content: Mapping[str, Any]) -> None:
    """Raises ResultError: no reason makes disturbed times comparable."""
    told = [
        f"the {name} one is invalid: {'; '.join(m.invalid_reasons)}"
        for name, m in zip(("old", "new"), measured, strict=True)
        if not m.valid
    ]
    if told:
        raise ResultError(
            f"These measurements cannot be compared: {', and '.join(told)}.",
            "Measure again; with --conditions report, disturbed processes are used all the same.",
            reached=dict(content),
        )


def _load(path: Path, name: str | None) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a JSON report: {error}.") from error
    schema = document.get("schema", "") if isinstance(document, dict) else ""
    if schema not in _SCHEMAS:
        raise InputError(
            f"{path} is not a report of deploy or benchmark (schema {schema!r}).",
            "Write one with --report FILE.json.",
        )
    row = _row(path, document, name)
    if not isinstance(row.get("measurement"), dict):
        raise InputError(f"{path} holds no measurement.", "The run that wrote it did not finish.")
    for key in ("device", "model"):
        if not isinstance(row.get(key) or {}, dict):
            raise InputError(f"{path} is not a report of edgeopt: its {key} is no object.")
    return row


def _row(path: Path, document: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """The report itself, or the one of several that `name` picks, which is then its `row`."""
    kind = next((k for k in _ROWS if isinstance(document.get(k), list)), None)
    if kind is None:
        return dict(document)
    rows = {str(r.get("name")): r for r in document[kind] if isinstance(r, dict)}
    known = f"It has: {', '.join(rows)}."
    if name is None:
        raise InputError(f"{path} holds several measurements.", f"Pick with --variant. {known}")
    if name not in rows:
        raise InputError(f"{path} has no {name!r}.", known)
    kept = {key: document.get(key) for key in ("interleaved", "turns")}
    return {**rows[name], **kept, "row": name}


def _unfinished(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """What ended a run whose times are compared as far as they came."""
    told = []
    for name, document in zip(("old", "new"), documents, strict=True):
        error = document.get("error")
        if isinstance(error, dict):
            told.append(f"The run of the {name} one ended early: {error.get('message')}")
    return told


def _notes(measured: Sequence[Measurement], result: Comparison, *, together: bool) -> list[str]:
    """What the interval does not know."""
    notes = []
    for name, side in zip(("old", "new"), measured, strict=True):
        disturbed = sum(not p.valid for p in side.pooled)
        if disturbed:
            notes.append(
                f"{disturbed} of {len(side.pooled)} processes of the {name} one were disturbed and"
                " are used all the same (--conditions report)."
            )
    if result.method == "turns":
        notes.append(
            f"The ratio is of {result.processes[0]} processes in which both took turns, not of the"
            " times above: what slowed one of them there slowed the other as well."
        )
    elif result.within_only:
        notes.append("One process each: how much processes differ is not in the interval.")
    elif min(result.processes) < 2:
        notes.append("One process on one side: it is taken to vary as those of the other.")
    if not together:
        notes.append(
            "Not measured in alternation: the interval allows"
            f" {100 * result.session:g}% for what changed between the two (temperature, other"
            " load). `edgeopt benchmark OLD NEW --interleave` needs no allowance."
        )
    return notes


def _side(measured: Measurement, basis: str) -> dict[str, Any]:
    """`ci95_ns` is that of the median, or of the mean where the comparison is of means."""
    variance, stats = measured.details["variance"] or {}, measured.stats
    interval = stats.ci95_ns if basis == "median" else stats.mean_ci95_ns
    return {
        "median_ns": stats.median_ns,
        "mean_ns": stats.mean_ns,
        "ci95_ns": list(interval) if interval else None,
        "runs": measured.runs,
        "processes": len(measured.pooled),
        "within_sd": variance.get("within_sd"),
        "between_sd": variance.get("between_sd"),
    }


def _which(paths: Sequence[Path], documents: Sequence[Mapping[str, Any]]) -> str:
    """Which is which, for whoever reads it without the command."""
    named = [
        f"{side} is {document['row']} of {path}" if document.get("row") else f"{side} is {path}"
        for side, path, document in zip(("old", "new"), paths, documents, strict=True)
    ]
    return ", ".join(named)


def _show(
    result: Comparison,
    sides: Sequence[Mapping[str, Any]],
    found: Sequence[Difference],
    notes: Sequence[str],
    *,
    which: str,
) -> None:
    from edgeopt.report.comparison import comparison_view

    output.stdout().print(comparison_view(result, sides, found, notes, which=which))
