"""What must be equal for two latencies to mean the same thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeopt.errors import InputError
from edgeopt.measurement.measurement import Measurement

__all__ = ["KEYS", "Difference", "differences", "read_allowed"]

# What may be waived with a reason, and what it means.
KEYS = {
    "device": "the board: its processor, architecture and model",
    "runtime": "the runtime, such as ai_edge_litert, native or benchmark_model",
    "runtime-version": "the version of the runtime",
    "accelerator": "CPU, GPU or Edge TPU",
    "threads": "the number of CPU threads",
    "preparation": "the frequency governor, and the cores that runs were pinned to",
    "shapes": "the shapes of the model's inputs",
    "inputs": "the values that the runs were given",
    "parity": "answers that agree with the host's",
    "effort": "more than one process on each side",
}
_DEVICE = {
    "runtime": "runtime",
    "runtime-version": "runtime_version",
    "accelerator": "accelerator",
    "threads": "threads",
}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """`text` says what differs; `reason` why that was allowed, None when it was not."""

    key: str
    text: str
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"key": self.key, "text": self.text, "allowed_because": self.reason}


def differences(
    documents: Sequence[Mapping[str, Any]],
    measured: Sequence[Measurement],
    allowed: Mapping[str, str],
) -> list[Difference]:
    """How two reports differ in what a latency depends on, in the order of KEYS.

    A field that only one of them has (an older report) is no difference but for the inputs.
    """
    old, new = documents
    devices = [_table(d.get("device")) for d in documents]
    found: list[tuple[str, str]] = []
    for fact in ("cpu", "arch", "model"):
        before, after = (_table(d.get("facts")).get(fact) for d in devices)
        found += _differ("device", f"device {fact}", before, after)
    for key, name in _DEVICE.items():
        found += _differ(key, name, devices[0].get(name), devices[1].get(name))
    governors = [_governors(m.conditions) for m in measured]
    found += _differ("preparation", "frequency governor", *governors)
    found += _differ("preparation", "pinned to cores", _cores(old), _cores(new))
    found += _differ("shapes", "input shapes", _shapes(old), _shapes(new))
    found += _inputs(*devices)
    for name, document in (("old", old), ("new", new)):
        if _table(document.get("parity")).get("passed") is False:
            found.append(("parity", f"the {name} one computes other answers than the host"))
    counts = [len(m.pooled) for m in measured]
    if min(counts) < 2:
        found.append(("effort", f"{_processes(counts)}: how much processes differ is unknown"))
    order = list(KEYS)
    return [
        Difference(key=key, text=text, reason=allowed.get(key))
        for key, text in sorted(found, key=lambda row: order.index(row[0]))
    ]


def read_allowed(values: Sequence[str]) -> dict[str, str]:
    """KEY=REASON of `--allow`. Raises InputError for an unknown key or an empty reason."""
    allowed = {}
    for value in values:
        key, _, reason = value.partition("=")
        if key not in KEYS:
            raise InputError(
                f"--allow {value!r}: there is no difference {key!r}.", f"Known: {', '.join(KEYS)}."
            )
        if not reason.strip():
            raise InputError(
                f"--allow {key} needs a reason, which goes into the report.",
                f'Write --allow "{key}=why the two may be compared all the same".',
            )
        allowed[key] = reason.strip()
    return allowed


def _differ(key: str, name: str, before: Any, after: Any) -> list[tuple[str, str]]:
    if before == after or before is None or after is None:
        return []
    return [(key, f"{name} {before} and {after}")]


def _shapes(document: Mapping[str, Any]) -> str | None:
    inputs = _table(document.get("model")).get("inputs")
    if not isinstance(inputs, list) or not inputs:
        return None
    shapes = [_table(tensor).get("shape") for tensor in inputs]
    return ", ".join("x".join(map(str, s)) if isinstance(s, list) else "?" for s in shapes)


def _table(value: Any) -> Mapping[str, Any]:
    """What a foreign report has in an object's place is not trusted to be one."""
    return value if isinstance(value, Mapping) else {}


def _governors(conditions: Mapping[str, Any]) -> str | None:
    """Of all cores, before the first process; None where the board has none or does not tell."""
    given = _table(conditions.get("before")).get("governor")
    known = sorted({str(g) for g in given if g is not None}) if isinstance(given, list) else []
    return "+".join(known) or None


def _cores(document: Mapping[str, Any]) -> str | None:
    """None in a report of a version that could not pin."""
    if "preparation" not in document:
        return None
    cores = _table(document["preparation"]).get("cores")
    return ",".join(map(str, cores)) if isinstance(cores, list) and cores else "any"


def _inputs(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Seeded random values differ with the input type, and take as long; the user's own may not."""
    kinds = [d.get("inputs") for d in (old, new)]
    hashes = [d.get("inputs_sha256") for d in (old, new)]
    if None in kinds or None in hashes:
        unknown = "inputs of the older report are unknown"
        return [] if kinds == hashes == [None, None] else [("inputs", unknown)]
    if kinds[0] != kinds[1]:
        return [("inputs", f"inputs {kinds[0]} and {kinds[1]}")]
    if hashes[0] == hashes[1] or kinds[0] == "seeded":
        return []
    return [("inputs", f"inputs {str(hashes[0])[:12]} and {str(hashes[1])[:12]}")]


def _processes(counts: Sequence[int]) -> str:
    old, new = counts
    if old == new:
        return "one process on each side"
    return f"one process on the {'old' if old < new else 'new'} side"
