"""Measure a set of candidates, one after the other; what was measured is never lost."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeopt import __version__
from edgeopt.artifact import hash_path
from edgeopt.dataset import load_dataset
from edgeopt.errors import EdgeoptError, InputError, ModelError, ResultError
from edgeopt.job import Job
from edgeopt.pipeline import flow
from edgeopt.pipeline.candidates import Named, Once, Tried, job_for, row
from edgeopt.pipeline.converting import versions
from edgeopt.pipeline.destination import device_spec, settle_device
from edgeopt.pipeline.session import Session, output_folder
from edgeopt.plan import Spec
from edgeopt.progress import Progress, Silent
from edgeopt.report import Report, model_json
from edgeopt.report.pareto import AXES, beaten_by, front
from edgeopt.store import Store, publish_text

__all__ = ["Tuned", "tune"]

_SCHEMA = "edgeopt.tune-row/1"
# fields of Job that do not change a result, or that a key has in another form
_APART = frozenset(
    {"model", "target", "device", "calibration", "train_data", "eval_data", "preprocess",
     "training", "quality", "goal", "offline", "keep", "run", "output", "timeout_s",
     "wait_s", "retries", "cool_down_s"}
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """Every candidate with what was measured; `complete` is False when the work ended early."""

    planned: Report
    device: Mapping[str, Any]
    output: Path
    rows: tuple[Mapping[str, Any], ...]
    complete: bool
    budget: float | None = None

    @property
    def front(self) -> list[str]:
        return front(self.rows)

    def _within(self, drop: float | None) -> bool | None:
        return None if self.budget is None or drop is None else drop <= self.budget

    def to_json(self) -> dict[str, Any]:
        best = self.front
        marked = [
            {
                **r,
                "front": r["name"] in best,
                "beaten_by": beaten_by(r, self.rows),
                "within_budget": self._within(r["drop"]),
            }
            for r in self.rows
        ]
        return {
            "edgeopt": __version__,
            "model": model_json(self.planned.model),
            "target": self.planned.target.to_json(),
            "device": dict(self.device),
            "axes": list(AXES),
            "max_accuracy_drop": self.budget,
            "candidates": marked,
            "front": best,
            "complete": self.complete,
            "output": str(self.output),
        }


def tune(
    job: Job, specs: tuple[Spec, ...], store: Store, progress: Progress, *, fresh: bool = False
) -> Tuned:
    """Make and measure each candidate (none given: all that the plan says are possible).

    Each result is a file under the output folder, found again by a hash of everything that it
    depends on; `fresh` measures all anew. A broken model or an invalid measurement is its row.
    Raises other errors at once, with what was reached; a second call goes on from there.
    """
    progress = Once(progress)
    work = _prepare(job, specs, store, progress)
    rows: list[dict[str, Any]] = []
    known = {} if fresh else {s.name: r for s in work.specs if (r := work.recall(s))}
    progress.note(work.announcement(known, chosen=bool(specs)))
    try:
        for number, spec in enumerate(work.specs, 1):
            found = known.get(spec.name)
            if found:
                progress.stage(f"{spec.name}: measured before, in {work.output}")
            shown = Named(progress, f"{spec.name} ({number} of {len(work.specs)})")
            rows.append(found or work.measure(spec, store, shown))
        for place, stale in _of_another_runtime(rows):
            progress.note(f"{stale}: the device's runtime changed since; measuring again.")
            rows[place] = work.measure(work.specs[place], store, Named(progress, stale))
    except (EdgeoptError, KeyboardInterrupt) as error:
        kept = sum(r["status"] == "measured" for r in rows)
        progress.note(
            f"{kept} of {len(work.specs)} candidates are measured and kept in {work.output}: "
            "the same command goes on from there."
        )
        if isinstance(error, EdgeoptError):
            error.reached = work.tuned(rows, complete=False).to_json()
        raise
    tuned = work.tuned(rows, complete=True)
    _write(work.output / "tune.json", {"schema": "edgeopt.tune/1", **tuned.to_json()})
    return tuned


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One tune: the candidates, where results are, and what all of their keys share."""

    job: Job
    planned: Report
    device: Mapping[str, Any]
    specs: tuple[Spec, ...]
    output: Path
    shared: Mapping[str, Any]
    budget: float | None

    def tuned(self, rows: list[dict[str, Any]], *, complete: bool) -> Tuned:
        return Tuned(
            planned=self.planned,
            device=self.device,
            output=self.output,
            rows=tuple(rows),
            complete=complete,
            budget=self.budget,
        )

    def announcement(self, known: Collection[str], *, chosen: bool) -> str:
        """What is about to be done: how many candidates, and how many trainings."""
        left = [spec for spec in self.specs if spec.name not in known]
        trainings = {str(job_for(self.job, s).training.to_json()) for s in left if s.techniques}
        said = f"{_count(len(self.specs), 'candidate')}: {', '.join(s.name for s in self.specs)}."
        if len(left) < len(self.specs):
            said += f" {len(self.specs) - len(left)} measured before."
        if trainings:
            said += f" {_count(len(trainings), 'training')} to do"
            said += "." if chosen else ", which takes time: choose with --candidate."
        return said

    def _place(self, spec: Spec) -> tuple[str, Path]:
        own = job_for(self.job, spec)
        key = Store.key(
            candidate=spec.name,
            training=own.training.to_json() if spec.techniques else None,
            quality=own.quality.to_json(),
            **self.shared,
        )
        return key, self.output / "results" / f"{_slug(spec)}-{key[:16]}.json"

    def recall(self, spec: Spec) -> dict[str, Any] | None:
        """What an earlier run measured, when it and the model that it made are whole."""
        key, file = self._place(spec)
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            sound = found["schema"] == _SCHEMA and found["key"] == key
            kept = dict(found["row"])
            sound = sound and kept["status"] == "measured"
            if sound and hash_path(Path(kept["path"])) == kept["sha256"]:
                return kept | {"resumed": True}
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not there, or cut off: it is measured again
        return None

    def measure(self, spec: Spec, store: Store, progress: Progress) -> dict[str, Any]:
        """Make it, run it, and write what came of it before anything else is begun."""
        key, file = self._place(spec)
        own = replace(job_for(self.job, spec), output=self.output / "models" / _slug(spec))
        began = time.perf_counter()
        error: EdgeoptError | None = None
        try:
            report: Report | None = flow.deploy(own, store, progress)
        except (ModelError, ResultError) as caught:
            error, report = caught, caught.reached if isinstance(caught.reached, Report) else None
            progress.note(f"{spec.name}: {caught.message}")
        invalid = isinstance(error, ResultError)
        status = "measured" if error is None else "invalid" if invalid else "failed"
        made = row(Tried(spec=spec, report=report, error=error), status)
        made |= _evidence(report, spec, own) | {"seconds": round(time.perf_counter() - began, 3)}
        _write(file, {"schema": _SCHEMA, "key": key, "row": made})
        return made | {"resumed": False}


