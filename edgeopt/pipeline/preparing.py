"""A device that is prepared for measuring; measurements repeated on a board that has cooled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeopt.effort import Effort
from edgeopt.errors import DeviceError
from edgeopt.pipeline.measuring import Measuring

if TYPE_CHECKING:
    from edgeopt.device import Device

__all__ = ["prepared", "repeated"]


@contextmanager
def prepared(parts: Sequence[Measuring], device: Device) -> Iterator[None]:
    """The device pinned and set as the job asks (--prepare, --cores), put back at the end.

    Every report says what was done. Raises DeviceError when something could not be put back.
    """
    job = parts[0].session.job
    if not (job.prepare or job.cores):
        yield
        return
    from edgeopt.device.preparing.prepare import prepare
    from edgeopt.device.runner import runtime_of

    ready = prepare(
        device,
        governor=job.prepare,
        cores=job.cores,
        threads=job.threads,
        by_agent=runtime_of(device, parts[0].request) not in ("native", "benchmark_model"),
    )
    try:
        for part in parts:
            part.request = replace(part.request, cores=ready.cores)
        yield
    finally:
        ready.restore()
        for part in parts:
            part.session.add(preparation=ready.to_json())
            for note in ready.notes:
                part.session.note(note)
    if ready.restored is False:
        raise DeviceError(
            f"{device.spec.name} was measured, but not put back: {ready.notes[-1]}",
            "Put its governor back there, or try edgeopt devices clean.",
        )


def repeated(
    parts: Sequence[Measuring], device: Device, effort: Effort, series: Callable[[], Any]
) -> Any:
    """`series()`, and again after a cool-down while a measurement is invalid and --retries last.

    All are repeated when one is: what drifts hits all alike. Every try is in the reports.
    """
    from edgeopt.device.preparing.cool_down import cool_down

    job = parts[0].session.job
    for number in range(job.retries + 1):
        found = series()
        invalid = [part for part in parts if not part.valid(device, effort)]
        if not invalid or number == job.retries:
            break
        starts = [r for part in parts if (r := part.first_reading())]
        for part in parts:
            part.put_aside(device, effort)
        waited = cool_down(
            device, starts[0] if starts else {}, job.cool_down_s, parts[0].session.progress
        )
        for part in parts:
            part.waited(waited)
    return found
