"""Session: one job on its way through the steps, with the report so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.artifact import Artifact
from edgeopt.errors import EdgeoptError, InputError
from edgeopt.facts import ModelFacts
from edgeopt.job import Job
from edgeopt.paths import config_dir
from edgeopt.plan import Plan
from edgeopt.profile import HardwareProfile
from edgeopt.progress import Progress
from edgeopt.report import Report
from edgeopt.store import Store
from edgeopt.target import Target, load_target

if TYPE_CHECKING:
    from edgeopt.pipeline.references import References

__all__ = ["Session", "Step", "output_folder"]

_STOPPED = {
    "kind": "interrupted",
    "message": "Stopped before the end: what is here is as far as it came.",
    "hint": "",
    "exit_code": 130,
    "details": {},
}


class Session:
    """One job on its way: the report so far, and the tools that its steps share."""

    def __init__(self, job: Job, store: Store, progress: Progress) -> None:
        from edgeopt.model import read

        self.job, self.store, self.progress = job, store, progress
        target = load_target(job.target or _own_target(job.device) or "cpu")
        progress.stage(f"Reading {job.model.name}")
        self.report = Report(model=read(job.model), target=target)
        _refuse_overwriting(job)
        self._settled: set[str] = set()
        self.float_model: Path | None = None
        self.baseline: Path | None = None  # the source in float, which accuracy is compared with
        self.single: Artifact | None = None  # without copies, where activations are held twice
        self.references: References | None = None  # the host's outputs, shared with other devices

    def on(self, device: str, progress: Progress, references: References) -> Session:
        """A session that goes on from here for one of several devices."""
        other = copy(self)
        other.job = replace(self.job, device=device)
        other.progress, other.references = progress, references
        other._settled = set(self._settled)
        return other

    @property
    def target(self) -> Target:
        return self.report.target

    @property
    def profile(self) -> HardwareProfile:
        """The target's, for the device runtime that its compiler is asked for."""
        asked = {**self.target.compiler_options, **self.job.compiler_flags}
        lowest, profile = str(asked.get("min_runtime_version", "")), self.target.profile
        if profile.partition.runtime_version is None or not lowest.isdecimal():
            return profile
        return profile.at_runtime(int(lowest))

    @property
    def facts(self) -> ModelFacts:
        return self.report.model

    @property
    def plan(self) -> Plan:
        assert self.report.plan is not None
        return self.report.plan

    @property
    def artifact(self) -> Artifact:
        assert self.report.final is not None
        return self.report.final

    def walk(self, *steps: Step) -> Report:
        """Take these steps. Raises the EdgeoptError of the one that fails, with what was reached
        so far in `error.reached`; Ctrl-C carries it too."""
        try:
            for step in steps:
                step(self)
        except EdgeoptError as error:
            self.add(failure=error.to_json())
            error.reached = self.report
            raise
        except KeyboardInterrupt as stop:
            self.add(failure=_STOPPED)
            stop.reached = self.report  # type: ignore[attr-defined]
            raise
        return self.report

    def add(self, **changes: Any) -> None:
        self.report = replace(self.report, **changes)

    def follow(self, plan: Plan) -> None:
        """Let the job ask for what was decided, so that every later step does the same.

        Labelled training data serves for calibration where there is no other.
        """
        job = self.job
        self.job = replace(
            job,
            training=replace(job.training, techniques=plan.techniques),
            quality=replace(job.quality, **plan.quality),
            calibration=job.calibration or (job.train_data if plan.scheme else None),
        )

    def settle(self, remarks: Iterable[str]) -> None:
        """What was a question is answered: these remarks are not made any more."""
        self._settled |= set(remarks)

    def note(self, text: str) -> None:
        if text not in self.report.notes and text not in self._settled:
            self.add(notes=(*self.report.notes, text))
            self.progress.note(text)

    @contextmanager
    def timed(self, name: str, text: str = "") -> Iterator[None]:
        """A stage: its seconds in the report, also when it fails; named on the terminal unless
        `text` is empty, where the work names its own steps."""
        if text:
            self.progress.stage(text)
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = self.report.timings_s.get(name, 0.0) + time.perf_counter() - began
            self.add(timings_s={**self.report.timings_s, name: spent})

    def place(self, stage: str) -> Path:
        """Where the user finds a stage's file: in --output, else edgeopt-out/MODEL-TARGET/.

        Where --output is a .tflite, the trained model lies beside it."""
        scheme = f"_{self.plan.scheme}" if self.plan.scheme else ""
        ending = f"_{self.target.accelerator}" if stage == "compiled" else ""
        name = f"{self.job.model.resolve().stem}{scheme}{ending}.tflite"
        folder = output_folder(self.job, self.target)
        if stage == "trained":
            one = folder.suffix == ".tflite"
            stem = folder.stem if one else self.job.model.resolve().stem
            return (folder.parent if one else folder) / f"{stem}_trained.h5"
        return folder if folder.suffix == ".tflite" else folder / name


Step = Callable[[Session], None]


def _refuse_overwriting(job: Job) -> None:
    """The user's model is read and never written."""
    if job.output is not None and job.output.resolve() == job.model.resolve():
        raise InputError(
            f"--output {job.output} is the model itself, which edgeopt never writes to.",
            "Give another name or a folder.",
        )


def output_folder(job: Job, target: Target) -> Path:
    """--output (which may be the path of a .tflite), else edgeopt-out/MODEL-TARGET."""
    default = Path("edgeopt-out") / f"{job.model.resolve().stem}-{target.name}"
    return default if job.output is None else job.output


def _own_target(device: str | None) -> str | None:
    """The target that devices.toml names for the device."""
    if device is None:
        return None
    from edgeopt.device.inventory import resolve

    return resolve(device, folders=(Path.cwd(), config_dir())).target
