"""The section about training: what each technique did, for how long, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeopt.report.units import percent_text

__all__ = ["training_lines"]

_PAST = {"prune": "pruned", "cluster": "clustered", "qat": "trained for quantization"}


def training_lines(training: Mapping[str, Any]) -> str:
    """A line for each technique, then the held-back samples before and after."""
    lines = [_technique(training, name) for name in training["techniques"]]
    if why := training.get("stopped"):
        lines.append(f"[dim]stopped early: {why}[/]")
    if held := training.get("held_back"):
        lines.append(_held_back(held))
    return "\n".join(lines)


def _technique(training: Mapping[str, Any], name: str) -> str:
    layers = [layer for layer in training["layers"] if name in layer["techniques"]]
    rows = [row for row in training["history"] if row["technique"] == name]
    text = f"{_PAST[name]}: {len(layers)} layers"
    if name == "prune":
        text += f", at least {min((layer['sparsity'] for layer in layers), default=0):.1%} zeros"
    if name == "cluster":
        most = max((layer["clusters"] for layer in layers), default=0)
        text += f", at most {most} values in each"
    kept = next((row["epoch"] for row in rows if row.get("kept")), None)
    if rows and kept is not None:
        state = f"after epoch {kept}" if kept else "before training"
        count = rows[-1]["epoch"]
        text += f"  [dim]{count} epoch{'s' * (count != 1)}, state {state} kept[/]"
    return text


def _held_back(held: Mapping[str, Any]) -> str:
    metric = {"top1": "top1", "agreement": "agreement with float"}.get(held["metric"])
    if metric is None or held["after"] is None:
        return f"[dim]relative error {held['loss_after']:.4f} on {held['samples']} held back[/]"
    drop = percent_text(held["before"] - held["after"])
    return (
        f"held back {metric} {held['after']:.4f}, float {held['before']:.4f}, drop {drop}  "
        f"[dim]{held['samples']} samples, in float[/]"
    )
