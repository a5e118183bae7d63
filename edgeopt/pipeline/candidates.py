"""Several candidates under one accuracy budget: each its own job, all of them reported."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeopt.errors import EdgeoptError, InputError, ModelError, ResultError
from edgeopt.job import Job
from edgeopt.measurement import Measurement
from edgeopt.pipeline import evaluating
from edgeopt.pipeline.session import Session, Step
from edgeopt.plan import Candidate, Plan, Spec
from edgeopt.progress import Progress
from edgeopt.report import Report
from edgeopt.store import Store, scratch

__all__ = ["Named", "Once", "Tried", "job_for", "order", "row", "search", "wanted"]

_LEAST_RUNS = 6  # as for the interval of a median (edgeopt.measurement)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One candidate and what became of it. `report` None: nothing was reached.

    `error` is a model's, or a measurement's that must not be believed; `measured` is the latency.
    """

    spec: Spec
    report: Report | None
    error: EdgeoptError | None = None
    measured: Measurement | None = None

    @property
    def drop(self) -> float | None:
        """Accuracy lost, a fraction; None when it was not measured, or the model is broken."""
        found = self.report.accuracy if self.report else None
        broken = self.error is not None and not isinstance(self.error, ResultError)
        return None if found is None or broken else found["drop"]

    def passes(self, budget: float) -> bool:
        return self.drop is not None and self.drop <= budget


def wanted(job: Job) -> bool:
    """True when the job leaves the choice open and has a budget to choose by.

    Raises InputError for a budget that nothing could be held against.
    """
    if job.max_accuracy_drop is None:
        return False
    if job.eval_data is None:
        raise InputError(
            "--max-accuracy-drop needs labelled data to measure with.", "Give --eval-data DATA."
        )
    return not job.scheme and not job.training.techniques


def order(job: Job, plan: Plan) -> tuple[str, ...]:
    """The names of what `search` would try; empty where the job leaves nothing to search."""
    open_choice = not job.scheme and not job.training.techniques and plan.scheme is not None
    if job.max_accuracy_drop is None or job.eval_data is None or not open_choice:
        return ()
    return tuple(candidate.name for candidate in _distinct(plan.ladder, job))


def search(
    job: Job,
    store: Store,
    progress: Progress,
    planned: Report,
    judge: Sequence[Step],
    finish: Sequence[Step],
) -> Report:
    """Try the candidates of the plan, cheapest first, until one keeps the accuracy budget.

    `judge` are the steps up to the measured accuracy, `finish` those that publish and measure. Of
    one that misses, `finish` only takes the latency, in a folder that goes. Raises ModelError
    when none passes, with the best one kept; errors of the input, a tool or the device that stand
    in the way of judging or of finishing the winner end the search at once.
    """
    assert planned.plan is not None and job.max_accuracy_drop is not None
    ladder, tried = _distinct(planned.plan.ladder, job), list[Tried]()
    sessions: list[Session] = []
    timing, once = True, Once(progress)
    for number, candidate in enumerate(ladder, 1):
        shown = Named(once, f"{candidate.name} ({number} of {len(ladder)})")
        session = Session(job_for(job, candidate.spec), store, shown)
        sessions.append(session)
        with scratch(store.root) as folder:
            session.job = replace(session.job, output=folder)
            found = _judge(candidate.spec, session, judge, tried, job)
            session.job = replace(session.job, output=job.output)
        if found.passes(job.max_accuracy_drop):
            return _finish(found, session, finish, tried, planned, job)
        if timing and found.drop is not None:
            found, timing = _timed(found, session, finish, store)
        tried.append(found)
    raise _missed(tried, sessions, finish[0], planned, job)


def job_for(job: Job, spec: Spec) -> Job:
    """The job that makes one candidate, with the budget left to whoever compares."""
    return replace(
        job,
        scheme=spec.scheme,
        training=replace(job.training, techniques=spec.techniques, **spec.training),
        quality=replace(job.quality, **spec.quality),
        goal=None,
        max_accuracy_drop=None,
    )


def _distinct(ladder: Sequence[Candidate], job: Job) -> list[Candidate]:
    """Without those that the job's own quality settings make the same as an earlier one."""
    asked: dict[str, Candidate] = {}
    for candidate in ladder:
        own = job_for(job, candidate.spec)
        asked.setdefault(str((own.scheme, own.training.techniques, own.quality)), candidate)
    return list(asked.values())


