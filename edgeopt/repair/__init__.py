"""Explain why operations stay on the CPU, and repair what can be repaired without any change.

`explain` says it in words; `apply` makes the repairs that a runtime proves to change no output;
`split` cuts off what cannot be mapped into files of its own.
"""

from __future__ import annotations

from edgeopt.repair.apply import REPAIRS, Standing, Step, apply
from edgeopt.repair.attached import keep_attached
from edgeopt.repair.dense import scaled_by_channel
from edgeopt.repair.explain import CONSEQUENCES, Explanation, explain, repairable
from edgeopt.repair.proof import Proof, Prover
from edgeopt.repair.repair import Need
from edgeopt.repair.split import Part, around, at_tensors, cut

__all__ = [
    "CONSEQUENCES",
    "REPAIRS",
    "Explanation",
    "Need",
    "Part",
    "Proof",
    "Prover",
    "Standing",
    "Step",
    "apply",
    "around",
    "at_tensors",
    "cut",
    "explain",
    "keep_attached",
    "repairable",
    "scaled_by_channel",
]
