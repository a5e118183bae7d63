"""All that can be said of a model file without running it, put together for `edgeopt inspect`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError, ModelError
from edgeopt.facts import ModelFacts
from edgeopt.findings import ConstraintReport, Placement
from edgeopt.model import read
from edgeopt.model.compiled import Part, formats_of, holds_code, is_compiled, read_parts
from edgeopt.pipeline.estimating import estimate_json
from edgeopt.pipeline.explaining import explanations
from edgeopt.pipeline.proving import Proof, compiled_json, prove_compiled
from edgeopt.profile import HardwareProfile
from edgeopt.report import model_json, ops_json
from edgeopt.target import load_target

__all__ = ["Inspection", "check_drawing", "inspect_model"]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """`content` is the JSON document; the rest is what it was made from."""

    facts: ModelFacts
    constraints: ConstraintReport | None
    placement: Placement | None
    partitions: tuple[Part, ...]
    together: tuple[dict[str, Any], ...]
    source: ModelFacts | None
    proof: Proof | None
    chip: str  # the accelerator's name for people
    content: dict[str, Any]

    @property
    def estimate(self) -> dict[str, Any] | None:
        """Memory and latency before compiling, None where there is no estimator."""
        found: dict[str, Any] | None = self.content["estimate"]
        return found

    @property
    def left(self) -> int:
        """Operations of a compiled file that are outside its partitions."""
        return sum(not holds_code(op) for op in self.facts.operators())


def check_drawing(
    picture: Path | None, node_data: Path | None, *, target: str | None, source: Path | None
) -> None:
    """Refuse what cannot be drawn before any work is done (InputError)."""
    if picture is not None and picture.suffix not in (".svg", ".html"):
        raise InputError(f"--picture {picture} has no known ending.", "Use .svg or .html.")
    if node_data is not None and node_data.suffix != ".json":  # a model here would be overwritten
        raise InputError(f"--node-data {node_data} has no known ending.", "Use .json.")
    if (picture or node_data) and target is None and source is None:
        raise InputError(
            "A picture of the placement needs to know the hardware.", "Add --target NAME."
        )


def inspect_model(
    facts: ModelFacts,
    *,
    target: str | None,
    min_runtime_version: int | None,
    source: Path | None,
    together: Sequence[Path],
    weights: list[dict[str, Any]] | None,
    host: str | None = None,
    beside: Sequence[Path] = (),
) -> Inspection:
    """Read, judge, open and prove; nothing is run.

    Raises InputError for arguments that do not fit the file; ModelError when a payload is damaged
    or the file was not made from `source`, with what was reached until then.
    """
    _refuse(facts, target, min_runtime_version, source, together)
    profile, found, placement, estimate = _judge(facts, target, min_runtime_version, host, beside)
    content: dict[str, Any] = {
        "model": model_json(facts),
        "ops": ops_json(facts, placement),
        "constraints": found.to_json() if found else None,
        "placement": placement.to_json() if placement else None,
        "explanations": _explained(facts, placement, profile),
        "estimate": estimate,
        "weights": weights,
        **dict.fromkeys(("compiled", "mapping", "prediction")),
    }
    original = proof = None
    try:
        partitions, shared = _open(facts, together, content)
        if source is not None:
            original = read(source)
            proof = _prove(facts, original, profile, min_runtime_version)
            content |= proof.to_json()
    except ModelError as error:
        error.reached = content
        raise
    return Inspection(
        facts=facts,
        constraints=found,
        placement=placement,
        partitions=partitions,
        together=shared,
        source=original,
        proof=proof,
        chip=profile.partition.label if profile else next((p.kind for p in partitions), ""),
        content=content,
    )


def _explained(
    facts: ModelFacts, placement: Placement | None, profile: HardwareProfile | None
) -> list[dict[str, Any]] | None:
    """Why operations are on the CPU and what maps them; None where no target was named."""
    if profile is None:
        return None
    return [found.to_json() for found in explanations(facts, placement, profile)]


def _refuse(
    facts: ModelFacts,
    target: str | None,
    runtime: int | None,
    source: Path | None,
    together: Sequence[Path],
) -> None:
    """Arguments that do not fit each other, or the file."""
    if runtime is not None and target is None and source is None:
        raise InputError("--min-runtime-version is about a target.", "Add --target NAME.")
    if (source or together) and not is_compiled(facts):
        raise InputError(
            f"{facts.path} is not compiled for any accelerator: there is nothing to open.",
            "Give the compiled file as MODEL and the one from before compiling as --source.",
        )


def _open(
    facts: ModelFacts, together: Sequence[Path], content: dict[str, Any]
) -> tuple[tuple[Part, ...], tuple[dict[str, Any], ...]]:
    """The partitions, and which other files share their cache; both also go into `content`."""
    partitions = read_parts(facts)
    content["compiled"] = compiled_json(partitions)
    shared = tuple(_together(partitions, path) for path in together)
    if shared:
        content["compiled"]["together"] = list(shared)
    return partitions, shared


def _judge(
    facts: ModelFacts,
    target: str | None,
    runtime: int | None,
    host: str | None,
    beside: Sequence[Path],
) -> tuple[
    HardwareProfile | None, ConstraintReport | None, Placement | None, dict[str, Any] | None
]:
    """What the target says of the model, as far as it says anything."""
    if target is None:
        if host or beside:
            raise InputError("An estimate needs to know the hardware.", "Add --target NAME.")
        return None, None, None, None
    from edgeopt.verify import check, predict

    chosen = load_target(target)
    profile = chosen.profile.at_runtime(runtime)
    found, placement = check(facts, profile), predict(facts, profile)
    estimate = estimate_json(facts, placement, chosen, host=host, beside=beside)
    return profile, found, placement, estimate


def _prove(
    facts: ModelFacts, source: ModelFacts, profile: HardwareProfile | None, runtime: int | None
) -> Proof:
    own = profile or load_target(formats_of(facts)[0].target).profile
    return prove_compiled(facts, source, own, runtime)


def _together(partitions: tuple[Part, ...], path: Path) -> dict[str, Any]:
    """Models compiled together share a caching token; 0 stands for none."""
    other = read_parts(read(path))
    if not other:
        raise InputError(f"{path} is not compiled for any accelerator.", "Give a compiled model.")
    mine = {p.parameter_caching_token for p in partitions} - {0}
    return {
        "path": str(path),
        "tokens": sorted({p.parameter_caching_token for p in other}),
        "compiled_together": bool(mine & {p.parameter_caching_token for p in other}),
    }
