"""What `edgeopt fix` is asked for and gives back, as values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeopt.artifact import Artifact
from edgeopt.facts import ModelFacts
from edgeopt.findings import ConstraintReport, Placement
from edgeopt.repair import Explanation, Part, Proof, Step
from edgeopt.target import Target

__all__ = ["CPU_ROLES", "Cut", "Fixed", "Look", "Request"]

CPU_ROLES = ("head", "tail")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for. `split_at` are tensor names; `io` is "int8", "uint8", "keep" or "".

    `samples` are arrays for the model's inputs, sample after sample, that the proof uses too.
    """

    model: Path
    target: str
    output: Path | None = None
    io: str = ""
    split_at: tuple[str, ...] = ()
    cut_head: bool = False
    cut_tail: bool = False
    own_kernels: bool = False
    partial: bool = False
    dry_run: bool = False
    calibration: str | None = None
    preprocess: Any = None
    calibration_samples: int | None = None

    @property
    def splits(self) -> bool:
        return bool(self.split_at or self.cut_head or self.cut_tail)


@dataclass(frozen=True, kw_only=True)
class Look:
    """One file as the profile sees it."""

    facts: ModelFacts
    constraints: ConstraintReport
    placement: Placement | None
    explanations: tuple[Explanation, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One file of a chain, with what was predicted for it and where it was written."""

    part: Part
    look: Look
    name: str
    artifact: Artifact | None = None


@dataclass(kw_only=True)
class Fixed:
    """What was found, tried, proven and written. `complete`: no rule is broken any more."""

    model: ModelFacts
    target: Target
    before: Look
    after: Look
    steps: tuple[Step, ...] = ()
    cuts: tuple[Cut, ...] = ()
    chain_proof: Proof | None = None
    artifacts: tuple[Artifact, ...] = ()
    manifest: Path | None = None
    changed: bool = False
    complete: bool = False
    partial: bool = False
    dry_run: bool = False
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        from edgeopt.report import model_json

        return {
            "model": model_json(self.model),
            "target": self.target.to_json(),
            "changed": self.changed,
            "complete": self.complete,
            "partial": self.partial,
            "dry_run": self.dry_run,
            "explanations": [e.to_json() for e in self.before.explanations],
            "repairs": [step.to_json() for step in self.steps],
            "before": _look_json(self.before),
            "after": _look_json(self.after),
            "remaining": [e.to_json() for e in self.after.explanations],
            "parts": [_cut_json(c) for c in self.cuts],
            "split_proof": self.chain_proof.to_json() if self.chain_proof else None,
            "artifacts": [a.to_json() for a in self.artifacts],
            "manifest": str(self.manifest) if self.manifest else None,
            "notes": list(self.notes),
        }


def _look_json(look: Look) -> dict[str, Any]:
    return {
        "constraints": look.constraints.to_json(),
        "placement": look.placement.to_json() if look.placement else None,
    }


def _cut_json(one: Cut) -> dict[str, Any]:
    return {
        "name": one.name,
        "role": one.part.role,
        "path": str(one.artifact.path) if one.artifact else None,
        "sha256": hashlib.sha256(one.part.data).hexdigest(),
        "operations": len(one.part.operators),
        "inputs": [one.part.names[i] for i in one.part.inputs],
        "outputs": [one.part.names[i] for i in one.part.outputs],
        **_look_json(one.look),
    }
