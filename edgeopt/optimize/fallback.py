"""Fallback: the layers that cost most, in 16-bit activations or in float instead of int8.

Only on request and where the profile takes it: every such layer is slower than in int8. Layers join
worst first (by their share of the output's error), in sets that grow; each set is quantized and
measured on calibration samples, and the smallest set stays from which more is not worth its layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError
from edgeopt.optimize.layer_errors import (
    LayerError,
    LayerErrors,
    layer_errors,
    output_sqnr_db,
)
from edgeopt.optimize.quantizer import requantize
from edgeopt.optimize.recipes import ConversionRequest
from edgeopt.profile import HardwareProfile
from edgeopt.progress import Progress

if TYPE_CHECKING:
    from edgeopt.dataset import Dataset
    from edgeopt.optimize.calibration import Ranges

__all__ = [
    "Fallback",
    "Trial",
    "choose",
    "growing",
    "order",
    "refuse_fallback",
    "replace_worst",
]

_NEAR_FLOAT_DB = 36.0  # noise of 1.6% of the signal's amplitude: arg-max changes in ties only
_WORTH_DB = 1.0  # for twice the layers; less is within the noise of few samples
_MOST = 32  # layers; a model that needs more wants another scheme
_FREE = ("RESHAPE", "SOFTMAX", "LOGISTIC")  # exact, or behind where the error is measured


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A set of layers (by result name) and the output's SQNR in dB; None where nothing differs."""

    layers: tuple[str, ...]
    output_sqnr_db: float | None

    @property
    def decibels(self) -> float:
        return float("inf") if self.output_sqnr_db is None else self.output_sqnr_db


@dataclass(frozen=True, kw_only=True)
class Fallback:
    """What was tried and which set stayed; `trials` begins with none in fallback."""

    kind: str
    trials: tuple[Trial, ...]
    chosen: Trial
    samples: int

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "layers": list(self.chosen.layers),
            "samples": self.samples,
            "output_sqnr_db": self.chosen.output_sqnr_db,
            "without_sqnr_db": self.trials[0].output_sqnr_db,
            "trials": [
                {"layers": len(t.layers), "output_sqnr_db": t.output_sqnr_db} for t in self.trials
            ],
        }

    @property
    def done(self) -> dict[str, tuple[str, ...]]:
        """By result name, what was done: for the report of each layer's error."""
        return dict.fromkeys(self.chosen.layers, (self.kind,))

    @property
    def note(self) -> str:
        before, after = (_text(t.output_sqnr_db) for t in (self.trials[0], self.chosen))
        if not self.chosen.layers:
            best = max(self.trials[1:], key=lambda t: t.decibels, default=self.trials[0])
            return (
                f"No layer became {self.kind}: the output's signal to noise is {before} on "
                f"{self.samples} calibration samples, and {_text(best.output_sqnr_db)} with "
                f"{len(best.layers)} layers in {self.kind}."
            )
        count = len(self.chosen.layers)
        return (
            f"{count} layer{'s' * (count > 1)} that cost most "
            f"{'are' if count > 1 else 'is'} {self.kind} instead of int8: the output's signal to "
            f"noise rises from {before} to {after} on {self.samples} calibration samples. "
            "It is slower than plain int8."
        )


def refuse_fallback(profile: HardwareProfile, kind: str) -> None:
    """Raise InputError naming the profile's rule where layers in `kind` ("none" is always right)
    would break it."""
    if kind == "none":
        return
    wanted = "int16" if kind == "int16x8" else "float32"
    if wanted == "float32" and not profile.float_fallback:
        rule = "its rule [float] fallback = false"
    elif wanted not in profile.activation_types:
        rule = f"its activations.types: {', '.join(profile.activation_types)}"
    else:
        return
    raise InputError(
        f"--fallback {kind} puts {wanted} activations into the model, and {profile.name} does not "
        f"take them ({rule}).",
        "Leave --fallback out; --goal accuracy, more calibration data or quantization-aware "
        "training (--technique qat) stay within the profile.",
    )


def order(errors: LayerErrors) -> list[LayerError]:
    """Those that may fall back, worst first; operations that add nothing are left out."""
    found = [layer for layer in errors.worst(len(errors.layers)) if layer.op not in _FREE]
    return found[:_MOST]


def growing(count: int) -> list[int]:
    """Sizes of the sets to try: 1, 2, 3, 4, 6, 8, 12, 16, 24 ... up to `count`."""
    sizes = [1, 2, 3]
    while sizes[-1] < count:
        sizes.append(sizes[-2] * 2)
    return sorted({min(size, count) for size in sizes if count})


def choose(trials: Sequence[Trial]) -> Trial:
    """The smallest set that is near the float model, or from which doubling no longer pays.

    A set is worth it when it gains 1 dB over the best smaller one for each doubling of its layers
    (at least 1 dB); the first layer too.
    """
    best = trials[0]
    for trial in trials[1:]:
        if best.decibels >= _NEAR_FLOAT_DB:
            break
        doublings = max(1.0, len(trial.layers) / max(1, 2 * len(best.layers)))
        if trial.decibels >= best.decibels + _WORTH_DB * doublings:
            best = trial
    return best


def replace_worst(
    float_path: Path,
    request: ConversionRequest,
    result: Path,
    measured: Ranges,
    dataset: Dataset,
    progress: Progress,
) -> Fallback:
    """Replace the int8 model at `result` by one with the request's fallback, where it pays.

    Raises ModelError with the quantizer's or the runtime's reason when a set cannot be made.
    """
    errors = layer_errors(float_path, result, dataset, progress=progress)
    layers = [layer.name for layer in order(errors)]
    trials = [Trial(layers=(), output_sqnr_db=errors.output_sqnr_db)]
    files: dict[int, Path] = {}
    for size in growing(len(layers)):
        if choose(trials).decibels >= _NEAR_FLOAT_DB:
            break
        made = result.with_name(f"fallback_{size}.tflite")
        requantize(float_path, request, made, measured, layers=layers[:size], progress=progress)
        found = output_sqnr_db(float_path, made, dataset)
        trials.append(Trial(layers=tuple(layers[:size]), output_sqnr_db=found))
        files[size] = made
    chosen = choose(trials)
    if chosen.layers:
        files[len(chosen.layers)].replace(result)
    return Fallback(
        kind=request.quality.fallback,
        trials=tuple(trials),
        chosen=chosen,
        samples=errors.samples,
    )


def _text(decibels: float | None) -> str:
    return "exact" if decibels is None else f"{decibels:.1f} dB"
