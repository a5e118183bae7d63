"""Runs a model through the on-device agent: push, run under a deadline, check the answer."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeopt.device.device import Device
from edgeopt.device.edgetpu.choice import RUNTIMES as EDGETPU_RUNTIMES
from edgeopt.device.edgetpu.run import EdgeTpuRun, prepared
from edgeopt.device.killed import KILLED, ran_out_of_memory
from edgeopt.device.packing import Transfer
from edgeopt.device.printable import clean_text
from edgeopt.device.python_runner.answer import (
    PHASES,
    SCHEMA,
    Answer,
    Asked,
    Listener,
    checked,
)
from edgeopt.device.python_runner.bundle import SUFFIX, agent_sha256, write_agent
from edgeopt.device.python_runner.errors import crash, explained
from edgeopt.device.run import RunRequest, RunResult
from edgeopt.device.sample_files import read_outputs, write_inputs
from edgeopt.device.told import plain
from edgeopt.device.transport import SILENCE_S, Completed, attending
from edgeopt.errors import DeviceError, EdgeoptError, InputError
from edgeopt.progress import Progress

__all__ = ["discard", "probe", "python_command", "run"]

_SEED = 20_240_229
_RUNTIMES = {
    "cpu": ("ai_edge_litert", "tflite_runtime", "tensorflow"),
    "edgetpu": EDGETPU_RUNTIMES,
}
_OPTIONS = ("runtime", "interpreter", "edgetpu_device", "edgetpu_performance", "offline")
_IN_HOME = 'exec "$HOME/$0" "$@"'
_LOCK_WAIT_S = 120.0
_PULL_S = 300.0
_LONGEST_S = 7 * 86_400


@dataclass(frozen=True, kw_only=True)
class _Placed:
    agent: str
    model: str
    transfer: Transfer | None
    inputs: dict[str, Any] | None


def run(device: Device, request: RunRequest, progress: Progress) -> RunResult:
    """Measure `request` on `device`; the answer is checked field by field.

    Raises DeviceError (no runtime, crash, deadline, implausible answer), ModelError (the runtime
    refuses the model, or it is for another accelerator), InputError (samples that do not fit).
    With `keep` False nothing of the run stays on the device, whatever happens.
    """
    _validate(request)
    chip = None
    if request.accelerator == "edgetpu":
        chip = prepared(device, python_command(device), request.options)
    with device.workspace.discarding(), tempfile.TemporaryDirectory() as folder:
        placed = _place(device, request, progress, Path(folder))
        wanted = request.inputs and request.want_outputs
        with device.workspace.run_dir() if wanted else nullcontext("") as run_dir:
            remote = f"{run_dir}/outputs" if wanted else None
            message = _message(device, request, placed, remote, chip)
            answer, log, seconds = _execute(device, request, placed.agent, message, progress, chip)
            local = Path(folder) / "outputs"
            with _times_kept(request, answer):
                result = _result(device, answer, None, placed.transfer, log, chip)
                if remote and answer.outputs:
                    device.transport.pull(remote, local, timeout_s=_PULL_S)
        outputs = read_outputs(local, answer.outputs, _name(device)) if answer.outputs else None
    return replace(result, outputs=outputs, seconds=seconds)


@contextmanager
def _times_kept(request: RunRequest, answer: Answer) -> Iterator[None]:
    """When the outputs do not arrive, what was timed is in `error.reached`."""
    try:
        yield
    except DeviceError as error:
        error.reached = RunResult(
            runtime=answer.runtime,
            runtime_version=answer.runtime_version,
            accelerator=answer.accelerator,
            model_sha256=request.sha256,
            warmup_ns=answer.warmup_ns,
            samples_ns=answer.samples_ns,
            first_ns=answer.first_ns,
            init_ns=answer.init_ns,
            peak_rss_bytes=answer.peak_rss_bytes,
            outputs=None,
            conditions=answer.conditions,
            invalid_reasons=(f"its outputs were not collected: {error.message}",),
        )
        raise


def discard(device: Device, model: Path, sha256: str) -> None:
    """Remove what earlier runs of `model` kept on the device, as a run with `keep` False does."""
    space = device.workspace
    with space.discarding():
        space.claim(sha256, _suffix(model), keep=False)
        space.claim(agent_sha256(), SUFFIX, keep=False)


def probe(device: Device) -> dict[str, Any]:
    """What the agent finds there: `runtimes` (name to version), `facts`, `readings`."""
    with tempfile.TemporaryDirectory() as folder:
        file = write_agent(Path(folder))
        agent = device.workspace.put(file, sha256=agent_sha256(), suffix=SUFFIX)
    names = list(dict.fromkeys(name for group in _RUNTIMES.values() for name in group))
    message = {"mode": "probe", "runtimes": names, "deadline_s": 60}
    listener = Listener()
    done = _start(device, agent.path, message, 60, listener)
    if "probe" not in listener.lines:
        raise _failure(device, done, listener, None)
    return {key: plain(value, 4) for key, value in listener.lines["probe"].items()}


def _validate(request: RunRequest) -> None:
    unknown = sorted(set(request.options) - set(_OPTIONS))
    if unknown:
        raise InputError(
            f"The agent has no option {unknown[0]!r}.", f"Known: {', '.join(_OPTIONS)}."
        )
    if request.accelerator not in _RUNTIMES:
        raise InputError(
            f"The Python runtimes cannot use {request.accelerator!r} as accelerator.",
            "Use the benchmark_model runtime for a GPU.",
        )
    if min(request.runs, request.warmup or 0) < 0 or not 1 <= request.threads <= 1024:
        raise InputError("runs and warmup count from 0, threads from 1.", "Correct them.")
    if not 0 < request.timeout_s <= _LONGEST_S:
        raise InputError("The timeout must be above 0 s and at most a week.", "Correct it.")
    if not request.runs and not request.inputs:
        raise InputError("There is nothing to run: no runs and no samples.", "Give --runs.")


def _place(device: Device, request: RunRequest, progress: Progress, folder: Path) -> _Placed:
    space, keep = device.workspace, request.keep
    size = request.model.stat().st_size
    progress.stage(f"Send to {_name(device)}", size, "B")
    agent = space.put(write_agent(folder), sha256=agent_sha256(), suffix=SUFFIX, keep=keep)
    model = space.put(
        request.model,
        sha256=request.sha256,
        suffix=_suffix(request.model),
        on_bytes=lambda sent: progress.advance(sent, size),
        keep=keep,
    )
    inputs = None
    if request.inputs:
        file = folder / "inputs"
        sha256, layout = write_inputs(request.inputs, file)
        kept = keep and request.keep_inputs
        path = space.put(file, sha256=sha256, suffix=".inputs", keep=kept).path
        inputs = {"path": path, "sha256": sha256, "layout": layout}
    return _Placed(agent=agent.path, model=model.path, transfer=model.transfer, inputs=inputs)


def _suffix(model: Path) -> str:
    return model.suffix if model.suffix == ".tflite" else ".model"


def _message(
    device: Device,
    request: RunRequest,
    placed: _Placed,
    outputs: str | None,
    chip: EdgeTpuRun | None,
) -> dict[str, Any]:
    wanted = request.options.get("interpreter")
    return {
        "mode": "run",
        "model": placed.model,
        "model_sha256": request.sha256,
        "accelerator": request.accelerator,
        "threads": request.threads,
        "cores": list(request.cores),
        "warmup": request.warmup,
        "runs": request.runs,
        "time_s": request.time_s,
        "max_runs": max(request.runs, request.max_runs),
        "inputs": placed.inputs,
        "outputs": outputs,
        "runtimes": list(chip.choice.runtimes if chip else _runtimes(request, wanted)),
        "edgetpu_options": chip.options if chip else {},
        "seed": _SEED,
        "deadline_s": request.timeout_s,
        # only what is timed must have the board to itself
        "lock": f"{device.workspace.root}/edgeopt.lock" if request.runs else None,
        "lock_wait_s": min(_LOCK_WAIT_S, request.timeout_s / 2),
    }


def _runtimes(request: RunRequest, wanted: str | None) -> tuple[str, ...]:
    return (wanted,) if wanted else _RUNTIMES[request.accelerator]


def _execute(
    device: Device,
    request: RunRequest,
    agent: str,
    message: dict[str, Any],
    progress: Progress,
    chip: EdgeTpuRun | None,
) -> tuple[Answer, str, float]:
    asked = Asked(
        device=_name(device),
        model_sha256=request.sha256,
        accelerator=request.accelerator,
        runs=request.runs,
        time_s=request.time_s,
        max_runs=request.max_runs,
        warmup=request.warmup,
        samples=len(request.inputs) if message["outputs"] else 0,
    )
    listener = Listener(most=asked.most)
    total = None if request.time_s else request.runs or len(request.inputs)
    progress.stage(f"Run on {_name(device)}", total, "runs")

    def on_progress(phase: str, done: int, _: int) -> None:
        if phase in ("samples", "outputs"):
            progress.advance(done, total)

    listener.on_progress = on_progress
    start = time.monotonic_ns()
    try:
        done = _start(device, agent, message, request.timeout_s, listener)
        if "result" not in listener.lines or done.exit_code != 0:
            raise _failure(device, done, listener, chip)
    except EdgeoptError as error:
        error.reached = _cut_off(device, request, listener, error)
        raise
    elapsed_ns = time.monotonic_ns() - start
    answer = checked(listener.answer(), asked, elapsed_ns=elapsed_ns)
    log = clean_text(done.stderr[-16_000:].decode(errors="replace"), 16_000)
    return answer, log, elapsed_ns / 1e9


def _cut_off(
    device: Device, request: RunRequest, listener: Listener, error: EdgeoptError
) -> RunResult | None:
    """What had arrived of a run that did not end; None where no time had."""
    first, warmup, samples = (tuple(listener.times.get(phase, ())) for phase in PHASES)
    if not samples or listener.spoiled:
        return None
    return RunResult(
        runtime=listener.runtime,
        runtime_version=None,
        accelerator=request.accelerator,
        model_sha256=request.sha256,
        warmup_ns=warmup,
        samples_ns=samples,
        first_ns=first[0] if first else None,
        init_ns=None,
        peak_rss_bytes=None,
        outputs=None,
        invalid_reasons=(f"the process did not end well: {error.message}",),
    )


def _start(
    device: Device, agent: str, message: dict[str, Any], timeout_s: float, listener: Listener
) -> Completed:
    attend = attending(device.transport)
    limit_s = SILENCE_S if attend else None
    message = {**message, "silence_s": limit_s}
    try:
        done = (attend or device.transport.run)(
            [*python_command(device), "-B", agent],  # -B: no __pycache__ stays behind
            timeout_s=timeout_s,
            stdin=json.dumps(message).encode() + b"\n",
            on_stdout=listener.feed,
        )
    except DeviceError as error:
        if "timeout_s" not in error.details:
            raise
        raise DeviceError(
            f"The run on {_name(device)} did not end within {timeout_s:g} s (it was in:"
            f" {listener.stage}) and was killed.",
            "Raise the timeout, lower --runs, or look at what else that board does.",
            details={**error.details, "stage": listener.stage},
        ) from error
    hello = listener.lines.get("hello")
    if hello is not None and hello.get("schema") != SCHEMA:
        raise DeviceError(f"{_name(device)} answered in another schema.", "Try again.")
    return done


def _failure(
    device: Device, done: Completed, listener: Listener, chip: EdgeTpuRun | None
) -> EdgeoptError:
    if "error" in listener.lines:
        return explained(listener.lines["error"], device, _python(device), chip)
    return crash(
        done.exit_code,
        done.stderr,
        name=_name(device),
        python=_python(device),
        stage=f"{listener.stage} ({listener.runtime})" if listener.runtime else listener.stage,
        pair=chip.pair if chip else "",
        noise=listener.noise,
        killed=ran_out_of_memory(device.transport) if done.exit_code == KILLED else "",
    )


def _result(
    device: Device,
    answer: Answer,
    outputs: Any,
    transfer: Transfer | None,
    log: str,
    chip: EdgeTpuRun | None,
) -> RunResult:
    own = {"edgetpu": chip.to_json()} if chip else {}
    return RunResult(
        runtime=answer.runtime,
        runtime_version=answer.runtime_version,
        accelerator=answer.accelerator,
        model_sha256=answer.model_sha256,
        warmup_ns=answer.warmup_ns,
        samples_ns=answer.samples_ns,
        first_ns=answer.first_ns,
        init_ns=answer.init_ns,
        peak_rss_bytes=answer.peak_rss_bytes,
        base_rss_bytes=answer.base_rss_bytes,
        outputs=outputs,
        facts={**answer.facts, **device.facts(), **own},
        conditions=answer.conditions,
        invalid_reasons=chip.invalid_reasons if chip else (),
        notes=chip.choice.notes if chip else (),
        sent_bytes=transfer.bytes if transfer else 0,
        transfer=transfer,
        log=log,
    )


def _python(device: Device) -> str:
    return device.spec.python or (sys.executable if device.spec.kind == "local" else "python3")


def python_command(device: Device) -> list[str]:
    """The words that start the device's Python."""
    return _command(_python(device))


def _command(python: str) -> list[str]:
    """The words that start `python`; a leading ~ is the device's home, which only it knows."""
    return ["sh", "-c", _IN_HOME, python[2:]] if python.startswith("~/") else [python]


def _name(device: Device) -> str:
    return device.transport.name
