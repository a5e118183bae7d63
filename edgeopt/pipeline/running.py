"""Push, run, compare with the host, measure."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeopt.dataset import load_dataset
from edgeopt.errors import DeviceError, ModelError, ResultError
from edgeopt.facts import ModelFacts
from edgeopt.feed import feed, real_inputs, seeded_inputs
from edgeopt.measurement import measure
from edgeopt.pipeline.destination import device_spec
from edgeopt.pipeline.session import Session

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeopt.artifact import Artifact
    from edgeopt.device import Device
    from edgeopt.device.run import RunRequest, RunResult

__all__ = ["run", "tolerance"]

# How far two runtimes may differ when they do not share kernels: requantization may round the other
# way in each layer, and float16 or dynamic-range arithmetic keeps about three digits. In steps of
# an integer output; as a fraction of the largest absolute reference value for a float one.
_STEPS_OTHER_KERNELS = 4.0
_FRACTION_OTHER_KERNELS = 0.01
_FRACTION_SAME_KERNELS = 1e-5


def run(session: Session) -> None:
    """Raises DeviceError when the device fails, ModelError when its answers differ.

    ResultError when the answers are right but the times must not be believed.
    """
    from edgeopt.device import held
    from edgeopt.model import read

    facts = read(session.artifact.path)
    request = _request(session, facts)
    spec = device_spec(session)
    try:
        with ExitStack() as stack:
            with session.timed("connect", f"Connecting to {spec.name}"):
                device = stack.enter_context(
                    held(
                        spec,
                        purpose=f"measuring {session.artifact.path.name}",
                        wait_s=session.job.wait_s,
                        progress=session.progress,
                    )
                )
            with session.timed("run"):
                result = _run_there(session, device, request)
            _record(session, device, result)
    except DeviceError as error:
        if session.job.device is None:
            error.hint += " No --device was given, so this machine was tried: name one, or stop"
            error.hint = f"{error.hint.strip()} before the run with --no-run."
        raise
    _parity(session, facts, request, result)
    _believe(session)


def _request(session: Session, facts: ModelFacts) -> RunRequest:
    from edgeopt.device.run import RunRequest

    job = session.job
    options: dict[str, str] = {"runtime": session.target.runtime}
    if job.offline:
        options["offline"] = "true"
    return RunRequest(
        model=session.artifact.path,
        sha256=session.artifact.sha256,
        accelerator=session.target.accelerator,
        runs=job.effort.runs or 50,
        warmup=5 if job.effort.warmup is None else job.effort.warmup,
        threads=job.threads,
        inputs=_inputs(session, facts),
        keep=job.keep,
        timeout_s=job.timeout_s,
        options=options,
    )


def _inputs(session: Session, facts: ModelFacts) -> tuple[tuple[NDArray[np.generic], ...], ...]:
    """The parity samples: the user's own data when there is any, else seeded random ones."""
    spec = session.job.calibration or session.job.eval_data
    if spec is None:
        return seeded_inputs(facts.inputs, session.job.parity_samples)
    data = load_dataset(spec, preprocess=session.job.preprocess)
    if session.report.plan is not None and session.plan.scheme is not None:
        # Real values for the model as it was given; the file to run may order its inputs otherwise.
        data = data.in_order_of(t.name for t in session.facts.inputs)
        data = data.match(real_inputs(facts.inputs))
    else:
        data = data.match(facts.inputs)
    return tuple(feed(sample, facts.inputs) for sample in data.samples(session.job.parity_samples))


def _run_there(session: Session, device: Device, request: RunRequest) -> RunResult:
    from edgeopt.device import run as run_on

    return run_on(device, request, session.progress)


def _record(session: Session, device: Device, result: RunResult) -> None:
    if result.transfer and result.transfer.note:
        session.note(result.transfer.note)
    for note in result.notes:
        session.note(note)
    session.add(
        device={
            "name": device.spec.name,
            "kind": device.spec.kind,
            "facts": dict(result.facts),
            "model_sha256": result.model_sha256,
            "runtime": result.runtime,
            "runtime_version": result.runtime_version,
            "accelerator": result.accelerator,
            "threads": session.job.threads,
            "sent_bytes": result.sent_bytes,
            "lease": device.lease,
            "transfer": result.transfer.to_json() if result.transfer else None,
        },
        measurement=measure(
            warmup_ns=result.warmup_ns,
            samples_ns=result.samples_ns,
            first_ns=result.first_ns,
            init_ns=result.init_ns,
            peak_rss_bytes=result.peak_rss_bytes,
            summary_ns=result.summary_ns,
            conditions=result.conditions,
            invalid_reasons=(*result.invalid_reasons, *device.lease_reasons()),
        ),
    )


