"""Compile verified models for the target, and read back what came out.

One cache entry holds all files of a compilation (segments, models compiled together) with their
hashes: it is used whole or not at all.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgeopt import __version__, registry
from edgeopt.artifact import Artifact, hash_path
from edgeopt.compile import CompiledSegment, CompileOptions, CompileResult
from edgeopt.errors import EdgeoptError, InputError, ModelError, ToolError
from edgeopt.findings import OpPlacement, Placement
from edgeopt.pipeline.estimating import estimate_compiled
from edgeopt.pipeline.proving import Proof, proof_notes, prove_files
from edgeopt.pipeline.session import Session
from edgeopt.store import Entry, Store, publish

__all__ = ["compile_artifact", "compile_jointly", "refuse_pipeline"]


def compile_artifact(session: Session) -> None:
    """Publish the compiled file, or every segment of it, and add the artifacts, the compiler's
    evidence and the placement to the report.

    Raises ToolError when the compiler is missing or fails, ModelError when it refuses the model.
    The model that was reached stays where it was published, and the error names it.
    """
    if _segments(session) > 1 and session.place("compiled") == session.job.output:
        raise InputError(
            f"--num-segments makes several files, and --output names one ({session.job.output}).",
            "Give a folder with --output.",
        )
    _compile((session,))


def compile_jointly(sessions: Sequence[Session]) -> None:
    """The same for models that one chip runs in turn: in this order, with one shared cache.

    Raises InputError where the target's compiler takes one model at a time.
    """
    target = sessions[0].target
    if target.compiler not in registry.names("joint_compilers"):
        raise InputError(
            f"The compiler of {target.name} ({target.compiler}) takes one model at a time.",
            "Compile each model by itself.",
        )
    names = [session.place("compiled").name for session in sessions]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(
            f"Two of the models would be called {min(twice)}.", "Rename one of the files."
        )
    _compile(sessions)


def refuse_pipeline(session: Session) -> None:
    """Raises InputError for segments where a device is to run them: one chip runs one file."""
    if session.target.compiler != "passthrough" and _segments(session) > 1:
        raise InputError(
            "A model in segments needs an Edge TPU for each, and edgeopt runs one file on one.",
            "Compile it with edgeopt compile --num-segments (or deploy --no-run), and run it with "
            "pycoral's PipelinedModelRunner; or leave --num-segments out.",
        )


def _segments(session: Session) -> int:
    asked = _options(session).extra.get("num_segments", "")
    return int(asked) if asked.isascii() and asked.isdecimal() else 1  # else: the compiler objects


def _compile(sessions: Sequence[Session]) -> None:
    sources = [session.artifact for session in sessions]
    logs = [session.place("compiled").with_suffix(".log") for session in sessions]
    try:
        entry = _entry(sessions, sources, logs)
    except (ToolError, ModelError) as error:
        kept = ", ".join(str(source.path) for source in sources)
        error.hint = f"{error.hint}\nThe model that was reached is kept: {kept}".strip()
        error.details["kept"] = kept
        raise
    if not entry.fresh:
        sessions[0].progress.stage("Compiled model from the cache: nothing changed")
    folder, models = entry.path.parent, entry.meta["models"]
    proofs = [  # of all, before any is published
        _prove(session, source, [folder / file["name"] for file in model["files"]])
        for session, source, model in zip(sessions, sources, models, strict=True)
    ]
    for session, source, model, proof in zip(sessions, sources, models, proofs, strict=True):
        _record(session, entry, model, source, proof)


def _record(
    session: Session,
    entry: Entry,
    found: Mapping[str, Any],
    source: Artifact,
    proofs: Sequence[Proof],
) -> None:
    log = session.place("compiled").with_suffix(".log")
    for warning in found["result"]["warnings"]:
        session.note(warning)
    folder = entry.path.parent
    publish(folder / found["log"], log)
    made = []
    for file in found["files"]:
        place = _place(session, file["index"], file["of"])
        artifact = Artifact.of(publish(folder / file["name"], place), "compiled", source)
        made.append(replace(artifact, index=file["index"]))
    segments = [
        {**segment, "path": str(artifact.path), "sha256": artifact.sha256}
        for segment, artifact in zip(found["result"]["segments"], made, strict=False)
    ]
    session.add(
        artifacts=(*session.report.artifacts, *made),
        compilation={
            **found["result"],
            "path": str(made[0].path),
            "segments": segments,
            "log": str(log),
            "cached": not entry.fresh,
            "proofs": [proof.to_json() for proof in proofs],
        },
        placement=_placement(found["placement"])
        if found["placement"]
        else session.report.placement,
    )
    details = found["result"]["details"]
    estimate = estimate_compiled(details, session.report.placement, session.target)
    if estimate is not None:
        session.add(estimate=estimate)


def _prove(session: Session, source: Artifact, files: Sequence[Path]) -> list[Proof]:
    """Each file held against the model that was compiled, before anyone can pick it up."""
    try:
        proofs = prove_files(source.path, files, session.profile)
    except ToolError:
        shutil.rmtree(files[0].parent, ignore_errors=True)  # or the cache would give it out again
        raise
    for note in proof_notes(proofs):
        session.note(note)
    return proofs


def _place(session: Session, index: int | None, of: int) -> Path:
    """Where the user finds a compiled file: `<stem>_segment_<i>_of_<n>_edgetpu.tflite` too."""
    place = session.place("compiled")
    if index is None:
        return place
    ending = f"_{session.target.accelerator}"
    stem = place.stem.removesuffix(ending)
    return place.with_name(f"{stem}_segment_{index}_of_{of}{ending}.tflite")


def _entry(sessions: Sequence[Session], sources: Sequence[Artifact], logs: Sequence[Path]) -> Entry:
    first = sessions[0]
    name, options = first.target.compiler, _options(first)
    key = Store.key(
        stage="compiled",
        source=[source.sha256 for source in sources],
        compiler=_identity(name, options),
        options=asdict(options),
        edgeopt=__version__,
    )

    def make(path: Path) -> Mapping[str, Any]:
        return _make(sessions, sources, options, path, logs)

    count = max(len(sources), _segments(first))
    keep = [f"{stem}_{i}{end}" for i in range(count) for stem, end in _KEPT]
    entry = first.store.build(key, "compiled_0.tflite", make, keep=tuple(keep))
    if _whole(entry):
        return entry
    shutil.rmtree(entry.path.parent, ignore_errors=True)
    return first.store.build(key, "compiled_0.tflite", make, keep=tuple(keep))


_KEPT = (("compiled", ".tflite"), ("compiler", ".log"))


def _whole(entry: Entry) -> bool:
    """The store holds the first file against its hash; the others are held against theirs here."""
    folder = entry.path.parent
    files = [file for model in entry.meta["models"] for file in model["files"]]
    return all(
        (folder / file["name"]).is_file() and hash_path(folder / file["name"]) == file["sha256"]
        for file in files
    ) and all((folder / model["log"]).is_file() for model in entry.meta["models"])


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
        extra={**{k: _text(v) for k, v in own.items()}, **flags},
    )


def _text(value: Any) -> str:
    """A target's setting as its compiler reads it: a list's items with commas between."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _make(
    sessions: Sequence[Session],
    sources: Sequence[Artifact],
    options: CompileOptions,
    path: Path,
    logs: Sequence[Path],
) -> Mapping[str, Any]:
    """Compile into a folder beside `path`, and put the files into that of `path`."""
    folder, progress = path.parent / "compiler", sessions[0].progress
    folder.mkdir()
    compiler = sessions[0].target.compiler
    try:
        if len(sources) == 1:
            compile_one = registry.load("compilers", compiler)
            results = [compile_one(sources[0].path, folder, options, progress)]
        else:
            compile_all = registry.load("joint_compilers", compiler)
            results = list(compile_all([s.path for s in sources], folder, options, progress))
    except EdgeoptError as error:
        _keep_log(error, logs[0])
        raise
    numbers = iter(range(len(results) + sum(len(r.segments) for r in results)))
    return {
        "models": [
            _kept(result, path.parent, number, numbers) for number, result in enumerate(results)
        ]
    }


def _kept(result: CompileResult, folder: Path, number: int, numbers: Any) -> dict[str, Any]:
    """Move a result's files and log into the entry, and say what they are."""
    parts: Sequence[CompiledSegment | None] = result.segments or (None,)
    files = []
    for part in parts:
        name = f"compiled_{next(numbers)}.tflite"
        (part.path if part else result.path).replace(folder / name)
        files.append(
            {
                "name": name,
                "sha256": hash_path(folder / name),
                "index": part.index if part else None,
                "of": part.of if part else 1,
            }
        )
    log = f"compiler_{number}.log"
    text = result.log.read_text("utf-8", "replace") if result.log else result.stdout
    (folder / log).write_text(text, "utf-8")
    ops = [asdict(op) for op in result.placement.ops] if result.placement else []
    placement = {**asdict(result.placement), "ops": ops} if result.placement else None
    shown = result.to_json() | {"placement": None}
    return {"files": files, "log": log, "result": shown, "placement": placement}


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
