"""Schemes, what they are called elsewhere, and a request that has been checked. Pure and light."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches

from edgeopt.errors import InputError
from edgeopt.quality import QualityRequest

__all__ = ["CALIBRATED", "SCHEMES", "ConversionRequest", "scheme_named"]

SCHEMES = ("float32", "float16", "dynamic_int8", "int8", "int16x8")
CALIBRATED = frozenset({"int8", "int16x8"})
DEFAULT_SAMPLES = 200  # ranges of the shared models no longer move the result beyond 100 to 200

# LiteRT recipe names and other usual spellings.
_ALIASES = {
    "static_wi8_ai8": "int8",
    "static_wi8_ai16": "int16x8",
    "dynamic_wi8_afp32": "dynamic_int8",
    "full_int8": "int8",
    "full_integer": "int8",
    "dynamic": "dynamic_int8",
    "dynamic_range": "dynamic_int8",
    "int16": "int16x8",
    "16x8": "int16x8",
    "fp16": "float16",
    "fp32": "float32",
    "none": "float32",
}
_REFUSED = {
    "weight_only": "keeps computing in float; dynamic_int8 is as small and faster",
    "wi4": "4-bit weights run on none of the targets; use int8 or dynamic_int8",
    "wi2": "2-bit weights run on none of the targets; use int8 or dynamic_int8",
}
_IO = {"int8": ("int8", "uint8", "float32")}


def scheme_named(text: str) -> str:
    """The scheme that `text` means: its own name, a LiteRT recipe's, or another usual one.

    Raises InputError with the nearest name for an unknown one.
    """
    name = text.strip().lower().replace("-", "_")
    if name in SCHEMES:
        return name
    if name in _ALIASES:
        return _ALIASES[name]
    for part, why in _REFUSED.items():
        if part in name:
            raise InputError(f"The scheme {text!r} is not offered: it {why}.".replace("it 4", "4"))
    near = get_close_matches(name, [*SCHEMES, *_ALIASES], 1)
    guess = f" Did you mean {near[0]}?" if near else ""
    raise InputError(f"There is no scheme named {text!r}.{guess}", f"Known: {', '.join(SCHEMES)}.")


@dataclass(frozen=True, kw_only=True)
class ConversionRequest:
    """What is wanted of a conversion. Raises InputError when it cannot exist.

    `io` None is the scheme's own: int8 for int8, float32 for the others. `calibration_samples`
    None is up to 200. `processes` None is one per processor. `legacy_ops` keeps the file readable
    for tools of the TensorFlow 2.5 era (edgetpu_compiler): inline weights, old operator versions.
    `keep` is what must survive: "zeros" of a pruned model, "clusters" of a clustered one.
    """

    scheme: str
    io: str | None = None
    batch: int = 1
    calibration_samples: int | None = None
    per_channel: bool = True
    legacy_ops: bool = False
    processes: int | None = None
    quality: QualityRequest = field(default_factory=QualityRequest)
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            scheme_named(self.scheme)
            raise InputError(f"Use the scheme's own name, not {self.scheme!r}.", ", ".join(SCHEMES))
        allowed = _IO.get(self.scheme, ("float32",))
        if self.io is not None and self.io not in allowed:
            raise InputError(
                f"{self.scheme} cannot have {self.io} input and output.",
                f"{self.scheme} takes --io {' or '.join(allowed)}; "
                "int8 and uint8 go with --scheme int8.",
            )
        for name in ("batch", "calibration_samples", "processes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}.")

    @property
    def calibrated(self) -> bool:
        """True when activation ranges are measured with the user's data."""
        return self.scheme in CALIBRATED

    @property
    def falls_back(self) -> bool:
        """True when the worst layers may be something else than int8."""
        return self.scheme == "int8" and self.quality.fallback != "none"

    @property
    def final_io(self) -> str:
        return self.io or ("int8" if self.scheme == "int8" else "float32")

    @property
    def samples(self) -> int:
        return self.calibration_samples or DEFAULT_SAMPLES
