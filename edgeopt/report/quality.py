"""What a person sees of how a model was quantized: what is held twice, and the layers that cost
most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table

from edgeopt.artifact import Artifact
from edgeopt.report.printable import plain
from edgeopt.report.units import bytes_text, count_text, duration_text

__all__ = ["held_twice", "layer_name", "worst_layers"]

_SHOWN = 4
_NAMED = 4  # activations that are held twice
_NAME = (12, 40)  # columns of a layer's name
_FIGURES, _DONE = 26, 17  # columns of the three figures and of what was done
_SMALL = 0.05  # a smaller share of the error is not worth a line


def held_twice(
    conversion: Mapping[str, Any] | None,
    beside: Mapping[str, Any] | None,
    final: Artifact | None,
) -> str:
    """Which activations are held twice and what that costs beside plain int8; "" where none is.
    `conversion` and `beside` are the report's."""
    said = ((conversion or {}).get("quality") or {}).get("splitting") or {}
    if not said.get("kept"):
        return ""
    names = [layer_name(name) for name in said["tensors"]]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    work = [count_text(said["multiplications"][when]) for when in ("after", "before")]
    costs = [f"{said['factor']:.2f} times the multiplications ({work[0]}, not {work[1]})"]
    single = said.get("plain_int8")
    if single and final:
        costs.append(f"{bytes_text(final.size_bytes)}, not {bytes_text(single['size_bytes'])}")
    if beside:
        costs.append(_slower(beside))
    four = len(said.get("four_times") or ())
    again = f" ({four} of them four times)" if four else ""
    return (
        f"{len(names)} activations{again}: {plain(', '.join(names[:_NAMED]))}{more}\n"
        f"[dim]beside plain int8:[/] {'; '.join(costs)}"
    )


def _slower(beside: Mapping[str, Any]) -> str:
    """The ratio of the times, measured in alternation."""
    found, stats = beside["comparison"], beside["measurement"]["stats"]
    typical = stats["median_ns"] or stats["mean_ns"]
    text = "plain int8 gave no time"
    if typical:
        text = f"{found['ratio']:.2f} times its {duration_text(typical)}"
    if found["interval95"]:
        low, high = found["interval95"]
        text += f" (95% interval {low:.2f} to {high:.2f})"
    return text if beside["measurement"]["valid"] else f"{text}, which is invalid"


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
    whole = errors["output_sqnr_db"]
    said = "no error" if whole is None else f"{whole:.1f} dB signal to quantization noise"
    line = f"[dim]{said} at the output, over {errors['samples']} calibration samples;\n"
    line += "error: share of it; alone and in all: signal to noise of the layer's result, dB[/]"
    return ["", _Layers(known[:_SHOWN]), line]


class _Layers:
    """The table of the worst layers; names are cut so that the rest fits the terminal."""

    def __init__(self, layers: list[Mapping[str, Any]]) -> None:
        self.layers = layers

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        operations = [f"{plain(la['op'])} #{la['index']}" for la in self.layers]
        left = options.max_width - max(map(len, operations)) - _FIGURES - _DONE
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        width = max(_NAME[0], min(_NAME[1], left))
        table.add_column("worst layers", overflow="ellipsis", no_wrap=True, max_width=width)
        table.add_column("operation", no_wrap=True)
        for name in ("error", "alone", "in all"):
            table.add_column(name, justify="right", max_width=6)
        table.add_column("done", min_width=_DONE - 2)
        for layer, operation in zip(self.layers, operations, strict=True):
            table.add_row(
                plain(layer_name(layer["name"])),
                operation,
                f"{100 * layer['share']:.0f}%",
                _decibels(layer["alone_sqnr_db"]),
                _decibels(layer["sqnr_db"]),
                "\n".join(layer["done"]) or "-",
            )
        yield table


def layer_name(text: str) -> str:
    """A readable name: of those that a converter joined with ";", the first that is no batch
    normalization, activation or bias."""
    parts = [part for part in text.split(";") if part]
    plain = [part for part in parts if not any(word in part.lower() for word in _FOLDED)]
    return (plain or parts or [text])[0]


_FOLDED = ("batchnorm", "batch_norm", "relu", "biasadd", "readvariableop")


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
