"""Where the time of an inference goes on the device: in a process of its own."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from edgeopt.errors import DeviceError, EdgeoptError, InputError
from edgeopt.pipeline.destination import device_spec, runtime_name
from edgeopt.pipeline.running import request_of
from edgeopt.pipeline.session import Session
from edgeopt.registry import BUILTINS

if TYPE_CHECKING:
    from edgeopt.device import Device
    from edgeopt.device.profiling.run import Profiled
    from edgeopt.report import Report

__all__ = ["check", "check_node_data", "run", "write_node_data"]


_WITH_A_PROFILER = ("litert", "edgetpu", "benchmark_model")


def check(session: Session) -> None:
    """Refuse, before any work, to profile what has no profiler (InputError)."""
    runtime = runtime_name(session)
    if session.job.profile and runtime in BUILTINS["runtimes"] and runtime not in _WITH_A_PROFILER:
        raise InputError(
            f"The runtime {runtime} has no profiler.",
            "Profile with --runtime litert or --runtime benchmark_model.",
        )


def run(session: Session) -> None:
    """Add the profile that the job asks for; nothing where it asks for none.

    Raises DeviceError when the device fails or has no profiler, InputError for what cannot be
    asked of its runtime, ModelError for a model that the profiler cannot take.
    """
    from edgeopt.device import held
    from edgeopt.device.profiling.run import profile
    from edgeopt.model import read

    job = session.job
    if not job.profile:
        return
    facts = read(session.artifact.path)
    spec = device_spec(session)
    try:
        with (
            session.timed("profile", f"Connecting to {spec.name}"),
            held(spec, purpose="profiling", wait_s=job.wait_s, progress=session.progress) as device,
        ):
            found = profile(
                device,
                request_of(session, facts),
                facts,
                session.progress,
                kernels=job.profile,
                runs=job.effort.runs,
            )
            _record(session, device, found)
    except DeviceError as error:
        if job.device is None:
            error.hint += " No --device was given, so this machine was tried."
        raise


def _record(session: Session, device: Device, found: Profiled) -> None:
    for note in found.notes:
        session.note(note)
    notes = [*found.profile["notes"], *_inside(session, found), *device.lease_reasons()]
    session.add(profile={**found.profile, "notes": notes})
    if session.report.device is not None:  # what was measured says where
        return
    session.add(
        parity_note="not checked: a profile compares no answers",
        device={
            "name": device.spec.name,
            "kind": device.spec.kind,
            "facts": dict(found.facts),
            "model_sha256": session.artifact.sha256,
            "runtime": found.runtime,
            "runtime_version": found.runtime_version,
            "accelerator": found.accelerator,
            "threads": session.job.threads,
            "sent_bytes": found.sent_bytes,
            "lease": device.lease,
            "transfer": found.transfer.to_json() if found.transfer else None,
        },
    )


def _inside(session: Session, found: Profiled) -> list[str]:
    """What a partition of a compiled model holds, where this deploy knows it."""
    placed = session.report.placement
    if found.profile["method"] != "whole" or placed is None or not placed.ops:
        return []
    mapped = Counter(op.op for op in placed.ops if op.placement != "cpu")
    kinds = ", ".join(f"{count} {name}" for name, count in mapped.most_common())
    return [f"Inside of the accelerator ({placed.source}): {kinds}."] if kinds else []


def check_node_data(path: Path | None) -> None:
    """Refuse what cannot be written before any work is done (InputError)."""
    from edgeopt.store import check_place

    if path is None:
        return
    if path.suffix != ".json":  # a model here would be overwritten
        raise InputError(f"--node-data {path} has no known ending.", "Use .json.")
    check_place(path)


def write_node_data(report: Report, path: Path) -> None:
    """The times of the first subgraph's operators for Model Explorer, in microseconds; whole or
    not at all. Raises InputError where it cannot be written."""
    from edgeopt.report.node_data import node_times
    from edgeopt.store import publish_text

    assert report.profile is not None
    times = {
        row["index"]: row["typical_ns"] / 1000
        for row in report.profile["operators"]
        if row["subgraph"] == 0 and row["typical_ns"] is not None
    }
    facts = report.model
    name = f"edgeopt: us on {report.device['name'] if report.device else 'the device'}"
    signature = next(iter(facts.signatures), "")
    content = node_times(facts.subgraphs[0], times, name, signature)
    try:
        publish_text(json.dumps(content, indent=2) + "\n", path)
    except EdgeoptError as error:
        error.reached = report
        raise
