"""Compile the verified model for the target, and read back what came out."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeopt import __version__, registry
from edgeopt.artifact import Artifact
from edgeopt.compile import CompileOptions
from edgeopt.errors import EdgeoptError, ModelError, ToolError
from edgeopt.findings import OpPlacement, Placement
from edgeopt.pipeline.session import Session
from edgeopt.store import Store, publish

__all__ = ["compile_artifact"]


def compile_artifact(session: Session) -> None:
    """Add the compiled artifact, the compiler's evidence and the placement to the report.

    Raises ToolError when the compiler is missing or fails, ModelError when it refuses the model.
    The model that was reached stays where it was published, and the error names it.
    """
    source = session.artifact
    log = session.place("compiled").with_suffix(".log")
    try:
        entry = _entry(session, source, log)
    except (ToolError, ModelError) as error:
        error.hint = f"{error.hint}\nThe model that was reached is kept: {source.path}".strip()
        error.details["kept"] = str(source.path)
        raise
    if not entry.fresh:
        session.progress.stage("Compiled model from the cache: nothing changed")
    for warning in entry.meta["result"]["warnings"]:
        session.note(warning)
    publish(entry.path.with_name("compiler.log"), log)
    found = entry.meta["placement"]
    session.add(
        artifacts=(*session.report.artifacts, Artifact.of(entry.path, "compiled", source)),
        compilation={
            **entry.meta["result"],
            "path": str(session.place("compiled")),
            "log": str(log),
            "cached": not entry.fresh,
        },
        placement=_placement(found) if found else session.report.placement,
    )


def _entry(session: Session, source: Artifact, log: Path) -> Any:
    name = session.target.compiler
    options = _options(session)
    key = Store.key(
        stage="compiled",
        source=source.sha256,
        compiler=_identity(name, options),
        options=asdict(options),
        edgeopt=__version__,
    )

    def make(path: Path) -> Mapping[str, Any]:
        return _compile(session, source, options, path, log)

    return session.store.build(key, "compiled.tflite", make, keep=("compiler.log",))


def _identity(name: str, options: CompileOptions) -> str:
    """A plug-in's compiler that has no identity is never taken from the cache."""
    if name not in registry.names("compiler_identities"):
        return uuid.uuid4().hex
    return str(registry.load("compiler_identities", name)(options))


def _options(session: Session) -> CompileOptions:
    job, flags = session.job, dict(session.job.compiler_flags)
    own = dict(session.target.compiler_options)
    lowest = flags.pop("min_runtime_version", None)
    return CompileOptions(
        compiler=job.compiler,
        timeout_s=job.timeout_s,
        min_runtime_version=int(lowest) if lowest else None,
        search_delegate=flags.pop("search_delegate", "") == "true",
        command=tuple(own.pop("command", ())),
        extra={**{k: str(v) for k, v in own.items()}, **flags},
    )


def _compile(
    session: Session, source: Artifact, options: CompileOptions, path: Path, log: Path
) -> Mapping[str, Any]:
    compiler = registry.load("compilers", session.target.compiler)
    folder = path.parent / "compiler"
    folder.mkdir()
    try:
        result = compiler(source.path, folder, options, session.progress)
    except EdgeoptError as error:
        _keep_log(error, log)
        raise
    result.path.replace(path)
    text = result.log.read_text("utf-8", "replace") if result.log else result.stdout
    path.with_name("compiler.log").write_text(text, "utf-8")
    ops = [asdict(op) for op in result.placement.ops] if result.placement else []
    placement = {**asdict(result.placement), "ops": ops} if result.placement else None
    return {"result": result.to_json() | {"placement": None}, "placement": placement}


def _keep_log(error: EdgeoptError, log: Path) -> None:
    """The compiler's log outlives the temporary folder: beside where the result would be."""
    written = error.details.get("log")
    if not written or not Path(str(written)).is_file():
        return
    publish(Path(str(written)), log)
    error.message = error.message.replace(str(written), str(log))
    error.hint = error.hint.replace(str(written), str(log))
    error.details["log"] = str(log)
    if isinstance(error, ToolError):
        error.log = log


def _placement(found: Mapping[str, Any]) -> Placement:
    return Placement(**{**found, "ops": tuple(OpPlacement(**op) for op in found["ops"])})
