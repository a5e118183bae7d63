"""Runs a model through the native runner: a small C program that calls LiteRT's C library.

It answers in the agent's own lines, which are checked by the same code. Only the CPU; nothing else
is ever run in its place.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.device.device import Device
from edgeopt.device.killed import KILLED, ran_out_of_memory
from edgeopt.device.native.build import Runner, build
from edgeopt.device.native.library import Library, find_library
from edgeopt.device.packing import Transfer
from edgeopt.device.preparing.cores import pinned
from edgeopt.device.printable import clean_text, tail
from edgeopt.device.python_runner.answer import SCHEMA, Answer, Asked, Listener, checked
from edgeopt.device.python_runner.errors import crash, explained
from edgeopt.device.run import RunRequest, RunResult
from edgeopt.device.sample_files import read_outputs, write_inputs
from edgeopt.device.transport import SILENCE_S, Completed, attending
from edgeopt.errors import DeviceError, EdgeoptError, InputError, ModelError
from edgeopt.progress import Progress

if TYPE_CHECKING:
    from edgeopt.device.run import Array

    Outputs = tuple[tuple[Array, ...], ...]

__all__ = ["run"]

_SEED = 20_240_229
_OPTIONS = ("runtime", "native_library", "kernels", "offline")
_KERNELS = ("xnnpack", "builtin", "reference")
_LOCK_WAIT_S = 120.0
_PULL_S = 300.0
_LONGEST_S = 7 * 86_400
_STATE = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")


@dataclass(frozen=True, kw_only=True)
class _Placed:
    runner: str
    model: str
    transfer: Transfer | None
    inputs: str
    inputs_sha256: str
    layout: list[Any]


def run(device: Device, request: RunRequest, progress: Progress) -> RunResult:
    """Measure `request` on `device`; the answer is checked field by field.

    Options: "native_library" (a wheel of ai-edge-litert for a device without Python) and "kernels"
    (xnnpack, the default, or LiteRT's own: builtin).

    Raises InputError (not for the CPU, samples that do not fit), ToolError (no compiler),
    DeviceError (no library of a proven version, crash, deadline, implausible answer), ModelError.
    """
    _validate(request)
    program = build(device, progress)
    with device.workspace.discarding(), tempfile.TemporaryDirectory() as folder:
        library = find_library(device, request.options, progress, keep=request.keep)
        placed = _place(device, request, program, progress, Path(folder))
        own = {
            "library": library.came_from,
            "built_by": program.built_by,
            "runner_sha256": program.sha256,
            "kernels": _kernels(request),
        }
        wanted = request.inputs and request.want_outputs
        with device.workspace.run_dir() if wanted else nullcontext("") as run_dir:
            remote = f"{run_dir}/outputs" if wanted else None
            message = _message(device, request, placed, library, remote)
            began = time.monotonic()
            answer, log = _execute(device, request, placed.runner, message, remote, progress)
            result = _result(device, answer, placed.transfer, log, own)
            result = replace(result, seconds=time.monotonic() - began)
            if remote and answer.outputs:
                outputs = _collected(device, remote, Path(folder) / "outputs", answer, result)
                result = replace(result, outputs=outputs)
    return result


def _collected(
    device: Device, remote: str, local: Path, answer: Answer, result: RunResult
) -> Outputs:
    """The outputs, fetched and checked. What was timed is in the error when they do not arrive."""
    assert answer.outputs is not None
    try:
        device.transport.pull(remote, local, timeout_s=_PULL_S)
        return read_outputs(local, answer.outputs, device.transport.name)
    except DeviceError as error:
        reason = f"its outputs were not collected: {error.message}"
        error.reached = replace(result, invalid_reasons=(reason,))
        raise


def _validate(request: RunRequest) -> None:
    unknown = sorted(set(request.options) - set(_OPTIONS))
    if unknown:
        raise InputError(
            f"The native runner has no option {unknown[0]!r}.", f"Known: {', '.join(_OPTIONS)}."
        )
    if request.accelerator != "cpu":
        raise InputError(
            f"The native runner runs on the CPU, not on {request.accelerator!r}.",
            "Leave out --runtime: the target's own runtime reaches it.",
        )
    if _kernels(request) not in _KERNELS:
        raise InputError(
            f"There are no kernels named {_kernels(request)!r}.", f"Known: {', '.join(_KERNELS)}."
        )
    if min(request.runs, request.warmup or 0) < 0 or not 1 <= request.threads <= 1024:
        raise InputError("runs and warmup count from 0, threads from 1.", "Correct them.")
    if not 0 < request.timeout_s <= _LONGEST_S:
        raise InputError("The timeout must be above 0 s and at most a week.", "Correct it.")
    if not request.runs and not request.inputs:
        raise InputError("There is nothing to run: no runs and no samples.", "Give --runs.")


def _kernels(request: RunRequest) -> str:
    return str(request.options.get("kernels", _KERNELS[0]))


def _place(
    device: Device, request: RunRequest, program: Runner, progress: Progress, folder: Path
) -> _Placed:
    space, keep = device.workspace, request.keep
    size = request.model.stat().st_size
    progress.stage(f"Send to {device.transport.name}", size, "B")
    runner = space.put(program.path, sha256=program.sha256, suffix=".runner", mode=0o700, keep=keep)
    model = space.put(
        request.model,
        sha256=request.sha256,
        suffix=request.model.suffix if request.model.suffix == ".tflite" else ".model",
        on_bytes=lambda sent: progress.advance(sent, size),
        keep=keep,
    )
    path, sha256 = "", ""
    layout: list[Any] = []
    if request.inputs:
        file = folder / "inputs"
        sha256, layout = write_inputs(request.inputs, file)
        kept = keep and request.keep_inputs
        path = space.put(file, sha256=sha256, suffix=".inputs", keep=kept).path
    return _Placed(
        runner=runner.path,
        model=model.path,
        transfer=model.transfer,
        inputs=path,
        inputs_sha256=sha256,
        layout=layout,
    )


def _message(
    device: Device, request: RunRequest, placed: _Placed, library: Library, outputs: str | None
) -> str:
    """The request as lines of "key value"; the runner refuses what it does not know."""
    attend = attending(device.transport)
    rows: list[tuple[str, object]] = [
        ("mode", "run"),
        ("deadline_s", int(request.timeout_s) or 1),
        ("silence_ms", int(SILENCE_S * 1000) if attend else 0),
        ("library", library.path),
        ("version", library.version),
        ("model", placed.model),
        ("model_sha256", request.sha256),
        ("kernels", _kernels(request)),
        ("threads", request.threads),
        ("runs", request.runs),
        ("time_ns", int(request.time_s * 1e9)),
        ("max_runs", max(request.runs, request.max_runs)),
        ("warmup", -1 if request.warmup is None else request.warmup),
        ("seed", _SEED),
        ("stateful", int(_stateful(request.model))),
    ]
    if request.runs:  # only what is timed must have the board to itself
        rows += [
            ("lock", f"{device.workspace.root}/edgeopt.lock"),
            ("lock_wait_s", int(min(_LOCK_WAIT_S, request.timeout_s / 2))),
        ]
    if placed.inputs:
        rows += [("inputs", placed.inputs), ("inputs_sha256", placed.inputs_sha256)]
    if outputs:
        rows.append(("outputs", outputs))
    for sample in placed.layout:
        rows.append(("sample", "-"))
        for item in sample:
            rows.append(("input", f"{item['dtype']} {','.join(map(str, item['shape']))}"))
    for key, value in rows:
        if "\n" in str(value) or "\0" in str(value):
            raise InputError(f"The {key} for the native runner has a line end in it.", "Rename it.")
    return "".join(f"{key} {value}\n" for key, value in rows) + "end\n"


def _stateful(model: Path) -> bool:
    """Whether it remembers earlier runs: the C API cannot make it forget, so it is loaded anew."""
    from edgeopt.model import read

    facts = read(model)
    return any(t.variable for g in facts.subgraphs for t in g.tensors) or any(
        op.op in _STATE for g in facts.subgraphs for op in g.operators
    )


def _execute(
    device: Device,
    request: RunRequest,
    runner: str,
    message: str,
    outputs: str | None,
    progress: Progress,
) -> tuple[Answer, str]:
    asked = Asked(
        device=device.transport.name,
        model_sha256=request.sha256,
        accelerator="cpu",
        runs=request.runs,
        time_s=request.time_s,
        max_runs=request.max_runs,
        warmup=request.warmup,
        samples=len(request.inputs) if outputs else 0,
    )
    listener = Listener(most=asked.most)
    total = None if request.time_s else request.runs or len(request.inputs)
    progress.stage(f"Run on {device.transport.name}", total, "runs")

    def on_progress(phase: str, done: int, _: int) -> None:
        if phase in ("samples", "outputs"):
            progress.advance(done, total)

    listener.on_progress = on_progress
    start = time.monotonic_ns()
    try:
        done = _start(device, request, runner, message, listener)
        if "result" not in listener.lines or done.exit_code != 0:
            raise _failure(device, runner, done, listener)
    except EdgeoptError as error:
        error.reached = _cut_off(request, listener, error)
        raise
    answer = checked(listener.answer(), asked, elapsed_ns=time.monotonic_ns() - start)
    return answer, clean_text(done.stderr[-16_000:].decode(errors="replace"), 16_000)


def _cut_off(request: RunRequest, listener: Listener, error: EdgeoptError) -> RunResult | None:
    """What had arrived of a run that did not end; None where no time had."""
    times = {phase: tuple(found) for phase, found in listener.times.items()}
    if not times.get("samples") or listener.spoiled:
        return None
    return RunResult(
        runtime="native",
        runtime_version=None,
        accelerator="cpu",
        model_sha256=request.sha256,
        warmup_ns=times.get("warmup", ()),
        samples_ns=times["samples"],
        first_ns=times["first"][0] if times.get("first") else None,
        init_ns=None,
        peak_rss_bytes=None,
        outputs=None,
        invalid_reasons=(f"the process did not end well: {error.message}",),
    )


def _start(
    device: Device, request: RunRequest, runner: str, message: str, listener: Listener
) -> Completed:
    name = device.transport.name
    try:
        done = (attending(device.transport) or device.transport.run)(
            pinned([runner], request.cores),
            timeout_s=request.timeout_s,
            stdin=message.encode(),
            on_stdout=listener.feed,
        )
    except DeviceError as error:
        if "timeout_s" not in error.details:
            raise
        raise DeviceError(
            f"The run on {name} did not end within {request.timeout_s:g} s (it was in:"
            f" {listener.stage}) and was killed.",
            "Raise the timeout, lower --runs, or look at what else that board does.",
            details={**error.details, "stage": listener.stage},
        ) from error
    hello = listener.lines.get("hello")
    if hello is not None and hello.get("schema") != SCHEMA:
        raise DeviceError(f"{name} answered in another schema.", "Try again.")
    return done


def _failure(device: Device, runner: str, done: Completed, listener: Listener) -> EdgeoptError:
    name, said = device.transport.name, tail(done.stderr)
    error = listener.lines.get("error")
    if error is not None and error.get("code") == "library":
        text = clean_text(str(error.get("text")), 500)
        return DeviceError(
            f"{name} cannot load LiteRT's C library: {text}.",
            "Reinstall ai-edge-litert there, with the C++ library (Debian: libstdc++6).",
        )
    if error is not None and error.get("code") == "load" and "MemoryError" not in str(error):
        text = clean_text(str(error.get("text")), 500).rstrip(".")
        return ModelError(
            f"LiteRT's C library on {name} does not take the model ({text}){_last_words(said)}.",
            "What its Python interpreter takes may be more: leave out --runtime native.",
        )
    if error is not None:
        return explained(error, device, "the native runner")
    if "GLIBC_" in said:
        return DeviceError(
            f"The native runner was built here for a newer C library than {name} has: {said}.",
            "Install a C compiler there (Debian: gcc libc6-dev): it is then built there.",
        )
    if done.exit_code in (126, 127):
        return DeviceError(
            f"{name} cannot run programs from its work folder: {said or runner}.",
            "Its file system may be mounted noexec: give another with workdir in devices.toml.",
        )
    return crash(
        done.exit_code,
        done.stderr,
        name=name,
        python="the native runner",
        stage=f"{listener.stage} (native)",
        noise=listener.noise,
        killed=ran_out_of_memory(device.transport) if done.exit_code == KILLED else "",
    )


def _last_words(said: str) -> str:
    return f": {said}" if said else ""


def _result(
    device: Device,
    answer: Answer,
    transfer: Transfer | None,
    log: str,
    own: dict[str, str],
) -> RunResult:
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
        outputs=None,
        facts={**answer.facts, **device.facts(), "native": own},
        conditions=answer.conditions,
        sent_bytes=transfer.bytes if transfer else 0,
        transfer=transfer,
        log=log,
    )
