"""A compiled file held against its source: what is inside, and was that predicted?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.errors import ModelError, ToolError
from edgeopt.facts import ModelFacts
from edgeopt.findings import Placement
from edgeopt.model.compiled import Part, is_compiled
from edgeopt.model.read import structure
from edgeopt.profile import HardwareProfile
from edgeopt.verify.mapping import Comparison, Mapping, compare, prove

__all__ = ["Proof", "compiled_json", "proof_notes", "prove_compiled", "prove_files"]


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


def prove_files(source: Path, files: Sequence[Path], profile: HardwareProfile) -> list[Proof]:
    """The proof of each file that a compiler made of `source`, before it is published; empty
    for files without machine code. Segments are held against each other too.

    Raises ToolError where a file does not belong to the source, or segments leave something out.
    """
    made = [facts for facts in map(structure, files) if is_compiled(facts)]
    if not made:
        return []
    original = structure(source)
    try:
        proofs = [prove_compiled(facts, original, profile) for facts in made]
    except ModelError as error:
        raise ToolError(
            f"The compiler's file is not the model that it was given. {error.message}",
            "Do not use it. Compile again; the compiler's log may tell more.",
        ) from error
    held = set().union(*(proof.mapping.places() for proof in proofs))
    missing = set().union(*(proof.mapping.elsewhere_ops for proof in proofs)) - held
    if missing:
        first = original.subgraphs[0].operators[min(missing)]
        raise ToolError(
            f"{len(missing)} operations are in none of the compiler's files, {first.where} first.",
            "Do not use them. Compile again; the compiler's log may tell more.",
        )
    return proofs


def proof_notes(proofs: Sequence[Proof]) -> Iterator[str]:
    """What a reader of the report must know: where a proof or a prediction failed."""
    where = "`edgeopt inspect COMPILED --source MODEL` shows each."
    for proof in proofs:
        if not proof.mapping.proven:
            yield f"The mapping is not proven: {proof.mapping.problems[0]}. {where}"
        if wrong := proof.comparison.disagreements:
            doubt = sum(not d.certain for d in wrong)
            uncertain = f" ({doubt} of them were uncertain)" if doubt else ""
            yield f"{len(wrong)} operations are not where they were predicted{uncertain}. {where}"


def compiled_json(partitions: tuple[Part, ...]) -> dict[str, Any] | None:
    """The field `compiled`; None for a file that is not compiled. Sums are over its partitions."""
    if not partitions:
        return None
    return {
        "chips": sorted({p.chip for p in partitions}),
        "min_runtime_version": _most(p.min_runtime_version for p in partitions),
        "on_chip_bytes": _sum(p.on_chip_bytes for p in partitions),
        "off_chip_bytes": _sum(p.off_chip_bytes for p in partitions),
        "instruction_bytes": sum(p.instruction_bytes for p in partitions),
        "partitions": [p.to_json() for p in partitions],
    }


def _sum(values: Iterable[int | None]) -> int | None:
    """None where one is not known."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if len(known) == len(found) else None


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
