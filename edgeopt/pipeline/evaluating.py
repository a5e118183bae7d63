"""Measure accuracy, on the host or on the device, and hold it against the budget."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeopt.artifact import Artifact
from edgeopt.errors import InputError, ModelError
from edgeopt.job import Job
from edgeopt.model.edgetpu_payload import is_compiled
from edgeopt.model.read import structure
from edgeopt.pipeline import converting
from edgeopt.pipeline.on_device import record
from edgeopt.pipeline.ranging import check_ranges
from edgeopt.pipeline.session import Session
from edgeopt.progress import Progress
from edgeopt.store import Store

__all__ = ["accuracy", "check_comparable", "evaluate", "hold_budget"]


def accuracy(session: Session) -> None:
    """Add the measured accuracy of the optimized model, and of the float one it came from."""
    names = [] if session.plan.scheme is None else [t.name for t in session.facts.inputs]
    found, _ = _measured(session, session.artifact, session.baseline, names)
    session.add(accuracy=found)


def evaluate(
    job: Job,
    store: Store,
    progress: Progress,
    *,
    baseline: Path | None = None,
    limit: int | None = None,
    processes: int | None = None,
) -> dict[str, Any]:
    """`model`, `artifacts`, `accuracy`, `run` (the rate on this machine, without start-up) and
    `notes` for JSON: the job's model, and `baseline`, on the job's data, or its first `limit`
    samples.

    What is no .tflite yet is brought to a float one (from the cache when nothing changed). Raises
    what that and the measurement raise.
    """
    from edgeopt.report import model_json

    session = Session(job, store, progress)
    model = _runnable(session)
    check_ranges(session, model.path)
    known, base = session, None
    if baseline is not None:
        known = Session(replace(job, model=baseline), store, progress)
        base = _runnable(known).path
    names = [t.name for t in known.facts.inputs]
    progress.stage("Measuring accuracy", None, "samples")
    found, run = _measured(session, model, base, names, limit=limit, processes=processes)
    return {
        "model": model_json(session.facts),
        "artifacts": [a.to_json() for a in session.report.artifacts],
        "accuracy": found,
        "run": run,
        "notes": list(session.report.notes),
    }


def _runnable(session: Session) -> Artifact:
    """The model as a .tflite."""
    facts = session.facts
    source = Artifact(
        stage="source",
        path=session.job.model,
        sha256=facts.sha256,
        size_bytes=facts.size_bytes,
        gzip_bytes=facts.gzip_bytes,
    )
    session.add(artifacts=(source,))
    if session.facts.format != "tflite":
        with session.timed("to_float"):
            converting.to_float(session)
    return session.artifact


def _measured(
    session: Session,
    model: Artifact,
    baseline: Path | None,
    names: list[str],
    *,
    limit: int | None = None,
    processes: int | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    from edgeopt.verify.accuracy import measure_accuracy

    job, facts = session.job, structure(model.path)
    assert job.eval_data is not None
    if is_compiled(facts) and not job.on_device:
        raise ModelError(
            f"{model.path.name} is compiled for an Edge TPU: this machine cannot run it.",
            "Evaluate it where it runs: --on-device --device NAME.",
        )
    with tempfile.TemporaryDirectory(prefix="edgeopt-evaluate-") as folder:
        there = None
        if job.on_device:
            known = structure(baseline) if baseline else facts
            there = record(session, model, known, names, Path(folder), limit)
        found = measure_accuracy(
            model.path,
            baseline,
            job.eval_data,
            job.preprocess,
            session.progress,
            processes=processes,
            limit=limit,
            input_names=names,
            metric=job.metric,
            decode=job.decode,
            labels=job.labels,
            recorded=there.folder if there else None,
            digest=there.digest if there else None,
        )
    for note in found.notes:
        session.note(note)
    run = {
        "processes": found.processes,
        "seconds": found.seconds,
        "samples_per_second": found.samples / found.seconds if found.seconds else None,
    }
    return {**found.to_json(), "device": there.device if there else None}, run


def hold_budget(session: Session) -> None:
    """Raises ModelError when accuracy fell by more than --max-accuracy-drop."""
    budget, found = session.job.max_accuracy_drop, session.report.accuracy
    if budget is None or found is None:
        return
    check_comparable(session)
    if found["drop"] > budget:
        raise ModelError(
            f"Accuracy fell by {found['drop']:.4f} ({found['metric']} {found['baseline']:.4f} to "
            f"{found['optimized']:.4f} on {found['samples']} samples); the budget is {budget:g}.",
            f"Give more calibration data, or another --scheme. Kept: {session.artifact.path}",
        )


def check_comparable(session: Session) -> None:
    """Raises InputError where there is no loss of accuracy that a budget could be held against."""
    found = session.report.accuracy
    if found is not None and found["drop"] is None:
        if session.baseline is not None:
            raise InputError(
                f"--max-accuracy-drop cannot be held against {found['metric']}, which has no "
                "baseline to fall from.",
                "Use --metric agreement, or give labelled data.",
            )
        raise InputError(
            "--max-accuracy-drop needs the float model to compare with; this model is already "
            "quantized.",
            "Deploy the float model, or leave the flag out.",
        )
