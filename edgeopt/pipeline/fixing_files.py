"""Where `edgeopt fix` puts what it made: whole files, the parts of a cut, and their manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeopt.artifact import Artifact
from edgeopt.errors import InputError
from edgeopt.pipeline.fixed import CPU_ROLES, Fixed, Request
from edgeopt.store import publish
from edgeopt.target import Target

__all__ = ["publish_fixed", "stem"]


def stem(request: Request) -> str:
    if request.output is not None and request.output.suffix == ".tflite":
        return request.output.stem
    return request.model.resolve().stem


def _folder(request: Request, target: Target) -> Path:
    if request.output is None:
        return Path("edgeopt-out") / f"{request.model.resolve().stem}-{target.name}"
    return request.output.parent if request.output.suffix == ".tflite" else request.output


def publish_fixed(data: bytes, request: Request, folder: Path, fixed: Fixed) -> None:
    """Write what was made, whole: the repaired file, or the parts with their manifest."""
    if not fixed.complete and not request.partial:
        return
    fixed.partial = not fixed.complete
    ending = "_partial" if fixed.partial else ""
    source = Artifact.of(request.model, "source")
    place = _folder(request, fixed.target)
    if fixed.cuts:
        _publish_cuts(request, folder, fixed, source, place, ending)
        return
    if not fixed.changed and request.output is None:
        return
    if request.output is not None and request.output.suffix == ".tflite":
        path = request.output.with_name(f"{request.output.stem}{ending}.tflite")
    else:
        path = place / f"{stem(request)}{ending or '_fixed'}.tflite"
    _keep_original(path, request)
    made = publish(_staged(folder, "made.tflite", data), path)
    fixed.artifacts = (source, Artifact.of(made, "fixed", source))


def _publish_cuts(
    request: Request, folder: Path, fixed: Fixed, source: Artifact, place: Path, ending: str
) -> None:
    written = []
    paths = [place / one.name.replace(".tflite", f"{ending}.tflite") for one in fixed.cuts]
    for path in paths:
        _keep_original(path, request)
    text = json.dumps(_manifest(fixed, source, paths), sort_keys=True, indent=2) + "\n"
    manifest = place / f"{stem(request)}_split{ending}.json"
    new = [path for path in (*paths, manifest) if not path.exists()]
    try:
        for one, path in zip(fixed.cuts, paths, strict=True):
            made = publish(_staged(folder, "made.tflite", one.part.data), path)
            artifact = Artifact.of(made, one.part.role, source)
            written.append(replace(one, name=path.name, artifact=artifact))
        fixed.manifest = publish(_staged(folder, "manifest.json", text.encode()), manifest)
    except BaseException:
        for path in new:  # a chain with parts missing is worse than none
            path.unlink(missing_ok=True)
        raise
    fixed.cuts = tuple(written)
    fixed.artifacts = (source, *(one.artifact for one in written if one.artifact))


def _manifest(fixed: Fixed, source: Artifact, paths: Sequence[Path]) -> Mapping[str, Any]:
    """How to run the chain: each part's inputs by the name of what makes them."""
    graph = fixed.after.facts.subgraphs[0]
    return {
        "schema": "edgeopt.split/1",
        "source": {"file": fixed.model.path.name, "sha256": source.sha256},
        "inputs": [t.name for t in graph.inputs],
        "outputs": [t.name for t in graph.outputs],
        "parts": [
            {
                "file": path.name,
                "sha256": hashlib.sha256(one.part.data).hexdigest(),
                "runs_on": "cpu" if one.part.role in CPU_ROLES else fixed.target.name,
                "role": one.part.role,
                "inputs": [one.part.names[i] for i in one.part.inputs],
                "outputs": [one.part.names[i] for i in one.part.outputs],
            }
            for one, path in zip(fixed.cuts, paths, strict=True)
        ],
        "proof": fixed.chain_proof.to_json() if fixed.chain_proof else None,
    }


def _staged(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _keep_original(path: Path, request: Request) -> None:
    if path.exists() and path.resolve() == request.model.resolve():
        raise InputError(
            f"{path} is the model itself, which edgeopt fix never writes to.",
            "Give another place with --output.",
        )
