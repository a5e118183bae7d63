"""QualityRequest: how hard to work for the accuracy of post-training quantization. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeopt.errors import InputError

__all__ = ["FALLBACKS", "RANGES", "SPLIT_FOR_ACCURACY", "SWITCH", "QualityRequest"]

RANGES = ("auto", "minmax", "percentile", "mse", "octav", "search")
SWITCH = ("auto", "on", "off")
FALLBACKS = ("none", "int16x8", "float32")
SPLIT_FOR_ACCURACY = "4"  # times the multiplications: all activations of a model held twice
_SPLIT_MOST = 16.0


@dataclass(frozen=True, kw_only=True)
class QualityRequest:
    """Raises InputError for values that are none of the named ones.

    "auto" tries what may help and keeps what has the smallest measured loss on the calibration
    data. `fallback` names what the layers that cost most may become instead of int8, where the
    profile allows it; "none" never makes a model slower than plain int8. `splitting` is how many
    times the multiplications of plain int8 activations held twice may cost, as text; "off" is
    never, and "auto" as the goal says.
    """

    ranges: str = "auto"
    equalization: str = "auto"
    bias_correction: str = "auto"
    fallback: str = "none"
    splitting: str = "auto"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("ranges", RANGES),
            ("equalization", SWITCH),
            ("bias_correction", SWITCH),
            ("fallback", FALLBACKS),
        ):
            value = getattr(self, name)
            if value not in allowed:
                flag = name.replace("_", "-")
                raise InputError(
                    f"--{flag} cannot be {value!r}.", f"Use one of: {', '.join(allowed)}."
                )

        if self.splitting not in ("auto", "off") and not _factor(self.splitting):
            raise InputError(
                f"--splitting cannot be {self.splitting!r}.",
                f"Use off, or how many times the multiplications of plain int8 it may cost: more "
                f"than 1, up to {_SPLIT_MOST:g}.",
            )

    def towards(self, goal: str | None) -> QualityRequest:
        """With what `goal` means for what was left open: accuracy above all may cost time."""
        if self.splitting != "auto":
            return self
        return replace(self, splitting=SPLIT_FOR_ACCURACY if goal == "accuracy" else "off")

    @property
    def split_limit(self) -> float:
        """The most multiplications, in those of plain int8, that splitting may cost; 1 for none."""
        return _factor(self.splitting) or 1.0

    @property
    def unimproved(self) -> bool:
        """True when minimum and maximum is all that ranges, channels and biases get."""
        asked = (self.ranges, self.equalization, self.bias_correction)
        return asked == ("minmax", "off", "off") and self.split_limit == 1

    @property
    def plain(self) -> bool:
        """True when nothing beyond minimum and maximum is wanted."""
        return self.unimproved and self.fallback == "none"

    @property
    def forced(self) -> dict[str, str]:
        """By flag, what was asked for whatever is measured, beyond minimum and maximum."""
        asked = {
            "--ranges": self.ranges if self.ranges not in ("auto", "minmax") else "",
            "--equalization": "on" if self.equalization == "on" else "",
            "--bias-correction": "on" if self.bias_correction == "on" else "",
            "--splitting": self.splitting if self.split_limit > 1 else "",
        }
        return {flag: value for flag, value in asked.items() if value}

    def unmet(self, scheme: str | None, kept: Sequence[str]) -> tuple[str, ...]:
        """What was asked for and cannot be, as sentences for the user, before anything is made:
        `kept` are "zeros" and "clusters" that training leaves in the weights."""
        forced = self.forced
        if forced and scheme is not None and scheme not in ("int8", "int16x8"):
            asked = " and ".join(f"{flag} {value}" for flag, value in forced.items())
            verb = "changes" if len(forced) == 1 else "change"
            return (f"{asked} {verb} nothing: {scheme} has no activation ranges.",)
        if "--equalization" in forced and "clusters" in kept:
            return (
                "--equalization on changes nothing: channels of clustered weights may not be "
                "scaled apart.",
            )
        return ()

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def _factor(text: str) -> float | None:
    """A number above 1 and not beyond what is sensible, None for any other text."""
    try:
        found = float(text)
    except ValueError:
        return None
    return found if 1 < found <= _SPLIT_MOST else None
