"""Measure accuracy, on the host or on the device, and hold it against the budget."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.errors import EdgeoptError, InputError, ModelError
from edgeopt.job import Job
from edgeopt.model.compiled import formats_of, is_compiled
from edgeopt.model.detect import detect
from edgeopt.model.read import structure
from edgeopt.verify.accuracy import Measuring

if TYPE_CHECKING:
    from edgeopt.artifact import Artifact
    from edgeopt.pipeline.session import Session
    from edgeopt.progress import Progress
    from edgeopt.store import Store

__all__ = ["accuracy", "check_comparable", "evaluate", "hold_budget"]


def accuracy(session: Session) -> None:
    """Add the measured accuracy of the optimized model, and of the float one it came from."""
    names = [] if session.plan.scheme is None else [t.name for t in session.facts.inputs]
    with Measuring() as measuring:
        found, _ = _measured(session, session.artifact, session.baseline, names, measuring)
    session.add(accuracy=found)


def evaluate(
    job: Job,
    store: Store,
    progress: Progress,
    *,
    baseline: Path | None = None,
    limit: int | None = None,
    processes: int | None = None,
    measuring: Measuring | None = None,
) -> dict[str, Any]:
    """`model`, `artifacts`, `accuracy`, `run` (the rate on this machine, without start-up) and
    `notes` for JSON: the job's model, and `baseline`, on the job's data, or its first `limit`
    samples.

    What is no .tflite yet is brought to a float one (from the cache when nothing changed).
    `measuring` is a process that has been started already, and that the caller ends. Raises what
    conversion and measurement raise.
    """
    with ExitStack() as stack:
        measuring = measuring or stack.enter_context(Measuring())
        _begin(measuring, job, baseline, limit, processes)
        # From here on beside the measurement, where that could begin.
        from edgeopt.pipeline.ranging import check_ranges
        from edgeopt.pipeline.session import Session
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
        found, run = _measured(
            session, model, base, names, measuring, limit=limit, processes=processes
        )
    return {
        "model": model_json(session.facts),
        "artifacts": [a.to_json() for a in session.report.artifacts],
        "accuracy": found,
        "run": run,
        "notes": list(session.report.notes),
    }


def _begin(
    measuring: Measuring, job: Job, baseline: Path | None, limit: int | None, processes: int | None
) -> None:
    """Ask at once where nothing has to be made first. What is wrong with a file is told later, by
    who reads it."""
    assert job.eval_data is not None
    try:
        if job.on_device or any(detect(p) != "tflite" for p in (job.model, baseline) if p):
            return
        facts = structure(job.model)
        known = structure(baseline) if baseline else facts
    except EdgeoptError:
        return
    if not is_compiled(facts):
        names = [t.name for t in known.inputs]
        _ask(measuring, job, job.model, baseline, names, limit=limit, processes=processes)


def _ask(
    measuring: Measuring,
    job: Job,
    model: Path,
    baseline: Path | None,
    names: list[str],
    **more: Any,
) -> None:
    assert job.eval_data is not None
    measuring.ask(
        model,
        baseline,
        job.eval_data,
        job.preprocess,
        input_names=names,
        metric=job.metric,
        decode=job.decode,
        labels=job.labels,
        **more,
    )


def _runnable(session: Session) -> Artifact:
    """The model as a .tflite."""
    from edgeopt.artifact import Artifact
    from edgeopt.pipeline import converting

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
    measuring: Measuring,
    *,
    limit: int | None = None,
    processes: int | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    job, facts = session.job, structure(model.path)
    if is_compiled(facts) and not job.on_device:
        raise ModelError(
            f"{model.path.name} is compiled for {formats_of(facts)[0].chip}: this machine cannot "
            "run it.",
            "Evaluate it where it runs: --on-device --device NAME.",
        )
    there = None
    more: dict[str, Any] = {"limit": limit, "processes": processes}
    with tempfile.TemporaryDirectory(prefix="edgeopt-evaluate-") as folder:
        if job.on_device:
            from edgeopt.pipeline.on_device import record

            known = structure(baseline) if baseline else facts
            there = record(session, model, known, names, Path(folder), limit)
            more |= {"recorded": there.folder, "digest": there.digest}
        if not measuring.busy:
            _ask(measuring, job, model.path, baseline, names, **more)
        found = measuring.answer(session.progress)
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
