"""The only sequencing: what happens to a job, in which order."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeopt.pipeline.evaluating import evaluate
    from edgeopt.pipeline.flow import (
        benchmark,
        compile_model,
        compile_together,
        convert,
        deploy,
        plan,
        profile,
    )

__all__ = [
    "benchmark", "compile_model", "compile_together", "convert", "deploy", "evaluate", "plan",
    "profile",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imported when first used: `evaluate` is measuring before the rest is loaded."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "evaluating" if name == "evaluate" else "flow"
    return getattr(import_module(f"{__name__}.{module}"), name)
