"""Float model, then the plan's scheme; both from the cache when nothing they depend on changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeopt import __version__
from edgeopt.artifact import Artifact
from edgeopt.dataset import Dataset, load_dataset
from edgeopt.errors import InputError
from edgeopt.optimize import ConversionRequest, refuse_fallback
from edgeopt.optimize import quantize as quantize_file
from edgeopt.optimize import to_float as float_file
from edgeopt.pipeline.session import Session
from edgeopt.plan import NEEDS_CALIBRATION
from edgeopt.store import Entry, Store

__all__ = ["quantize", "safe_stem", "say_cached", "to_float", "versions"]

_SINGLE = "single_int8.tflite"  # the same model without copies, where activations are held twice


def versions(*names: str) -> dict[str, str | None]:
    """Versions of the tools that a result depends on, without importing them."""

    def version(name: str) -> str | None:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None

    return {"edgeopt": __version__, **{name: version(name) for name in names}}


def to_float(session: Session) -> None:
    """Add the float32 .tflite with a static batch."""
    source, batch = session.artifact, session.job.batch
    legacy = session.target.profile.inline_buffers
    key = Store.key(
        stage="float",
        source=source.sha256,
        batch=batch,
        legacy_ops=legacy,
        versions=versions("tensorflow", "keras", "tf-keras", "ai-edge-litert"),
    )

    def make(path: Path) -> Mapping[str, Any]:
        made = float_file(
            source.path, path, batch=batch, legacy_ops=legacy, progress=session.progress
        )
        return {"notes": list(made.notes)}

    entry = session.store.build(key, f"{safe_stem(session)}_float32.tflite", make)
    say_cached(session, entry, "Float model")
    for note in entry.meta["notes"]:
        session.note(note)
    session.float_model = entry.path
    made = Artifact.of(entry.path, "float", source)
    if made.sha256 != source.sha256:  # a .tflite that was float and static already is no step
        session.add(artifacts=(*session.report.artifacts, made))


def quantize(session: Session) -> None:
    """Add the model in the plan's scheme, and how it was made."""
    parent, plan, job = session.artifact, session.plan, session.job
    made_from = [a for a in session.report.artifacts if a.stage in ("source", "trained")]
    original = made_from[-1]
    assert plan.scheme is not None
    refuse_fallback(session.target.profile, job.quality.fallback)
    if job.quality.fallback != "none" and plan.scheme != "int8":
        session.note(f"--fallback changes nothing: no layer of {plan.scheme} is int8 throughout.")
    data = _calibration(session) if plan.scheme in NEEDS_CALIBRATION else None
    request = _request(session)
    key = Store.key(
        stage="optimized",
        source=parent.sha256,
        original=original.sha256,
        request=asdict(request),
        calibration=data.digest() if data else None,
        preprocess=job.preprocess.to_json() if data else None,
        versions=versions("litert-quantizer", "ai-edge-litert", "tensorflow"),
    )

    def make(path: Path) -> Mapping[str, Any]:
        return _made(session, parent.path, request, path, data, original.path)

    name = f"{safe_stem(session)}_{plan.scheme}.tflite"
    entry = session.store.build(key, name, make, keep=(_SINGLE,))
    say_cached(session, entry, f"{plan.scheme} model")
    for note in entry.meta["notes"]:
        session.note(note)
    if entry.meta["engine"] == "tflite-converter" and plan.scheme in NEEDS_CALIBRATION:
        _say_unapplied(session)
    session.add(
        artifacts=(*session.report.artifacts, Artifact.of(entry.path, "optimized", parent)),
        conversion=_conversion(session, entry, data),
    )
    session.single = _single(entry, parent)


def _single(entry: Entry, parent: Artifact) -> Artifact | None:
    """The same model without copies, where activations are held twice and the cache still has what
    was made."""
    said = ((entry.meta["quality"] or {}).get("splitting") or {}).get("plain_int8")
    path = entry.path.with_name(_SINGLE)
    if not said or not path.is_file():
        return None
    found = Artifact.of(path, "optimized", parent)
    return found if found.sha256 == said["sha256"] else None


def _say_unapplied(session: Session) -> None:
    """On the terminal, in the notes and in the plan: flags that only the other engine heeds."""
    if forced := session.job.quality.forced:
        asked = " and ".join(f"{flag} {value}" for flag, value in forced.items())
        said = (
            f"{asked} could not be applied: TensorFlow's converter had to take over, and measures "
            "ranges itself."
        )
        session.note(said)
        session.add(plan=session.plan.told(said))


def _request(session: Session) -> ConversionRequest:
    plan, job = session.plan, session.job
    assert plan.scheme is not None
    return ConversionRequest(
        scheme=plan.scheme,
        io=plan.io,
        batch=job.batch,
        calibration_samples=job.calibration_samples,
        per_channel="per_channel" in session.target.profile.granularity,
        legacy_ops=session.target.profile.inline_buffers,
        quality=job.quality.towards(job.goal if plan.scheme == "int8" else None),
        keep=job.training.kept,
    )


def _made(
    session: Session,
    float_path: Path,
    request: ConversionRequest,
    output: Path,
    data: Dataset | None,
    source: Path,
) -> dict[str, Any]:
    """Write the file; how it was made, for the cache and the report."""
    made = quantize_file(
        float_path, request, output, dataset=data, progress=session.progress, source=source,
        single=output.with_name(_SINGLE),
    )  # fmt: skip
    return {
        "engine": made.engine,
        "notes": list(made.notes),
        "calibration": made.calibration,
        "layer_errors": made.layer_errors,
        "fallback": made.fallback,
        "quality": made.quality,
        "versions": made.versions,
    }


def _conversion(session: Session, entry: Entry, data: Dataset | None) -> dict[str, Any]:
    """The report's section."""
    return {
        "scheme": session.plan.scheme,
        "io": session.plan.io,
        "cached": not entry.fresh,
        "data": data.describe() if data else None,
        "preprocess": session.job.preprocess.to_json(),
        **{k: v for k, v in entry.meta.items() if k != "notes"},
    }


def say_cached(session: Session, entry: Entry, what: str) -> None:
    """Tell the terminal that nothing had to be made."""
    if not entry.fresh:
        session.progress.stage(f"{what} from the cache: nothing changed")


def _calibration(session: Session) -> Dataset:
    if session.job.calibration is None:
        raise InputError(
            f"{session.plan.scheme} needs a representative dataset.",
            "Give calibration data with --calibration.",
        )
    data = load_dataset(session.job.calibration, preprocess=session.job.preprocess)
    assert session.float_model is not None
    from edgeopt.model import read

    data = data.in_order_of(t.name for t in session.facts.inputs)
    return data.match(read(session.float_model).inputs)


def safe_stem(session: Session) -> str:
    """A safe file name for the cache, whatever the user's file is called."""
    stem = session.job.model.resolve().stem
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in stem)[:80] or "model"