def _judge(
    spec: Spec, session: Session, judge: Sequence[Step], tried: list[Tried], job: Job
) -> Tried:
    """What a model cannot be, or breaks, is its own row; anything else ends the search."""
    try:
        session.walk(*judge, evaluating.check_comparable)
        plain = tuple(a for a in session.report.artifacts if a.stage != "compiled")
        session.add(artifacts=plain, compilation=None)  # compiled, if at all, for this folder
        return Tried(spec=spec, report=session.report)
    except ModelError as error:
        session.progress.note(error.message)
        return Tried(spec=spec, report=session.report, error=error)
    except EdgeoptError as error:
        error.reached = replace(session.report, candidates=_rows(tried, job))
        raise


def _timed(
    found: Tried, session: Session, finish: Sequence[Step], store: Store
) -> tuple[Tried, bool]:
    """The latency of one that will not be used; False when no more such times can be had, since
    what stopped this one would stop the next. Whatever goes wrong costs only the latency."""
    judged, job, more = session.report, session.job, True
    session.single = None  # plain int8 is a candidate of its own
    with scratch(store.root) as folder:
        session.job = replace(job, output=folder)
        try:
            session.walk(*finish)
        except ResultError:
            pass  # the measurement says by itself that it is invalid
        except EdgeoptError as error:
            more = isinstance(error, ModelError)
            why = f"The latency of {found.spec.name} was not measured: {error.message}"
            session.progress.note(why)
            judged = replace(judged, notes=(*judged.notes, why))
    measured = session.report.measurement if more else None
    session.report, session.job = judged, job
    return replace(found, report=judged, measured=measured), more


def _finish(
    found: Tried,
    session: Session,
    finish: Sequence[Step],
    tried: list[Tried],
    planned: Report,
    job: Job,
) -> Report:
    """The winner, all the way. Raises what its last steps raise, with every candidate told."""
    which = "first" if not tried else f"number {len(tried) + 1}"
    headline = (
        f"{found.spec.name}, {which} of the plan's candidates, keeps the accuracy budget: it "
        f"loses {found.drop:.4f}, and {job.max_accuracy_drop:g} is allowed."
    )
    try:
        session.walk(*finish)
    except EdgeoptError as error:
        error.reached = _concluded(session, found, tried, planned, headline, job)
        raise
    return _concluded(session, found, tried, planned, headline, job)


def _concluded(
    session: Session, kept: Tried, tried: list[Tried], planned: Report, headline: str, job: Job
) -> Report:
    """The kept candidate's report, with the plan that led to it and a row for every one tried."""
    report = session.report
    assert report.plan is not None and planned.plan is not None
    chosen = replace(
        planned.plan,
        scheme=report.plan.scheme,
        io=report.plan.io,
        techniques=report.plan.techniques,
        quality=kept.spec.quality,
        expected_size_bytes=report.plan.expected_size_bytes,
        reasons=(headline, *report.plan.remarks),
    )
    kept = replace(kept, measured=kept.measured or report.measurement)
    everyone = [*(t for t in tried if t.spec != kept.spec), kept]
    everyone.sort(key=lambda t: [c.spec for c in planned.plan.candidates].index(t.spec))  # type: ignore[union-attr]
    rows = _rows(everyone, job, kept, report.artifacts[-1].path)
    return replace(report, plan=chosen, candidates=rows)


def _rows(
    tried: list[Tried], job: Job, kept: Tried | None = None, path: Path | None = None
) -> tuple[dict[str, Any], ...]:
    rows = []
    for one in tried:
        passes = one.passes(job.max_accuracy_drop or 0.0)
        status = "failed" if one.drop is None else "passed" if passes else "missed"
        rows.append(row(one, status) | {"path": str(path) if one is kept else None})
    return tuple(rows)


