"""Report: every number of a deploy with what it came from, as values and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeopt import __version__
from edgeopt.artifact import Artifact
from edgeopt.facts import ModelFacts, Tensor
from edgeopt.findings import ConstraintReport, OpPlacement, Placement
from edgeopt.measurement import Measurement
from edgeopt.model.layer_names import layer_names
from edgeopt.plan import Plan
from edgeopt.target import Target

__all__ = ["Report", "model_json", "ops_json"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is known so far; None is "not measured", never zero.

    `device` holds name, kind, facts, model_sha256, runtime and sent_bytes; `parity` is None where
    nothing could be compared, and `parity_note` then says why. `notes` are the things that a
    reader must know before using a number. `candidates` are the rows of a search under an accuracy
    budget, None where there was none. `beside` is plain int8, measured in alternation with a final
    file that holds activations twice. `failure` is the error that ended the work early.
    """

    model: ModelFacts
    target: Target
    plan: Plan | None = None
    artifacts: tuple[Artifact, ...] = ()
    constraints: ConstraintReport | None = None
    placement: Placement | None = None
    estimate: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    preservation: Mapping[str, Any] | None = None
    conversion: Mapping[str, Any] | None = None
    compilation: Mapping[str, Any] | None = None
    accuracy: Mapping[str, Any] | None = None
    device: Mapping[str, Any] | None = None
    parity: Mapping[str, Any] | None = None
    parity_note: str = ""
    effort: Mapping[str, Any] | None = None
    measurement: Measurement | None = None
    beside: Mapping[str, Any] | None = None
    preparation: Mapping[str, Any] | None = None
    tries: tuple[Mapping[str, Any], ...] = ()
    profile: Mapping[str, Any] | None = None
    throughput: Mapping[str, Any] | None = None
    candidates: tuple[Mapping[str, Any], ...] | None = None
    notes: tuple[str, ...] = ()
    failure: Mapping[str, Any] | None = None
    timings_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def final(self) -> Artifact | None:
        """The file that runs on the device."""
        return self.artifacts[-1] if self.artifacts else None

    def to_json(self) -> dict[str, Any]:
        return {
            "edgeopt": __version__,
            "model": model_json(self.model),
            "target": self.target.to_json(),
            "plan": self.plan.to_json() if self.plan else None,
            "artifacts": [a.to_json() for a in self.artifacts],
            "constraints": self.constraints.to_json() if self.constraints else None,
            "placement": self.placement.to_json() if self.placement else None,
            "estimate": _copy(self.estimate),
            "training": _copy(self.training),
            "preservation": _copy(self.preservation),
            "conversion": _copy(self.conversion),
            "compilation": _copy(self.compilation),
            "accuracy": _copy(self.accuracy),
            "device": _copy(self.device),
            "parity": _copy(self.parity),
            "parity_note": self.parity_note or None,
            "effort": _copy(self.effort),
            "measurement": self.measurement.to_json() if self.measurement else None,
            "beside": _copy(self.beside),
            "preparation": _copy(self.preparation),
            "tries": [dict(t) for t in self.tries],
            "profile": _copy(self.profile),
            "throughput": _copy(self.throughput),
            "candidates": None if self.candidates is None else [dict(c) for c in self.candidates],
            "notes": list(self.notes),
            "error": _copy(self.failure),
            "timings_s": {k: round(v, 4) for k, v in self.timings_s.items()},
        }


def _copy(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if value is None else dict(value)


def model_json(facts: ModelFacts) -> dict[str, Any]:
    """The `model` object of `inspect` and `deploy`."""
    return {
        "path": str(facts.path),
        "format": facts.format,
        "sha256": facts.sha256,
        "size_bytes": facts.size_bytes,
        "gzip_bytes": facts.gzip_bytes,
        "parameters": facts.parameters,
        "inputs": [_tensor(t) for t in facts.inputs],
        "outputs": [_tensor(t) for t in facts.outputs],
        "signatures": list(facts.signatures),
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    quantization = tensor.quantization
    return {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": None if tensor.shape is None else list(tensor.shape),
        "scale": quantization.scales[0] if quantization and quantization.scales else None,
        "zero_point": (
            quantization.zero_points[0] if quantization and quantization.zero_points else None
        ),
    }


def ops_json(facts: ModelFacts, placement: Placement | None) -> list[dict[str, Any]]:
    """The `ops` list of `inspect`: where each operation runs and why, where that is known."""
    placed = _placed(facts, placement)
    names = [name for graph in facts.subgraphs for name in layer_names(graph)]
    rows = []
    for op, name in zip(facts.operators(), names, strict=True):
        row: dict[str, Any] = {
            "index": op.index,
            "subgraph": op.subgraph,
            "op": op.op,
            "version": op.version,
            "layer": name,
            "dtype": op.outputs[0].dtype if op.outputs else None,
            "shapes": {
                "inputs": [
                    None if t is None or t.shape is None else list(t.shape) for t in op.inputs
                ],
                "outputs": [None if t.shape is None else list(t.shape) for t in op.outputs],
            },
        }
        if where := placed.get((op.subgraph, op.index)):
            row |= {
                "placement": where.placement,
                "reason": where.reason,
                "hint": where.hint,
                "cause": where.cause,
                "phrase": where.phrase,
                "certain": where.certain,
            }
        rows.append(row)
    return rows


def _placed(facts: ModelFacts, placement: Placement | None) -> dict[tuple[int, int], OpPlacement]:
    """By subgraph and index. Placements that cover the whole file are in its order; others (of a
    compiled file's source) tell about the first subgraph alone."""
    ops = placement.ops if placement else ()
    keys = [(op.subgraph, op.index) for op in facts.operators()]
    if len(ops) == len(keys):
        return dict(zip(keys, ops, strict=True))
    return {(0, op.index): op for op in ops}
