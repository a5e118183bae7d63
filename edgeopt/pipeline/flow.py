"""The order of the work: model, plan, convert, verify, compile, place, push, run, report.

Nothing else knows it. Each step adds to the report; an error carries what was reached so far
(`error.reached`), and a file that passed is kept and named even when a later step fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgeopt.artifact import Artifact
from edgeopt.errors import EdgeoptError, InputError, ModelError
from edgeopt.job import Job
from edgeopt.model.compiled import formats_of, is_compiled
from edgeopt.pipeline import (
    beside,
    candidates,
    compiling,
    converting,
    evaluating,
    loading,
    preserving,
    profiling,
    training,
)
from edgeopt.pipeline.destination import settle_device
from edgeopt.pipeline.estimating import estimate_json
from edgeopt.pipeline.ranging import check_ranges
from edgeopt.pipeline.references import References
from edgeopt.pipeline.session import Session, Step
from edgeopt.plan import make_plan
from edgeopt.progress import Progress
from edgeopt.report import Report
from edgeopt.report.together import JointReport
from edgeopt.store import Store, publish

__all__ = [
    "as_it_is", "benchmark", "compile_model", "compile_together", "convert", "deploy",
    "deploy_made", "made", "plan", "planned", "profile",
]  # fmt: skip

# Measure; then what the job asks for besides, each in processes of its own.
_RUN: tuple[Step, ...] = (beside.run, profiling.run, loading.run)


def plan(job: Job, store: Store, progress: Progress) -> Report:
    """Only decide, and estimate a model that is quantized already."""
    report = Session(job, store, progress).walk(_plan, _estimate)
    assert report.plan is not None
    return replace(report, plan=replace(report.plan, search=candidates.order(job, report.plan)))


def convert(job: Job, store: Store, progress: Progress) -> Report:
    """Decide, convert and verify; the file is published only when it obeys the profile."""
    return _one_or_several(job, store, progress, (_plan, _optimize, _verify), ())


def compile_model(job: Job, store: Store, progress: Progress) -> Report:
    """Verify a quantized model and compile it (a float one is converted first)."""
    steps = (_plan, _refuse_compiled, _optimize, _verify, _publish, _compile)
    return Session(job, store, progress).walk(*steps)


def compile_together(jobs: Sequence[Job], store: Store, progress: Progress) -> JointReport:
    """Verify quantized models and compile them for one chip, whose cache they share.

    Raises the EdgeoptError of the step that failed, with the JointReport so far in `reached`.
    """
    steps = (_plan, _refuse_compiled, _refuse_unquantized, _verify)
    sessions: list[Session] = []
    try:
        for job in jobs:
            sessions.append(Session(job, store, progress))
            sessions[-1].walk(*steps)
        compiling.compile_jointly(sessions)
    except EdgeoptError as error:
        reports = tuple(session.report for session in sessions)
        error.reached = JointReport(reports=reports, failure=error.to_json())
        raise
    return JointReport(reports=tuple(session.report for session in sessions))


def benchmark(
    job: Job, store: Store, progress: Progress, references: References | None = None
) -> Report:
    """Run a .tflite as it is on a device. Several devices share their `references`."""
    session = Session(job, store, progress)
    session.references = references
    return session.walk(_as_it_is, settle_device, profiling.check, loading.check, *_RUN)


def as_it_is(session: Session) -> None:
    """What a benchmark does before the run: refuse what it cannot run, or where."""
    session.walk(_as_it_is, settle_device)


def profile(job: Job, store: Store, progress: Progress) -> Report:
    """Where the time of a .tflite goes on a device, as it is; nothing is compared."""
    return Session(job, store, progress).walk(
        _as_it_is, settle_device, profiling.check, profiling.run
    )


def deploy(job: Job, store: Store, progress: Progress) -> Report:
    """The whole flow. Raises the EdgeoptError of the step that failed."""
    make: tuple[Step, ...] = (_plan, _optimize, _verify)
    if not job.run:
        return _one_or_several(job, store, progress, make, (_compile,))
    make = (compiling.refuse_pipeline, _plan, settle_device, profiling.check, _optimize, _verify)
    return _one_or_several(job, store, progress, make, (_compile, *_RUN))


def made(session: Session) -> Session:
    """Everything that several devices of one target share, up to the file that they run."""
    job = session.job
    steps: tuple[Step, ...] = (_optimize, _verify, _publish, _compile)
    if not candidates.wanted(job):
        session.walk(*steps, *(() if job.on_device else (_accuracy,)))
        return session
    report = _one_or_several(
        replace(job, run=False), session.store, session.progress, (_plan, *steps[:2]), (_compile,)
    )
    session.report = report
    session.follow(session.plan)
    return session


def deploy_made(session: Session) -> Report:
    """The rest of a deploy, on one device."""
    steps = (_accuracy, *_RUN) if session.job.on_device else _RUN
    return session.walk(settle_device, *steps)


def planned(session: Session) -> Session:
    """The decision alone, and what forbids a run, before any long work."""
    session.walk(*((compiling.refuse_pipeline,) if session.job.run else ()), _plan)
    return session


def _one_or_several(
    job: Job, store: Store, progress: Progress, make: Sequence[Step], rest: Sequence[Step]
) -> Report:
    """What was asked for; or, under an accuracy budget, the plan's candidates until one passes."""
    first = rest[:1] if job.on_device else ()  # a device runs what was compiled for it
    if candidates.wanted(job):
        planned = plan(job, store, progress)
        if planned.plan and planned.plan.ladder:
            judge, finish = (*make, *first, _accuracy), (_publish, *rest)
            return candidates.search(job, store, progress, planned, judge, finish)
    steps = (*make, _publish, *first, _accuracy, *rest[len(first) :])
    return Session(job, store, progress).walk(*steps)


