"""One model's measurement as its processes come in, and what the report says of them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeopt.measurement import measure
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
        """Put what there is into the report; nothing where no process gave any time."""
        if not self.ran:
            return
        for ran in self.ran:
            for note in _notes(ran.result):
                self.session.note(note)
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
        self.session.add(
            device=self._device(device),
            effort=effort.to_json(),
            measurement=measure(
                processes=processes,
                asked=min(effort.started, len(processes)),
                precision=None if effort.runs else effort.precision,
                judged=self.session.job.conditions == "judge",
            ),
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
