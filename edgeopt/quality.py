"""QualityRequest: how hard to work for the accuracy of post-training quantization. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeopt.errors import InputError

__all__ = ["FALLBACKS", "RANGES", "SWITCH", "QualityRequest"]

RANGES = ("auto", "minmax", "percentile", "mse", "octav")
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

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}
