"""What a person sees of how a model was quantized: the layers that cost most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

__all__ = ["layer_name", "worst_layers"]

_SHOWN = 4
_SMALL = 0.05  # a smaller share of the error is not worth a line


def worst_layers(conversion: Mapping[str, Any] | None) -> list[RenderableType]:
    """A short table of the layers with the most of the output's error, worst first; nothing where
    none was measured. `conversion` is the report's."""
    errors = (conversion or {}).get("layer_errors")
    if not errors:
        return []
    known = [layer for layer in errors["layers"] if (layer["share"] or 0) >= _SMALL]
    known.sort(key=lambda layer: (-layer["share"], layer["index"]))
    if not known:
        return []
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("worst layers", overflow="ellipsis", no_wrap=True, max_width=40)
    table.add_column("operation", no_wrap=True)
    for name in ("of the error", "alone, dB", "in all, dB"):
        table.add_column(name, justify="right")
    table.add_column("done")
    for layer in known[:_SHOWN]:
        table.add_row(
            _printable(layer_name(layer["name"])),
            f"{_printable(layer['op'])} #{layer['index']}",
            f"{100 * layer['share']:.0f}%",
            _decibels(layer["alone_sqnr_db"]),
            _decibels(layer["sqnr_db"]),
            ", ".join(layer["done"]) or "-",
        )
    whole = errors["output_sqnr_db"]
    said = "no error" if whole is None else f"{whole:.1f} dB signal to quantization noise"
    line = f"[dim]{said} at the output, over {errors['samples']} calibration samples[/]"
    return ["", table, line]


def layer_name(text: str) -> str:
    """A readable name: of those that a converter joined with ";", the first that is no batch
    normalization, activation or bias."""
    parts = [part for part in text.split(";") if part]
    plain = [part for part in parts if not any(word in part.lower() for word in _FOLDED)]
    return (plain or parts or [text])[0]


_FOLDED = ("batchnorm", "batch_norm", "relu", "biasadd", "readvariableop")


def _printable(text: str) -> str:
    return escape("".join(c if c.isprintable() else "�" for c in text))


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
