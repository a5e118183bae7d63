"""The float model as each candidate of `selection` wants it, and the ranges to quantize it with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.optimize.recipes import ConversionRequest
from edgeopt.optimize.selection import Candidate
from edgeopt.optimize.statistics import Statistics

if TYPE_CHECKING:
    from edgeopt.optimize.equalize import Equalized
    from edgeopt.optimize.ranges_search import Shares
    from edgeopt.optimize.statistics import Activation

__all__ = ["Bench"]


@dataclass
class Bench:
    """The float model changed as candidates want it, from one set of statistics."""

    float_path: Path
    request: ConversionRequest
    statistics: Statistics
    label: str
    evened: Equalized | None = None
    looked: bool = False
    corrected: int = 0
    shares: dict[bool, Shares] = field(default_factory=dict)  # whether equalized, then by tensor
    made: dict[tuple[bool, bool], Path] = field(default_factory=dict)

    @property
    def grain(self) -> dict[str, Any]:
        return {
            "per_channel": self.request.per_channel,
            "dense_per_tensor": self.request.legacy_ops,
        }

    def equalized(self) -> Equalized | None:
        from edgeopt.optimize.equalize import equalize

        if not self.looked:
            self.looked = True
            data = self.float_path.read_bytes()
            self.evened = equalize(data, self.statistics.tensors, **self.grain)
        return self.evened

    def activations(self, candidate: Candidate) -> dict[str, Activation]:
        factors = evened.factors if candidate.equalization and (evened := self.evened) else {}
        return {
            name: seen.scaled(factors[name]) if name in factors else seen
            for name, seen in self.statistics.tensors.items()
        }

    def model(self, candidate: Candidate, folder: Path) -> Path:
        """The float .tflite to quantize, made once for each kind."""
        from edgeopt.optimize.bias import correct_biases

        kind = (candidate.equalization, candidate.bias_correction)
        if kind == (False, False):
            return self.float_path
        if kind not in self.made:
            evened = self.equalized() if candidate.equalization else None
            data = evened.model if evened else self.float_path.read_bytes()
            if candidate.bias_correction:
                data, self.corrected = correct_biases(
                    data, self.activations(candidate), keep=self.request.keep, **self.grain
                )
            name = f"{self.label}{'_equalized' * kind[0]}{'_corrected' * kind[1]}.tflite"
            self.made[kind] = folder / name
            self.made[kind].write_bytes(data)
        return self.made[kind]

    def ranges(self, candidate: Candidate) -> dict[str, tuple[list[float], list[float]]]:
        from edgeopt.optimize.logits import floored

        found = self._estimated(candidate)
        if self.request.scheme != "int8" or self.request.quality.equalization == "off":
            return found
        return floored(found, self.float_path.read_bytes())

    def widest(self, candidate: Candidate) -> dict[str, tuple[list[float], list[float]]]:
        """Minimum and maximum, less what a search found to be cut off at the low end by what
        follows (a high end that was drawn in clips values of other data)."""
        found = self.ranges(replace(candidate, ranges="minmax"))
        for name, (below, _) in self.shares.get(candidate.equalization, {}).items():
            low, high = found[name]
            found[name] = ([low[0] * below], high)
        return found

    def _estimated(self, candidate: Candidate) -> dict[str, tuple[list[float], list[float]]]:
        from edgeopt.optimize.ranges import estimated, kept_exact

        exact = kept_exact(self.float_path)
        if candidate.ranges == "search":
            found = estimated(self.activations(candidate), "minmax", exact=exact)
            kept = self.shares.get(candidate.equalization, {})
            for name, (below, above) in kept.items():
                low, high = found[name]
                found[name] = ([low[0] * below], [high[0] * above])
            return found
        activations = self.activations(candidate)
        return estimated(activations, candidate.ranges, exact=exact, bits=self.bits)

    @property
    def bits(self) -> int:
        return 16 if self.request.scheme == "int16x8" else 8
