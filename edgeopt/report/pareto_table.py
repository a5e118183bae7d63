"""What `edgeopt tune` shows on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text

from edgeopt.report.candidates import candidates_table

__all__ = ["tune_summary"]


def tune_summary(content: Mapping[str, Any]) -> RenderableType:
    """The table of all candidates, the front marked, and what may not be read into it."""
    rows, front = content["candidates"], content["front"]
    device = content["device"]
    cpu = device["facts"].get("model") or device["facts"].get("cpu") or ""
    parts: list[RenderableType] = [
        f"[bold]{escape(str(content['target']['name']))}[/] on {escape(device['name'])}  "
        f"[dim]{escape(str(cpu))}[/]",
        "",
        candidates_table(rows, front=front),
        "",
        "[green]*[/] is on the Pareto front of accuracy, latency and download (gzip): nothing "
        "measured beats it in one without losing in another. Latencies whose 95% intervals "
        "overlap are not ranked.",
    ]
    if all(row["accuracy"] is None for row in rows):
        parts.append("Accuracy was not measured: give --eval-data.")
    parts += _chance(rows)
    if any(row["within_budget"] is not None for row in rows):
        kept = [row["name"] for row in rows if row["within_budget"]]
        budget = f"{content['max_accuracy_drop']:g}"
        parts.append(Text(f"within the accuracy budget of {budget}: {', '.join(kept) or 'none'}"))
    for row in rows:
        reasons = row["invalid_reasons"] or ([row["error"]["message"]] if row["error"] else [])
        parts += [Text(f"{row['name']}: {reason}", style="red") for reason in reasons]
        if told := row.get("latency_disturbance"):
            parts.append(Text(f"{row['name']}: {told[:1].lower()}{told[1:]}", style="yellow"))
        if row["beaten_by"]:
            parts.append(Text(f"{row['name']} is beaten by {row['beaten_by']}", style="dim"))
    parts += ["", Text(f"models and results: {content['output']}", overflow="fold")]
    return Group(*parts)


def _chance(rows: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """How much of an accuracy is chance: what the number of samples leaves open."""
    errors = [row["standard_error"] for row in rows if row["standard_error"]]
    if not errors:
        return []
    samples = max(row["samples"] or 0 for row in rows)
    return [
        f"Accuracy is of {samples} samples, the same for all, with a standard error of up to "
        f"{max(errors):.4f}: a smaller difference may be chance on other data."
    ]