def _missed(
    tried: list[Tried], sessions: list[Session], publish: Step, planned: Report, job: Job
) -> EdgeoptError:
    """The error of a search without success; the candidate that lost least is kept."""
    assert planned.plan is not None
    sound = [(t, s) for t, s in zip(tried, sessions, strict=True) if t.drop is not None]
    if not sound:
        first = tried[0].error
        assert first is not None
        first.reached = replace(sessions[0].report, candidates=_rows(tried, job))
        return first
    best, session = min(sound, key=lambda pair: (pair[0].drop, pair[1].artifact.gzip_bytes))
    session.walk(publish)
    among = f"least of {len(tried)} candidates" if len(tried) > 1 else "as the only candidate"
    headline = f"{best.spec.name} loses {among}, and more than the budget allows."
    report = _concluded(session, best, tried, planned, headline, job)
    found = report.accuracy or {}
    lacking = [c for c in planned.plan.candidates if c.missing and not c.refused]
    error = ModelError(
        f"No candidate keeps the accuracy budget of {job.max_accuracy_drop:g}: {best.spec.name} is "
        f"the best and loses {best.drop:.4f} ({found['metric']} {found['baseline']:.4f} to "
        f"{found['optimized']:.4f} on {found['samples']} samples).",
        f"{_advice(lacking)} Kept: {session.artifact.path}",
        details={"lines": [_line(t) for t in tried], "best": best.spec.name},
    )
    error.reached = replace(report, failure=error.to_json())
    return error


def row(tried: Tried, status: str) -> dict[str, Any]:
    """One line of `candidates`: what it is, what it measured; null where it did not."""
    report, spec = tried.report, tried.spec
    found: Mapping[str, Any] = (report.accuracy if report else None) or {}
    made = report.artifacts[-1] if report and len(report.artifacts) > 1 else None
    if made is not None and made.stage not in ("optimized", "compiled"):
        made = None
    measured = tried.measured or (report.measurement if report else None)
    basis, latency, interval = _latency(measured) if measured else (None, None, None)
    return {
        "name": spec.name,
        "scheme": spec.scheme,
        "io": report.plan.io if report and report.plan else None,
        "techniques": list(spec.techniques),
        "quality": dict(spec.quality),
        "status": status,
        "metric": found.get("metric"),
        "accuracy": found.get("optimized"),
        "baseline": found.get("baseline"),
        "drop": found.get("drop"),
        "standard_error": found.get("standard_error"),
        "samples": found.get("samples"),
        "sha256": made.sha256 if made else None,
        "path": None,
        "size_bytes": made.size_bytes if made else None,
        "gzip_bytes": made.gzip_bytes if made else None,
        "latency_ns": latency,
        "latency_basis": basis,
        "latency_ci95_ns": list(interval) if interval else None,
        "latency_valid": measured.valid if measured else None,
        "latency_disturbance": (measured.disturbance or None) if measured else None,
        "invalid_reasons": list(measured.invalid_reasons) if measured else [],
        "notes": list(report.notes) if report else [],
        "error": tried.error.to_json() if tried.error else None,
    }


def _latency(measured: Measurement) -> tuple[str, float | None, tuple[float, float] | None]:
    """What to compare by: the median with its 95% interval; where a runtime gives no single runs,
    the mean with its own (normal approximation: 1.96 standard errors); else no interval."""
    stats, runs = measured.stats, measured.runs
    if stats.ci95_ns:
        return "median", stats.median_ns, stats.ci95_ns
    if stats.mean_ns and stats.mean_ci95_ns and measured.samples_ns is None:
        return "mean", stats.mean_ns, stats.mean_ci95_ns
    if stats.mean_ns and stats.stdev_ns is not None and runs and runs >= _LEAST_RUNS:
        spread = 1.96 * stats.stdev_ns / math.sqrt(runs)
        return "mean", stats.mean_ns, (stats.mean_ns - spread, stats.mean_ns + spread)
    return "median" if stats.median_ns else "mean", stats.median_ns or stats.mean_ns, None


def _advice(lacking: list[Candidate]) -> str:
    if any("train_data" in c.missing for c in lacking):
        return "Give --train-data, so that quantization-aware training can be tried."
    if lacking:
        return "Give --calibration, so that integer schemes can be tried."
    return "Give more or better calibration and training data, or a larger budget."


def _line(tried: Tried) -> str:
    if tried.drop is None:
        return f"{tried.spec.name}: {tried.error.message if tried.error else 'not measured'}"
    return f"{tried.spec.name}: loses {tried.drop:.4f}"


class Once:
    """Progress that says each note once, however many candidates it holds for."""

    def __init__(self, progress: Progress) -> None:
        self.stage, self.advance, self._note = progress.stage, progress.advance, progress.note
        self._said: set[str] = set()

    def note(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._note(text)


class Named:
    """Progress that says at each stage which candidate it is about."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.name, self._stage = name, progress.stage
        self.advance, self.note = progress.advance, progress.note

    def stage(self, text: str, total: int | None = None, unit: str = "") -> None:
        self._stage(f"{self.name}: {text}", total, unit)
