"""QualityRequest: how hard to work for the accuracy of post-training quantization. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeopt.errors import InputError

__all__ = ["FALLBACKS", "RANGES", "SWITCH", "QualityRequest"]

RANGES = ("auto", "minmax", "percentile", "mse", "octav", "search")
SWITCH = ("auto", "on", "off")
FALLBACKS = ("none", "int16x8", "float32")


@dataclass(frozen=True, kw_only=True)
class QualityRequest:
    """Raises InputError for values that are none of the named ones.

    "auto" tries what may help and keeps what has the smallest measured loss on the calibration
    data. `fallback` names what the layers that cost most may become instead of int8, where the
    profile allows it; "none" never makes a model slower than plain int8.
    """

    ranges: str = "auto"
    equalization: str = "auto"
    bias_correction: str = "auto"
    fallback: str = "none"

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

    @property
    def unimproved(self) -> bool:
        """True when minimum and maximum is all that ranges, channels and biases get."""
        return (self.ranges, self.equalization, self.bias_correction) == ("minmax", "off", "off")

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
