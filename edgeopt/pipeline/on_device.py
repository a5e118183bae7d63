"""Evaluation on the device itself: inputs go there in bounded pieces, raw outputs come back.

What they are worth is judged on the host, by the same decoders and metrics as the host's own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt import registry
from edgeopt.artifact import Artifact
from edgeopt.dataset import load_dataset
from edgeopt.errors import DeviceError, InputError
from edgeopt.facts import ModelFacts, Tensor
from edgeopt.feed import feed
from edgeopt.pipeline.destination import device_spec, runtime_name, settle_device
from edgeopt.pipeline.session import Session

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeopt.device import Device, DeviceSpec
    from edgeopt.device.run import RunRequest, RunResult

__all__ = ["Answers", "record"]

_FIRST = 8  # samples, to see how long one takes
_MOST = 1024
_LARGEST_BYTES = 8 << 20  # of inputs and outputs of one piece
_PIECE_S = 20.0  # what is lost at most when the link is cut, and far below --timeout


@dataclass(frozen=True, kw_only=True)
class Answers:
    """`folder` holds the outputs (accuracy_runner.Recorder), of data with this `digest`."""

    folder: Path
    digest: str
    device: dict[str, Any]


def record(
    session: Session,
    model: Artifact,
    known: ModelFacts,
    names: list[str],
    folder: Path,
    limit: int | None,
) -> Answers:
    """The outputs of `model` on the session's device, of all samples or the first `limit`.

    `known` is the model whose order of inputs the data follows. Raises DeviceError when the device
    fails: then nothing is judged. With --no-keep the model is removed, whatever happened.
    """
    from edgeopt.device import held
    from edgeopt.model import read
    from edgeopt.verify.accuracy_runner import Recorder, input_order

    facts, job = read(model.path), session.job
    _refuse(session, facts)
    assert job.eval_data is not None
    data = load_dataset(job.eval_data, preprocess=job.preprocess, labels=job.labels)
    data = data.in_order_of(names).match(known.inputs)
    data.stop_at(limit)
    take, total = input_order(facts, known), data.count(limit)
    fed = (feed(tuple(s[i] for i in take), facts.inputs) for s in data.samples(limit))
    spec, recorder, last = device_spec(session), Recorder(folder), None
    with ExitStack() as stack:
        purpose = f"accuracy of {model.path.name}"
        with session.timed("connect", f"Connecting to {spec.name}"):
            device = stack.enter_context(
                held(spec, purpose=purpose, wait_s=job.wait_s, progress=session.progress)
            )
        session.progress.stage(f"Measuring accuracy on {spec.name}", total, "samples")
        stack.enter_context(_leaving(device, model, keep=job.keep))
        for piece in _pieces(fed, facts):
            last = _run(session, device, model, piece)
            for row in last.outputs or ():
                recorder.add(row)
            session.progress.advance(recorder.count, total)
    recorder.close()
    if last is None or recorder.count != total:
        raise DeviceError(
            f"{spec.name} answered {recorder.count} of {total} samples.", "Try again."
        )
    for note in last.notes:
        session.note(note)
    return Answers(folder=folder, digest=data.digest(), device=_about(spec, last))


def _about(spec: DeviceSpec, last: RunResult) -> dict[str, Any]:
    return {
        "name": spec.name,
        "kind": spec.kind,
        "facts": dict(last.facts),
        "model_sha256": last.model_sha256,
        "runtime": last.runtime,
        "runtime_version": last.runtime_version,
        "accelerator": last.accelerator,
    }


def _refuse(session: Session, facts: ModelFacts) -> None:
    """Raises InputError for what gives no outputs, or is not what the device runs."""
    settle_device(session)
    target, spec = session.target, device_spec(session)
    runtime = runtime_name(session)
    android = spec.kind == "adb" and runtime in registry.BUILTINS["runtimes"]
    if android or runtime == "benchmark_model":
        raise InputError(
            f"{spec.name} runs models with benchmark_model, which gives no outputs: nothing can be "
            "evaluated there.",
            "Leave --on-device out: the accuracy is then that of this machine.",
        )
    if target.compiler != "passthrough" and not target.profile.compiled(facts):
        raise InputError(
            f"{facts.path.name} is not compiled, which {target.name} needs to run it.",
            "Deploy it with one --scheme, which compiles it, or leave --on-device out.",
        )


@contextmanager
def _leaving(device: Device, model: Artifact, *, keep: bool) -> Iterator[None]:
    """Between pieces the model stays there; in the end only if it may."""
    from edgeopt.device.python_runner.runner import discard

    try:
        yield
    except BaseException:
        if not keep:
            with suppress(DeviceError):  # what went wrong first is what counts
                discard(device, model.path, model.sha256)
        raise
    if not keep:
        discard(device, model.path, model.sha256)


def _run(session: Session, device: Device, model: Artifact, piece: tuple[Any, ...]) -> RunResult:
    from edgeopt.device import run
    from edgeopt.progress import Silent

    result = run(device, _request(session, model, piece), Silent())
    if result.outputs is None or len(result.outputs) != len(piece):
        raise DeviceError(
            f"{device.spec.name} ran the model with {result.runtime} and gave no outputs.",
            "Leave --on-device out: the accuracy is then that of this machine.",
        )
    return result


def _request(session: Session, model: Artifact, piece: tuple[Any, ...]) -> RunRequest:
    from edgeopt.device.run import RunRequest

    job = session.job
    return RunRequest(
        model=model.path,
        sha256=model.sha256,
        accelerator=session.target.accelerator,
        runs=0,
        warmup=0,
        threads=job.threads,
        inputs=piece,
        keep=True,
        keep_inputs=False,
        timeout_s=job.timeout_s,
        options={"runtime": runtime_name(session), **({"offline": "true"} if job.offline else {})},
    )


def _pieces(
    fed: Iterator[tuple[NDArray[np.generic], ...]], facts: ModelFacts
) -> Iterator[tuple[Any, ...]]:
    """Samples in pieces of bounded size and, by how long the last one took, of bounded time."""
    size = _FIRST
    most = max(1, min(_MOST, _LARGEST_BYTES // max(1, _bytes(facts))))
    while piece := tuple(islice(fed, min(size, most))):
        began = time.monotonic()
        yield piece
        spent = max(time.monotonic() - began, 1e-3)
        size = max(1, min(4 * size, int(len(piece) * _PIECE_S / spent)))


def _bytes(facts: ModelFacts) -> int:
    def size(tensor: Tensor) -> int:
        return 8 * math.prod(max(1, d) for d in tensor.shape or ())

    return sum(size(t) for t in (*facts.inputs, *facts.outputs))
