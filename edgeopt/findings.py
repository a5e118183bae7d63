"""Findings about a model file: constraint violations, and where its operations will run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["ConstraintReport", "OpPlacement", "Placement", "Violation"]


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One broken rule: which, where, what was found, what is required, and what to do."""

    constraint: str  # "weights.types", "io.types", "shapes.static", "operations.version" ...
    where: str  # tensor or operator, as a person finds it in a viewer
    found: str
    required: str
    hint: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.found}; requires {self.required}. {self.hint}".strip()

    def to_json(self) -> dict[str, Any]:
        return {
            "constraint": self.constraint,
            "where": self.where,
            "found": self.found,
            "required": self.required,
            "hint": self.hint,
            "source": self.source or None,
        }


@dataclass(frozen=True, kw_only=True)
class ConstraintReport:
    """All of a profile's rules against one file; `checked` counts the comparisons made."""

    profile: str
    checked: int
    violations: tuple[Violation, ...] = ()
    warnings: tuple[Violation, ...] = ()  # legal but costly: runs on the CPU, slow kernels

    @property
    def passed(self) -> bool:
        return not self.violations

    def to_json(self) -> dict[str, Any]:
        return {
            "profile": self.profile,
            "checked": self.checked,
            "violations": [v.to_json() for v in self.violations],
            "warnings": [v.to_json() for v in self.warnings],
        }


@dataclass(frozen=True, kw_only=True)
class OpPlacement:
    """Where one operation runs: "edgetpu", "gpu" or "cpu", and why when it is not mapped.

    `cause` is the identifier of the rule that decided (empty when mapped); `phrase` is the status
    phrase that the compiler itself prints for it, None where it has none or it is not known.
    `certain` is False inside a bracket: between a size known to be mapped and one known refused.
    `layer` is the source model's name for the operation, where the file tells it.
    """

    index: int
    op: str
    placement: str
    reason: str = ""
    hint: str = ""
    cause: str = ""
    phrase: str | None = None
    certain: bool = True
    layer: str | None = None


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How a model is divided. `source` says how we know: prediction, compiler output, or file.

    `ops_uncertain` counts operations of which a prediction does not know where they run, and
    `ops_mapped_range` is then the least and the most that may be mapped (None where all is known).
    """

    source: str  # "predicted" | "compiler" | "compiled_file"
    ops_total: int
    ops_mapped: int
    ops_cpu: int
    subgraphs: int | None
    on_chip_bytes: int | None = None
    off_chip_bytes: int | None = None
    ops_uncertain: int = 0
    ops_mapped_range: tuple[int, int] | None = None
    ops: tuple[OpPlacement, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "ops_total": self.ops_total,
            "ops_mapped": self.ops_mapped,
            "ops_cpu": self.ops_cpu,
            "ops_uncertain": self.ops_uncertain,
            "ops_mapped_range": list(self.ops_mapped_range) if self.ops_mapped_range else None,
            "subgraphs": self.subgraphs,
            "parameter_bytes": {"on_chip": self.on_chip_bytes, "off_chip": self.off_chip_bytes},
        }