def _plan(session: Session) -> None:
    job = session.job
    chosen = make_plan(
        session.facts,
        session.target,
        has_calibration=job.calibration is not None,
        has_train_data=job.train_data is not None,
        has_eval_data=job.eval_data is not None,
        max_accuracy_drop=job.max_accuracy_drop,
        goal=job.goal,
        techniques=job.training.techniques,
        scheme=job.scheme,
        io=job.io,
        splitting=job.quality.splitting,
    )
    kept = replace(job.training, techniques=chosen.techniques).kept
    for remark in (unmet := job.quality.unmet(chosen.scheme, kept)):
        session.note(remark)
    chosen = chosen.told(*unmet)
    session.follow(chosen)
    session.add(plan=chosen, artifacts=(Artifact.of(job.model, "source"),))


def _estimate(session: Session) -> None:
    """Of a float model there is nothing to say before it is converted."""
    if session.facts.quantized:
        from edgeopt.verify import predict

        placed = predict(session.facts, session.target.profile)
        session.add(estimate=estimate_json(session.facts, placed, session.target))


def _as_it_is(session: Session) -> None:
    if session.facts.format != "tflite":
        raise ModelError(
            f"{session.job.model} is a {session.facts.format} model; benchmark runs .tflite files.",
            "Convert it first (edgeopt convert), or use edgeopt deploy.",
        )
    made = formats_of(session.facts)
    if made and not session.target.profile.compiled(session.facts):
        raise ModelError(
            f"{session.job.model} is compiled for {made[0].chip}; {session.target.name} is none.",
            f"Use --target {made[0].target} or a board with one, or give the file from before "
            "compiling.",
        )
    session.add(artifacts=(Artifact.of(session.job.model, "source"),))


def _optimize(session: Session) -> None:
    if session.plan.scheme is None:
        return
    with session.timed("to_float"):
        converting.to_float(session)
    session.baseline = session.float_model
    with session.timed("ranges"):
        check_ranges(session, session.float_model)
    if session.plan.techniques:
        with session.timed("train"):
            training.train(session)
        with session.timed("to_float"):
            converting.to_float(session)
    with session.timed("quantize"):
        converting.quantize(session)
    if session.job.training.kept:
        with session.timed("preserved", "Looking for every zero and cluster in the final file"):
            preserving.preserved(session)


def _verify(session: Session) -> None:
    from edgeopt.model import read
    from edgeopt.verify import check, predict

    profile = session.profile
    with session.timed("verify", f"Verifying against {profile.name}"):
        facts = read(session.artifact.path)
        found = check(facts, profile, io=session.plan.io)
        placed = predict(facts, profile)
        foreseen = estimate_json(facts, placed, session.target)
        session.add(constraints=found, placement=placed, estimate=foreseen)
    if not found.passed:
        if session.plan.scheme is not None:  # what may not be used is not offered either
            session.add(artifacts=session.report.artifacts[:-1])
        count = len(found.violations)
        raise ModelError(
            f"{session.job.model.name} breaks {count} rule{'s' * (count > 1)} of "
            f"{session.target.profile.name}; nothing was written.",
            f"{found.violations[0].hint}{_fixable(session)}",
            details={"lines": [str(v) for v in found.violations]},
        )


def _fixable(session: Session) -> str:
    """For a .tflite that is used as it is: who repairs what can be repaired in the file."""
    if session.plan.scheme is not None or is_compiled(session.facts):
        return ""
    name, target = session.job.model.name, session.target.name
    return f" edgeopt fix {name} --target {target} repairs what it can without changing an answer."


def _publish(session: Session) -> None:
    """Put the verified file, and what was trained for it, where the user picks them up, and let
    the report name them there."""
    if session.plan.scheme is None:
        return
    last = session.artifact
    session.add(
        artifacts=tuple(
            replace(made, path=publish(made.path, session.place(made.stage)))
            if made is last or made.stage == "trained"
            else made
            for made in session.report.artifacts
        )
    )


def _accuracy(session: Session) -> None:
    if session.job.eval_data is None:
        return
    with session.timed("accuracy", "Measuring accuracy"):
        evaluating.accuracy(session)
    evaluating.hold_budget(session)


def _refuse_compiled(session: Session) -> None:
    if session.target.profile.compiled(session.facts):
        raise ModelError(
            f"{session.job.model} is already compiled for {session.target.profile.name}.",
            "Give the model before compiling; edgeopt deploy takes this one as it is.",
        )


def _refuse_unquantized(session: Session) -> None:
    if session.plan.scheme is not None:
        raise InputError(
            f"{session.job.model.name} is not quantized: models that are compiled together must "
            "be .tflite files that the target takes as they are.",
            "Convert each by itself first: edgeopt convert MODEL --calibration DATA --target "
            f"{session.target.name}.",
        )


def _compile(session: Session) -> None:
    if session.target.profile.compiled(session.facts):
        return
    if session.target.compiler == "passthrough":
        if session.job.compiler or session.job.compiler_flags:
            session.note(f"{session.target.name} has no compiler: its flags were not used.")
        return
    with session.timed("compile"):
        compiling.compile_artifact(session)
