"""Push, run, compare with the host, measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeopt.dataset import load_dataset
from edgeopt.errors import DeviceError, EdgeoptError, ModelError, ResultError
from edgeopt.facts import ModelFacts
from edgeopt.feed import feed, real_inputs, seeded_inputs
from edgeopt.pipeline.destination import device_spec, runtime_name
from edgeopt.pipeline.measuring import Measuring
from edgeopt.pipeline.preparing import prepared, repeated
from edgeopt.pipeline.session import Session
from edgeopt.pipeline.turning import turned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeopt.artifact import Artifact
    from edgeopt.device import Device
    from edgeopt.device.run import RunRequest, RunResult
    from edgeopt.effort import Effort
    from edgeopt.measurement.turns import Turns

__all__ = ["request_of", "run", "run_together", "tolerance"]

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
    errors = run_together([session], session.job.effort, names=[session.artifact.path.stem])
    if errors[0] is not None:
        raise errors[0]


def run_together(
    sessions: Sequence[Session],
    effort: Effort,
    *,
    names: Sequence[str],
    order: list[str] | None = None,
    turns: list[Turns] | None = None,
) -> list[EdgeoptError | None]:
    """Measure what these sessions come to on the device of the first, in random alternation.

    Returns for each what went wrong, None where nothing did. `order` gets their names as their
    processes are started, `turns` the processes in which they then took turns. Raises what stands
    in the way of all of them. Each report has what was reached, also when this ends by an error or
    Ctrl-C.
    """
    from edgeopt.device.series import run_series

    first = sessions[0]
    parts = [Measuring(s, _facts(s), name) for s, name in zip(sessions, names, strict=True)]
    for part in parts:
        part.request = request_of(part.session, part.facts)
    with ExitStack() as stack, _hinting(first):
        device = _connected(first, list(names), stack)
        try:
            stack.enter_context(_timed(sessions))
            with prepared(parts, device), device.workspace.discarding():  # sent once for both
                found = repeated(
                    parts,
                    device,
                    effort,
                    lambda: run_series(
                        device,
                        [part.variant for part in parts],
                        effort,
                        first.progress,
                        lambda ran: parts[names.index(ran.variant)].take(ran),
                        judged=first.job.conditions == "judge",
                        order=order,
                    ),
                )
                if turns is not None:
                    for part in parts:  # a lease that is lost from here on was theirs to the end
                        part.record(device, effort)
                    turned(parts, device, effort, turns.append, failed=found)
        finally:
            for part in parts:
                part.record(device, effort)
        for error in found.values():
            _hint(first, error)
    return [found.get(part.name) or _proven(part) for part in parts]


def _proven(part: Measuring) -> EdgeoptError | None:
    """What speaks against the answers, or against the times."""
    try:
        _parity(part)
        _believe(part.session)
    except EdgeoptError as error:
        return error
    return None


def _facts(session: Session) -> ModelFacts:
    from edgeopt.model import read

    known = session.references
    return known.facts(session.artifact) if known else read(session.artifact.path)


def _connected(session: Session, names: list[str], stack: ExitStack) -> Device:
    from edgeopt.device import held

    spec = device_spec(session)
    with session.timed("connect", f"Connecting to {spec.name}"):
        return stack.enter_context(
            held(
                spec,
                purpose=f"measuring {', '.join(names)}"[:200],
                wait_s=session.job.wait_s,
                progress=session.progress,
            )
        )


@contextmanager
def _timed(sessions: Sequence[Session]) -> Iterator[None]:
    with ExitStack() as stack:
        for session in sessions:
            stack.enter_context(session.timed("run"))
        yield


@contextmanager
def _hinting(session: Session) -> Iterator[None]:
    try:
        yield
    except DeviceError as error:
        _hint(session, error)
        raise


def _hint(session: Session, error: EdgeoptError | None) -> None:
    if isinstance(error, DeviceError) and session.job.device is None:
        stop = ", or stop before the run with --no-run" if session.report.plan else ""
        told = f"No --device was given, so this machine was tried: name one{stop}."
        error.hint = f"{error.hint} {told}".strip()


def request_of(session: Session, facts: ModelFacts) -> RunRequest:
    """What is asked of the device for the session's final file, whose facts these are."""
    from edgeopt.device.run import RunRequest

    job = session.job
    options: dict[str, str] = {"runtime": runtime_name(session)}
    if job.native_library is not None:
        options["native_library"] = str(job.native_library)
    if job.offline:
        options["offline"] = "true"
    return RunRequest(
        model=session.artifact.path,
        sha256=session.artifact.sha256,
        accelerator=session.target.accelerator,
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
        "Cool and power the board and stop what else runs there; --prepare fixes its clock,"
        " --retries N measures again when it has cooled, --conditions report only says it.",
        details={"invalid_reasons": reasons},
    )


def _kernels(result: RunResult) -> dict[str, Any]:
    return {
        # The native runner calls the C library of the same wheel, with the same kernels.
        "runtime": "ai_edge_litert" if result.runtime == "native" else result.runtime,
        "version": result.runtime_version,
        "arch": result.facts.get("arch"),
        "accelerator": result.accelerator,
        "cpu": result.facts.get("cpu"),
    }


def _parity(part: Measuring) -> None:
    session, facts, request, result = part.session, part.facts, part.request, part.result
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
        wanted = replace(request, model=model.path, sha256=model.sha256)
        known = session.references
        reference = known.outputs(wanted) if known else host_outputs(wanted)
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
