"""Many requests at once: throughput and latency under load, in a process of its own."""

from __future__ import annotations

from edgeopt.errors import InputError, ResultError
from edgeopt.facts import ModelFacts, Tensor
from edgeopt.load import Load
from edgeopt.pipeline.destination import device_spec, runtime_name
from edgeopt.pipeline.running import request_of
from edgeopt.pipeline.session import Session

__all__ = ["check", "run"]


def check(session: Session) -> None:
    """Refuse, before any work, a load that cannot be put on this model (InputError)."""
    load = session.job.load
    if load is None:
        return
    runtime = runtime_name(session)
    if runtime in ("benchmark_model", "native"):
        raise InputError(
            f"{runtime} answers one request at a time: --concurrency, --batch and --rate need"
            " Python on the device.",
            "Leave them out, or use --runtime litert where Python is.",
        )
    load.check_timeout(session.job.timeout_s)
    check_batch(session.facts, load)


def check_batch(facts: ModelFacts, load: Load) -> None:
    """Raises InputError for a batch that the model's inputs cannot take."""
    for tensor in facts.inputs if load.batch is not None else ():
        if not _takes(tensor, load.batch or 1):
            shape = "x".join(str(d) for d in tensor.shape or ()) or "no"
            raise InputError(
                f"--batch {load.batch} does not fit {facts.path.name}: its input {tensor.name!r}"
                f" has the fixed shape {shape}.",
                f"Make one with that batch: edgeopt convert MODEL --batch {load.batch}, from the"
                " model before conversion.",
            )


def _takes(tensor: Tensor, batch: int) -> bool:
    """The first dimension is open, or that batch already."""
    shape, signature = tensor.shape or (), tensor.signature or tensor.shape or ()
    return bool(shape) and (signature[0] == -1 or shape[0] in (-1, batch))


def run(session: Session) -> None:
    """Add what the load that the job asks for came to; nothing where it asks for none.

    Raises InputError for what the runtime or the model cannot do, DeviceError when it fails,
    ResultError for figures that must not be believed; they are in the report by then.
    """
    from edgeopt.device import held
    from edgeopt.device.load.run import put_load
    from edgeopt.model import read

    job = session.job
    if job.load is None:
        return
    facts = read(session.artifact.path)
    check_batch(facts, job.load)
    spec = device_spec(session)
    with (
        session.timed("load", f"Connecting to {spec.name}"),
        held(spec, purpose="load", wait_s=job.wait_s, progress=session.progress) as device,
    ):
        found = put_load(device, request_of(session, facts), job.load, session.progress)
        lost = device.lease_reasons()
    for note in found.notes:
        session.note(note)
    reasons = [*found.throughput["invalid_reasons"], *lost]
    valid = {"valid": not reasons, "invalid_reasons": reasons}
    session.add(throughput={**found.throughput, **valid})
    if lost or (reasons and job.conditions == "judge"):
        raise ResultError(
            f"The throughput of {spec.name} is invalid: {'; '.join(reasons)}.",
            "Stop what else runs there and cool the board, then measure again; --conditions report"
            " only tells.",
            details={"invalid_reasons": reasons},
        )
