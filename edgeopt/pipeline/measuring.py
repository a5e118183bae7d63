"""One model's measurement as its processes come in, and what the report says of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeopt.measurement import Measurement, measure
from edgeopt.pipeline.session import Session

if TYPE_CHECKING:
    from edgeopt.device import Device
    from edgeopt.device.run import RunRequest, RunResult
    from edgeopt.device.series import Ran, Variant
    from edgeopt.effort import Effort
    from edgeopt.facts import ModelFacts

__all__ = ["Measuring"]


class Measuring:
    """Collects the processes of one session's final file, and records them in its report."""

    request: RunRequest

    def __init__(self, session: Session, facts: ModelFacts, name: str) -> None:
        self.session, self.facts, self.name = session, facts, name
        self.ran: list[Ran] = []
        self.tries: list[dict[str, Any]] = []  # that were invalid, and then repeated
        self._recorded = False
        self._aside: list[Ran] = []  # the processes of the last of them

    @property
    def variant(self) -> Variant:
        from edgeopt.device.series import Variant

        return Variant(name=self.name, request=self.request)

    @property
    def result(self) -> RunResult:
        """Of the first process, the one that computed outputs."""
        return self.ran[0].result

    def take(self, ran: Ran) -> None:
        self.ran.append(ran)

    def record(self, device: Device, effort: Effort) -> None:
        """Put what there is into the report, once; nothing where no process gave any time."""
        if self._recorded:
            return
        self._recorded = True
        if not self.ran and self._aside:  # the next try came to nothing: the last one is kept
            self.ran = self._aside
            self.tries.pop()
        if not self.ran:
            return
        for ran in self.ran:
            for note in _notes(ran.result):
                self.session.note(note)
        measured = self._measured(device, effort)
        self.session.add(device=self._device(device), effort=effort.to_json(), measurement=measured)
        if self.tries:
            self.session.add(tries=(*self.tries, _try(measured)))
            self.session.note(f"Try {len(self.tries) + 1}: those before were invalid.")

    def valid(self, device: Device, effort: Effort) -> bool:
        """May what has come in be believed? Nothing is not invalid: an error says why it lacks."""
        return not self.ran or self._measured(device, effort).valid

    def typical_s(self, device: Device, effort: Effort) -> float:
        """The median latency in seconds, or the mean where the runtime tells no more."""
        stats = self._measured(device, effort).stats
        return (stats.median_ns or stats.mean_ns or 0) / 1e9

    def first_reading(self) -> Mapping[str, Any]:
        """What the board said before the very first process; empty when it said nothing."""
        if self.tries:
            return self.tries[0]["before"]  # type: ignore[no-any-return]
        before = self.ran[0].result.conditions.get("before") if self.ran else None
        return before if isinstance(before, Mapping) else {}

    def put_aside(self, device: Device, effort: Effort) -> None:
        """Keep what came in as a try that does not count, and start anew."""
        if self.ran:
            before = dict(self.first_reading())
            self.tries.append({**_try(self._measured(device, effort)), "before": before})
            self._aside, self.ran = self.ran, []

    def waited(self, cool_down: Mapping[str, Any]) -> None:
        """What was waited for after the last try."""
        if self.tries:
            self.tries[-1]["cool_down"] = dict(cool_down)

    def _measured(self, device: Device, effort: Effort) -> Measurement:
        lost = device.lease_reasons()
        started = self.ran[0].began_s
        processes = [
            replace(
                ran.process,
                invalid_reasons=(*ran.process.invalid_reasons, *lost),
                started_s=round(ran.began_s - started, 3),
            )
            for ran in self.ran
        ]
        return measure(
            processes=processes,
            asked=effort.started,
            precision=None if effort.runs else effort.precision,
            judged=self.session.job.conditions == "judge"
            or bool(lost),  # another may have measured
        )

    def _device(self, device: Device) -> dict[str, object]:
        result, job = self.result, self.session.job
        return {
            "name": device.spec.name,
            "kind": device.spec.kind,
            "facts": dict(result.facts),
            "model_sha256": result.model_sha256,
            "runtime": result.runtime,
            "runtime_version": result.runtime_version,
            "accelerator": result.accelerator,
            "threads": job.threads,
            "inputs": "data" if job.calibration or job.eval_data else "seeded",
            "inputs_sha256": inputs_sha256(self.request),
            "sent_bytes": sum(ran.result.sent_bytes for ran in self.ran),
            "lease": device.lease,
            "transfer": result.transfer.to_json() if result.transfer else None,
        }


def _try(measured: Measurement) -> dict[str, Any]:
    return {
        "valid": measured.valid,
        "invalid_reasons": list(measured.invalid_reasons),
        "median_ns": measured.stats.median_ns,
        "runs": measured.runs,
        "processes": len(measured.processes),
    }


def inputs_sha256(request: RunRequest) -> str:
    """The samples that timing cycles over: two runs with the same hash did the same work."""
    digest = hashlib.sha256()
    for sample in request.inputs:
        for array in sample:
            digest.update(f"{array.dtype.name} {array.shape} ".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _notes(result: RunResult) -> tuple[str, ...]:
    sent = result.transfer.note if result.transfer else ""
    return (*((sent,) if sent else ()), *result.notes)
