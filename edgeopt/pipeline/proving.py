"""A compiled file held against its source: what is inside, and was that predicted?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeopt.facts import ModelFacts
from edgeopt.findings import Placement
from edgeopt.model.edgetpu_payload import Partition
from edgeopt.profile import HardwareProfile
from edgeopt.verify.mapping import Comparison, Mapping, compare, prove

__all__ = ["Proof", "compiled_json", "prove_compiled"]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The mapping, the prediction for the source, and where the two differ."""

    mapping: Mapping
    comparison: Comparison
    predicted: Placement

    def to_json(self) -> dict[str, Any]:
        return {"mapping": self.mapping.to_json(), "prediction": self.comparison.to_json()}


def prove_compiled(
    compiled: ModelFacts, source: ModelFacts, profile: HardwareProfile, runtime: int | None = None
) -> Proof:
    """The mapping, and each difference to what `profile` predicts at `runtime` (left out: the
    profile's own; the payload's is the lowest that can run it, not what the compiler was told).

    Raises ModelError where the compiled file was not made from the source.
    """
    from edgeopt.verify import predict

    mapping = prove(compiled, source)
    predicted = predict(source, profile.at_runtime(runtime))
    assert predicted is not None  # prove() has refused what is not a .tflite
    return Proof(
        mapping=mapping, comparison=compare(mapping, predicted, source), predicted=predicted
    )


def compiled_json(partitions: tuple[Partition, ...]) -> dict[str, Any] | None:
    """The field `compiled`; None for a file that is not compiled. Sums are over its partitions."""
    if not partitions:
        return None
    return {
        "chips": sorted({p.chip for p in partitions}),
        "min_runtime_version": max(p.min_runtime_version for p in partitions),
        "on_chip_bytes": sum(p.on_chip_bytes for p in partitions),
        "off_chip_bytes": sum(p.off_chip_bytes for p in partitions),
        "instruction_bytes": sum(p.instruction_bytes for p in partitions),
        "partitions": [p.to_json() for p in partitions],
    }
