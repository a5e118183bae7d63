"""Put a load on a device: many requests at once, through the agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeopt.device.conditions import remarks
from edgeopt.device.device import Device
from edgeopt.device.load.answer import checked_load
from edgeopt.device.load.figures import load_figures
from edgeopt.device.python_runner.ask import ask
from edgeopt.device.run import RunRequest
from edgeopt.device.runner import runtime_of
from edgeopt.errors import InputError
from edgeopt.load import Load
from edgeopt.progress import Progress

__all__ = ["Loaded", "put_load"]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """`throughput` is the JSON object; `facts` and `notes` as of a run."""

    throughput: dict[str, Any]
    facts: Mapping[str, Any]
    notes: tuple[str, ...]


def put_load(device: Device, request: RunRequest, load: Load, progress: Progress) -> Loaded:
    """Run `load` on `device`. Raises InputError for a runtime that cannot (benchmark_model, native)
    and a batch that the model does not take, DeviceError when the device fails or lies."""
    name = runtime_of(device, request)
    if name not in ("litert", "edgetpu"):
        raise InputError(
            f"The runtime {name} answers one request at a time: --concurrency, --batch and --rate"
            " need Python on the device.",
            "Leave them out, or use --runtime litert where Python is.",
        )
    load.check_timeout(request.timeout_s)
    asked = {
        "concurrency": load.concurrency,
        "batch": load.batch,
        "rate": load.rate,
        "time_s": load.time_s,
    }
    told = ask(device, request, "load", asked, progress)
    raw = checked_load(told.fields, device=device.transport.name, load=load)
    found = {
        **load_figures(raw, load, threads=request.threads),
        "runtime": raw.runtime,
        "runtime_version": raw.runtime_version,
        "threads_per_interpreter": request.threads,
        "conditions": dict(raw.conditions),
    }
    notes = (*told.notes, *remarks(raw.conditions))
    return Loaded(throughput=found, facts=raw.facts, notes=notes)