def _evidence(report: Report | None, spec: Spec, job: Job) -> dict[str, Any]:
    """What leads from the row's numbers back to raw samples, files and the device."""
    whole = report.to_json() if report else {}
    last = whole["artifacts"][-1] if len(whole.get("artifacts", ())) > 1 else None
    return {
        "path": last["path"] if last else None,
        "artifacts": whole.get("artifacts", []),
        "training": job.training.to_json() if spec.techniques else None,
        "measurement": whole.get("measurement"),
        "device": whole.get("device"),
        "parity": whole.get("parity"),
    }


def _prepare(job: Job, specs: tuple[Spec, ...], store: Store, progress: Progress) -> _Work:
    """Everything that can be refused is, before anything is made or measured."""
    budget, job = job.max_accuracy_drop, replace(job, scheme=None, max_accuracy_drop=None)
    job = replace(job, training=replace(job.training, techniques=()))
    if job.output is not None and job.output.suffix == ".tflite":
        raise InputError("tune makes several files.", "Give a folder with --output.")
    session = Session(job, store, progress)
    planned = flow.plan(job, store, Silent())
    assert planned.plan is not None
    settle_device(session)
    if planned.plan.scheme is None:
        raise InputError(
            f"{job.model.name} is quantized already: there is nothing to choose.",
            "Give the float model that it was made from.",
        )
    possible = tuple(c.spec for c in planned.plan.candidates if c.available)
    chosen = specs or possible
    chosen = tuple(replace(s, scheme=s.scheme or planned.plan.scheme) for s in chosen)
    chosen = tuple({spec.name: spec for spec in chosen}.values())
    for spec in specs:
        _check(spec, job, store)
    output = job.output or output_folder(job, planned.target) / "tune"
    device = _device(session)
    return _Work(
        job=job,
        planned=planned,
        device=device,
        specs=chosen,
        output=output,
        shared=_shared(job, planned, device),
        budget=budget,
    )


def _check(spec: Spec, job: Job, store: Store) -> None:
    """Raises InputError, naming the candidate, for what the target or the data does not allow."""
    if spec.techniques and job.train_data is None:
        raise InputError(
            f"The candidate {spec.name} needs labelled data to train with.", "Give --train-data."
        )
    try:
        flow.plan(job_for(job, spec), store, Silent())
    except InputError as error:
        error.message = f"The candidate {spec.name}: {error.message}"
        raise


def _device(session: Session) -> dict[str, Any]:
    """The device as it says it is: a measurement of another one is not reused."""
    from edgeopt.device import reached

    spec = device_spec(session)
    session.progress.stage(f"Connecting to {spec.name}")
    with reached(spec) as device:
        facts = device.facts()
    return {"name": spec.name, "kind": spec.kind, "url": spec.url, "facts": facts}


def _shared(job: Job, planned: Report, device: Mapping[str, Any]) -> dict[str, Any]:
    def digest(spec: str | None) -> str | None:
        return load_dataset(spec, preprocess=job.preprocess).digest() if spec else None

    target = planned.target
    return {
        "stage": "tune",
        "model": planned.model.sha256,
        "target": {k: v for k, v in target.to_json().items() if k != "path"},
        "profile": {k: v for k, v in target.profile.to_json().items() if k != "path"},
        "device": device,
        "data": [digest(job.calibration), digest(job.train_data), digest(job.eval_data)],
        "settings": {k: v for k, v in vars(job).items() if k not in _APART},
        "preprocess": job.preprocess.to_json(),
        "versions": versions("ai-edge-litert", "litert-quantizer", "tensorflow"),
    }


def _of_another_runtime(rows: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """Rows of an earlier run whose runtime is not the one that answers now."""

    def runtime(found: Mapping[str, Any]) -> Any:
        device = found["device"] or {}
        return [device.get(k) for k in ("runtime", "runtime_version", "accelerator")]

    now = [runtime(r) for r in rows if not r["resumed"] and r["device"]]
    return [
        (n, r["name"]) for n, r in enumerate(rows) if now and r["resumed"] and runtime(r) not in now
    ]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _slug(spec: Spec) -> str:
    """The candidate as a file name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in spec.name)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all, so that an interruption leaves what was there."""
    text = json.dumps(content, sort_keys=True, indent=2, allow_nan=False, default=str)
    publish_text(text + "\n", path)