def tolerance(
    reference: Mapping[str, Any], candidate: Mapping[str, Any], *, integer: bool, largest: float
) -> tuple[float, str]:
    """How far outputs may differ, in output units, and why: 0 for integers on the same kernels.

    `reference` and `candidate` are runtime, version, arch, accelerator and cpu of the two runs.
    Integer kernels of one release agree on every processor of an architecture; float ones sum in
    the order of its vector units. `largest` is the largest absolute reference value.
    """
    differs = {key for key in reference if reference[key] != candidate[key]}
    if integer and differs <= {"cpu"}:
        return 0.0, "same runtime, version and architecture: integers must be equal"
    if not integer and not differs:
        return _FRACTION_SAME_KERNELS * largest, "same kernels: floats within 1e-5 of the largest"
    if integer:
        return _STEPS_OTHER_KERNELS, "other kernels: within 4 quantization steps"
    return _FRACTION_OTHER_KERNELS * largest, "other kernels: within 1% of the largest output"


def _believe(session: Session) -> None:
    """Raises ResultError for a measurement that is not valid; the report is whole by then."""
    measured = session.report.measurement
    if measured is None or measured.valid:
        return
    assert session.report.device is not None
    reasons = list(measured.invalid_reasons)
    raise ResultError(
        f"The measurement on {session.report.device['name']} is invalid: {'; '.join(reasons)}.",
        "Cool and power the board, fix its clock (governor `performance`), stop what else runs"
        " there, then measure again.",
        details={"invalid_reasons": reasons},
    )


def _kernels(result: RunResult) -> dict[str, Any]:
    return {
        "runtime": result.runtime,
        "version": result.runtime_version,
        "arch": result.facts.get("arch"),
        "accelerator": result.accelerator,
        "cpu": result.facts.get("cpu"),
    }


def _parity(session: Session, facts: ModelFacts, request: RunRequest, result: RunResult) -> None:
    if result.outputs is None:
        session.add(parity_note=f"not checked: {result.runtime} gives no outputs")
        return
    if session.job.calibration is None and session.job.eval_data is None:
        session.note("Parity and timing use seeded random inputs: no data was given.")
    import numpy as np

    model = _host_model(session, facts)
    if model is None:
        session.add(parity_note="not checked: the model came compiled, and no CPU can run it")
        return
    from edgeopt.device import host_outputs
    from edgeopt.verify.parity import compare

    with session.timed("parity", "Comparing with the host"):
        reference = host_outputs(replace(request, model=model.path, sha256=model.sha256))
        assert reference.outputs is not None
        integer = all(t.dtype not in ("float32", "float16", "float64") for t in facts.outputs)
        largest = max(
            (float(np.abs(a.astype(float)).max()) for s in reference.outputs for a in s),
            default=0.0,
        )
        allowed, why = tolerance(
            _kernels(reference), _kernels(result), integer=integer, largest=largest
        )
        if session.job.tolerance is not None:
            allowed, why = session.job.tolerance, "--tolerance"
        found = compare(reference.outputs, result.outputs, exact=allowed == 0, tolerance=allowed)
        session.add(parity=found.to_json() | {"tolerance_reason": why})
    if not found.passed:
        raise ModelError(
            f"The device computes other answers than the host: {found.reason} ({why}).",
            "Check the device's runtime version, or accept the difference with --tolerance.",
        )


def _host_model(session: Session, facts: ModelFacts) -> Artifact | None:
    """What the host can run: the file itself, or for a compiled one the file it was made from.

    None where that one is not known: the file of these `facts` came compiled.
    """
    chain = session.report.artifacts
    if chain[-1].stage == "compiled":
        return chain[-2]
    return None if session.target.profile.compiled(facts) else chain[-1]
