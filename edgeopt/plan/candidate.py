"""A candidate: techniques, a scheme and settings that one file can be made with. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from edgeopt.errors import InputError
from edgeopt.profile.profile import SCHEMES
from edgeopt.quality import QualityRequest
from edgeopt.toml_file import did_you_mean
from edgeopt.training import TECHNIQUES, TrainingRequest

__all__ = ["NEEDS_CALIBRATION", "Candidate", "Spec", "parse_spec"]

NEEDS_CALIBRATION = frozenset({"int8", "int16x8"})

# technique: the field of TrainingRequest that `technique=VALUE` sets, and its type
_VALUES: Mapping[str, tuple[str, type[int] | type[float]]] = {
    "prune": ("final_sparsity", float),
    "cluster": ("clusters", int),
}
# what `int8:plain` stands for: minimum and maximum, nothing else
_PLAIN = {"ranges": "minmax", "equalization": "off", "bias_correction": "off", "fallback": "none",
          "splitting": "off"}  # fmt: skip
_EXAMPLE = "Write TECHNIQUE[=VALUE]+SCHEME[:SETTING=VALUE], such as prune=0.5+qat+int8:ranges=mse."


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What `prune=0.5+int8:ranges=mse` says. `scheme` None: the plan's own.

    `training` and `quality` are fields of TrainingRequest and QualityRequest.
    """

    scheme: str | None
    techniques: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    quality: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The one way to write it: `parse_spec(spec.name) == spec`."""
        values = {name: self.training.get(key) for name, (key, _) in _VALUES.items()}
        parts = [
            f"{name}={values[name]:g}" if values.get(name) is not None else name
            for name in self.techniques
        ]
        settings = ",".join(f"{key}={value}" for key, value in sorted(self.quality.items()))
        if dict(self.quality) == _PLAIN:
            settings = "plain"
        if self.scheme:
            parts.append(self.scheme + (f":{settings}" if settings else ""))
        return "+".join(parts)


def parse_spec(text: str) -> Spec:
    """Raises InputError naming the part that is wrong."""
    head, _, settings = text.strip().partition(":")
    parts = [part.strip() for part in head.split("+")]
    scheme = parts.pop() if parts and parts[-1] in SCHEMES else None
    techniques: list[str] = []
    training: dict[str, Any] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if name not in TECHNIQUES:
            guess = did_you_mean(name, (*TECHNIQUES, *SCHEMES))
            raise InputError(f"The candidate {text!r} has {part!r} in it.{guess}", _EXAMPLE)
        if name in techniques:
            raise InputError(f"The candidate {text!r} names {name} twice.", _EXAMPLE)
        techniques.append(name)
        if equals:
            training |= _value(text, name, value)
    if settings and scheme is None:
        raise InputError(f"The candidate {text!r} has settings without a scheme.", _EXAMPLE)
    quality = _settings(text, settings) if settings else {}
    if quality and scheme not in NEEDS_CALIBRATION:
        raise InputError(
            f"The candidate {text!r}: {scheme} has no activation ranges to work on.",
            "Settings after the colon go with int8 and int16x8.",
        )
    TrainingRequest(techniques=tuple(techniques), **training)  # refuses values that cannot be
    QualityRequest(**quality)
    ordered = tuple(t for t in TECHNIQUES if t in techniques)
    return Spec(scheme=scheme, techniques=ordered, training=training, quality=quality)


def _value(text: str, name: str, value: str) -> dict[str, float | int]:
    if name not in _VALUES:
        raise InputError(f"The candidate {text!r}: {name} takes no value.", _EXAMPLE)
    key, kind = _VALUES[name]
    try:
        return {key: kind(value)}
    except ValueError as error:
        raise InputError(f"The candidate {text!r}: {value!r} is not a number.", _EXAMPLE) from error


def _settings(text: str, settings: str) -> dict[str, str]:
    if settings.strip() == "plain":
        return dict(_PLAIN)
    known = [item.name for item in fields(QualityRequest)]
    found = {}
    for setting in settings.split(","):
        key, _, value = (part.strip() for part in setting.partition("="))
        key = key.replace("-", "_")
        if key not in known:
            raise InputError(
                f"The candidate {text!r} sets {key!r}.{did_you_mean(key, known)}",
                f"Settings: {', '.join(known)}, or `plain` alone.",
            )
        found[key] = value
    return found


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One choice of the decision: what it needs, what it gives, and why (not) here.

    `needs` and `missing` are of "calibration" and "train_data". `refused` says why it cannot be had
    here whatever data there is, "" where it can. `ladder` is True when a search under an accuracy
    budget tries it. `expected_size_ratio` is against float32 weights, None where only the
    measurement can tell. `support` is the hardware of the published table.
    """

    spec: Spec
    needs: tuple[str, ...]
    missing: tuple[str, ...]
    refused: str
    ladder: bool
    slow: bool
    expected_size_ratio: float | None
    expected_size_bytes: int | None
    support: tuple[str, ...]
    reason: str
    cost: str

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def available(self) -> bool:
        return not self.missing and not self.refused

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "scheme": self.spec.scheme,
            "techniques": list(self.spec.techniques),
            "quality": dict(self.spec.quality),
            "needs": list(self.needs),
            "missing": list(self.missing),
            "available": self.available,
            "slow": self.slow,
            "expected_size_bytes": self.expected_size_bytes,
            "expected_size_ratio": self.expected_size_ratio,
            "support": list(self.support),
            "reason": self.reason,
            "cost": self.cost,
        }
