"""Compile the verified model for the target, and read back what came out."""

from __future__ import annotations

from edgeopt import registry
from edgeopt.artifact import Artifact
from edgeopt.compile import CompileOptions, CompileResult
from edgeopt.errors import InputError, ToolError
from edgeopt.pipeline.session import Session
from edgeopt.store import scratch

__all__ = ["compile_artifact"]


def compile_artifact(session: Session) -> None:
    """Add the compiled artifact, the compiler's evidence and the placement to the report.

    Raises ToolError when the compiler is missing or fails, ModelError when it refuses the model.
    The model that was reached stays where it was published, and the error names it.
    """
    source = session.artifact
    try:
        with scratch(session.store.root) as folder:
            result = _compile(session, source, folder)
            _record(session, source, result)
    except ToolError as error:
        error.hint = f"{error.hint} The {session.plan.scheme or 'quantized'} model is kept: {source.path}"
        error.details["kept"] = str(source.path)
        raise
