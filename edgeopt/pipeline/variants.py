"""Several models benchmarked on one device, interleaved or one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from edgeopt.errors import EdgeoptError
from edgeopt.job import Job
from edgeopt.measurement import Comparison, compare
from edgeopt.measurement.comparison import SESSION
from edgeopt.measurement.turns import Turns
from edgeopt.pipeline import flow, running
from edgeopt.pipeline.session import Session
from edgeopt.progress import Progress
from edgeopt.report.report import Report
from edgeopt.report.variants import Variant, VariantsReport
from edgeopt.store import Store

__all__ = ["benchmark_variants", "unique_names"]

Told = Callable[[VariantsReport], None]


def benchmark_variants(
    jobs: Sequence[Job],
    store: Store,
    progress: Progress,
    *,
    interleave: bool,
    told: Told | None = None,
) -> VariantsReport:
    """Run several .tflite files as they are, all with the same device, inputs and effort.

    One that fails does not stop the others. Without `interleave`, `told` gets the report so far
    after each. Raises the error of the worst kind, with the VariantsReport in `reached`; Ctrl-C
    carries it too.
    """
    names = unique_names([job.model.stem for job in jobs])
    work = _Work(names, jobs, interleave, told)
    try:
        work.begin(store, progress)
        if interleave:
            work.together()
        else:
            work.in_turn()
    except KeyboardInterrupt as stop:
        stop.reached = work.report(complete=False)  # type: ignore[attr-defined]
        raise
    report = work.report(complete=True)
    if failure := report.failure():
        raise failure
    return report


class _Work:
    def __init__(
        self, names: Sequence[str], jobs: Sequence[Job], interleave: bool, told: Told | None
    ) -> None:
        self.names, self.jobs, self.interleave, self.told = names, jobs, interleave, told
        self.sessions: dict[str, Session] = {}
        self.errors: dict[str, EdgeoptError] = {}
        self.order: list[str] = []
        self.turns: list[Turns] = []  # one, once they were taken

    def begin(self, store: Store, progress: Progress) -> None:
        """Read every model before any is measured."""
        for name, job in zip(self.names, self.jobs, strict=True):
            try:
                self.sessions[name] = Session(job, store, progress)
                flow.as_it_is(self.sessions[name])
            except EdgeoptError as error:
                self.errors[name] = error

    def _ready(self) -> list[str]:
        return [name for name in self.sessions if name not in self.errors]

    def in_turn(self) -> None:
        for name in self._ready():
            try:
                self.sessions[name].walk(running.run)
            except EdgeoptError as error:
                self.errors[name] = error
            measured = self.sessions[name].report.measurement
            self.order += [name] * (len(measured.processes) if measured else 0)
            if self.told:
                self.told(self.report(complete=False))

    def together(self) -> None:
        ready = self._ready()
        if not ready:
            return
        sessions = [self.sessions[name] for name in ready]
        effort = sessions[0].job.effort
        try:
            done = running.run_together(
                sessions, effort, names=ready, order=self.order, turns=self.turns
            )
        except EdgeoptError as failure:
            done = [failure] * len(ready)
        for name, error in zip(ready, done, strict=True):
            if error is not None:
                self.errors[name] = error
                self.sessions[name].add(failure=error.to_json())

    def report(self, *, complete: bool) -> VariantsReport:
        variants = tuple(self._variant(name) for name in self.names)
        turns = self.turns[-1] if self.turns else None
        return VariantsReport(
            variants=variants,
            comparisons=tuple(_comparisons(variants, turns, together=self.interleave)),
            turns=turns,
            order=tuple(self.order),
            seed=self.jobs[0].effort.seed,
            interleaved=self.interleave,
            complete=complete,
        )

    def _variant(self, name: str) -> Variant:
        session, error = self.sessions.get(name), self.errors.get(name)
        report: Report | None = session.report if session else None
        return Variant(name=name, report=report, error=error.to_json() if error else None)


def _comparisons(
    variants: Sequence[Variant], turns: Turns | None, *, together: bool
) -> list[tuple[str, str, Comparison]]:
    """Each against the first; those that did not take turns with the allowance for two sessions."""
    first, *others = variants
    allowance = 0.0 if together else SESSION
    old = first.report.measurement if first.report else None
    found = []
    for other in others:
        new = other.report.measurement if other.report else None
        if old is not None and new is not None:
            logs = turns.log_ratios(first.name, other.name) if turns else ()
            judged = compare(old, new, session=allowance, turns=logs)
            found.append((first.name, other.name, judged))
    return found


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that repeat: a model can be held against itself."""
    seen: Counter[str] = Counter()
    found: list[str] = []
    for name in names:
        seen[name] += 1
        unique = name if seen[name] == 1 else f"{name}#{seen[name]}"
        while unique in found or (unique != name and unique in names):
            seen[name] += 1
            unique = f"{name}#{seen[name]}"
        found.append(unique)
    return found
