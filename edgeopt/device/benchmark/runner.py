"""The runtime for devices without Python: TensorFlow Lite's own benchmark_model program.

It prints means over all runs and no outputs: single samples and parity are then not measured, and
are None. A GPU run counts only when the log proves it (gpu_proof).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.artifact import hash_path
from edgeopt.device.benchmark.fetch import PINNED_VERSION, fetch_benchmark_binary, platform_of
from edgeopt.device.benchmark.gpu_proof import GpuProof, prove_gpu
from edgeopt.device.benchmark.output import BenchmarkOutput, parse_output
from edgeopt.device.killed import KILLED, ran_out_of_memory
from edgeopt.device.leftovers import session_word
from edgeopt.device.packing import Transfer
from edgeopt.device.preparing.cores import pinned
from edgeopt.device.printable import clean_text
from edgeopt.device.run import RunRequest, RunResult
from edgeopt.device.shell_conditions import BETWEEN, parse_between, read_conditions
from edgeopt.device.transport import SILENCE_S, attending
from edgeopt.errors import DeviceError, InputError

if TYPE_CHECKING:
    from edgeopt.device.device import Device
    from edgeopt.device.transport import Completed
    from edgeopt.progress import Progress

__all__ = ["flags", "run"]

_PRECISIONS = {"float16": "true", "float32": "false"}
_BACKENDS = ("cl", "gl")
_LOG_CHARS = 200_000
_PROFILE_CHARS = 20_000_000  # three lines an operator, each with the names of its tensors
# Flags a program may not know without the result changing its meaning.
_HARMLESS = {"report_peak_memory_footprint", "max_secs", "min_secs", "warmup_min_secs"}
_WARMUP_S = 0.5  # its own default, where no number was asked for: it has no rule for settled
_LOCK_WAIT_S = 120.0
_LOOKS_BYTES, _LOOKS_S = 2_000_000, 30.0
_BUSY = 75  # EX_TEMPFAIL of sysexits.h
# One measurement at a time, by the lock file that the agent takes too: $1 it, $2 seconds to wait.
# The program is a child and not exec'ed: Linux counts what a process was before its exec as its
# peak memory, and on this machine that would be edgeopt itself. It is ended when stdin closes, or
# brings nothing for $3 seconds where the shell's read knows -t (Android's, busybox, bash; not
# dash): then nobody waits for it any more. $3 '': stdin tells nothing. Android's shell hands fd 9
# to a program only when it is named there. $4 a script that looks at the program, $5 what it says.
_ALONE = r"""if command -v flock >/dev/null 2>&1 && exec 9>>"$1"; then n=0
until flock -n 9 9>&9; do
  n=$((n + 1)); [ $n -le $2 ] || { echo 'edgeopt: busy' >&2; exit 75; }; sleep 1
done; fi
quiet=$3; look=$4; into=$5; shift 5; [ -n "$quiet" ] || { "$@"; exit $?; }
exec 3<&0; "$@" </dev/null 3<&- & p=$!
umask 077; sh -c "$look" edgeopt $p </dev/null >"$into" 2>/dev/null 3<&- 9>&- & s=$!
(read -t 1 -r x) </dev/null >/dev/null 2>&1; [ $? -eq 1 ] && quiet="-t $quiet" || quiet=
(while read $quiet -r x; do :; done; kill -USR1 $p) <&3 3<&- 9>&- >/dev/null 2>&1 & w=$!
trap 'kill -KILL $p $w $s; exit 129' HUP TERM
wait $p; e=$?; kill -KILL $w $s 2>/dev/null; exit $e"""
_DEATHS = {
    138: "it had heard nothing from this machine for so long that it gave up",
    139: "segmentation fault (SIGSEGV)",
    KILLED: "killed from outside: out of memory?",
}
_APPROXIMATE = "approximate: sampled every 50 ms, the benchmark program itself included"


@dataclass(frozen=True, kw_only=True)
class _Binary:
    path: str  # on the device
    sha256: str
    version: str | None
    sent_bytes: int


def run(device: Device, request: RunRequest, progress: Progress) -> RunResult:
    """Time `request.model` on the device.

    Options: "benchmark_binary" (a file, or a folder that holds benchmark_model and its libraries),
    "benchmark_version", "precision" (float16, the default, or float32; GPU only), "gpu_backend" (cl
    or gl), "require_full_delegation", "op_profiling" (its table of operators is then in the log),
    "xnnpack" ("", the program's own default, or off) and "offline" (true or false).

    Raises InputError for impossible requests, ToolError when there is no program to send,
    DeviceError when it fails there or when a GPU run cannot be proven.
    """
    words = flags(request)
    with device.workspace.discarding():
        binary = _place_binary(device, request, progress)
        size = request.model.stat().st_size
        progress.stage("Sending the model", size, "B")
        model = device.workspace.put(
            request.model,
            sha256=request.sha256,
            suffix=".tflite",
            keep=request.keep,
            on_bytes=progress.advance,
        )
        before, sha256 = read_conditions(device.transport, model.path)
        _check_model(device, request, sha256)
        many = "runs" if request.time_s else f"{request.runs} runs"
        progress.stage(f"Timing {many} with benchmark_model")
        argv = pinned([binary.path, f"--graph={model.path}", *words], request.cores)
        with device.workspace.run_dir() as folder:
            done = _execute(device, request, argv, f"{folder}/looks")
            during = _looks(device, request, f"{folder}/looks")
        after, _ = read_conditions(device.transport, model.path)
    most = _PROFILE_CHARS if request.options.get("op_profiling") == "true" else _LOG_CHARS
    log = clean_text((done.stdout + done.stderr).decode(errors="replace"), most)
    gpu = prove_gpu(log) if request.accelerator == "gpu" else None
    if done.exit_code:
        raise _failed(device, request, done.exit_code, log, gpu)
    output = parse_output(log)
    _check_flags(device, output, log, gpu, words)
    _tell(progress, request, output, gpu)
    states = {"before": before, "during": during, "after": after}
    return _result(device, request, binary, output, gpu, states, model.transfer, log)


def _result(
    device: Device,
    request: RunRequest,
    binary: _Binary,
    output: BenchmarkOutput,
    gpu: GpuProof | None,
    states: dict[str, dict[str, Any]],
    transfer: Transfer | None,
    log: str,
) -> RunResult:
    return RunResult(
        runtime="benchmark_model",
        runtime_version=binary.version,
        accelerator=gpu.accelerator if gpu else "cpu",
        model_sha256=request.sha256,  # _check_model: the device reads the same
        warmup_ns=None,
        samples_ns=None,
        first_ns=output.first_ns,
        init_ns=output.init_ns,
        peak_rss_bytes=output.peak_bytes,
        outputs=None,
        summary_ns=output.measured_ns,
        facts=device.facts(),
        conditions={
            **states,
            "benchmark_binary_sha256": binary.sha256,
            "flags": flags(request),
            "warmup_mean_ns": output.warmup_mean_ns,
            "stdev": "of the population (divided by n), as benchmark_model prints it",
            "peak_rss": _APPROXIMATE if output.peak_bytes is not None else None,
            **_gpu_conditions(request, gpu),
        },
        sent_bytes=transfer.bytes if transfer else 0,
        transfer=transfer,
        log=log,
    )


def _execute(device: Device, request: RunRequest, argv: list[str], looks: str) -> Completed:
    """Run it alone on the device, as a child of a small shell (see _ALONE)."""
    name, wait_s = device.transport.name, int(min(_LOCK_WAIT_S, request.timeout_s / 2))
    lock = f"{device.workspace.root}/edgeopt.lock"
    attend = attending(device.transport)
    quiet_s = f"{SILENCE_S:.0f}" if attend else ""
    try:
        done = (attend or device.transport.run)(
            ["sh", "-c", _ALONE, session_word(), lock, str(wait_s), quiet_s, BETWEEN, looks, *argv],
            timeout_s=request.timeout_s,
        )
    except DeviceError as error:
        if "timeout_s" not in error.details:
            raise
        raise DeviceError(
            f"benchmark_model on {name} did not end within {request.timeout_s:g} s and was killed.",
            "Ask for fewer runs (--runs) or give more time (--timeout).",
            details=error.details,
        ) from error
    if done.exit_code == _BUSY and b"edgeopt: busy" in done.stderr + done.stdout:
        raise DeviceError(
            f"{name} is busy: another run of edgeopt has this device.",
            "Wait for it, or end it there.",
        )
    return done


def _looks(device: Device, request: RunRequest, path: str) -> dict[str, Any]:
    """What was seen of the board while the program ran; empty where it could not be looked at."""
    done = device.transport.run(["tail", "-c", f"{_LOOKS_BYTES}", path], timeout_s=_LOOKS_S)
    said = done.stdout.decode(errors="replace") if done.exit_code == 0 else ""
    return parse_between(said, request.cores)


def flags(request: RunRequest) -> list[str]:
    """The program's arguments but for the model. Raises InputError for values it cannot take."""
    if request.accelerator not in ("cpu", "gpu"):
        raise InputError(
            f"benchmark_model runs on the CPU or the GPU, not on {request.accelerator!r}.",
            "Choose a target with another runtime.",
        )
    warmup = request.warmup
    counts = request.runs < 1 or (warmup is not None and warmup < 0) or request.threads < 1
    if counts or request.timeout_s <= 0:
        raise InputError(
            "runs and threads count from 1, warmup from 0, the timeout is above 0.", "Correct them."
        )
    words = [
        f"--num_runs={request.runs}",
        # Its default is at least one second, whatever number of runs was asked for.
        f"--min_secs={max(request.time_s, 0.001):g}",
        f"--max_secs={2 * request.timeout_s:g}",  # our own deadline ends it: never fewer runs
        f"--warmup_runs={1 if warmup is None else warmup}",
        f"--warmup_min_secs={_WARMUP_S if warmup is None else 0:g}",
        f"--num_threads={request.threads}",
        "--report_peak_memory_footprint=true",
    ]
    if _choice(request.options, "op_profiling", ("false", "true")) == "true":
        words.append("--enable_op_profiling=true")
    if _choice(request.options, "xnnpack", ("", "off")) == "off":
        words.append("--use_xnnpack=false")
    if request.accelerator == "cpu":
        return words
    words += ["--use_gpu=true", f"--gpu_precision_loss_allowed={_PRECISIONS[_precision(request)]}"]
    if backend := _choice(request.options, "gpu_backend", ("", *_BACKENDS)):
        words.append(f"--gpu_backend={backend}")
    if _choice(request.options, "require_full_delegation", ("false", "true")) == "true":
        words.append("--require_full_delegation=true")
    return words


def _precision(request: RunRequest) -> str:
    return _choice(request.options, "precision", tuple(_PRECISIONS))


def _choice(options: Mapping[str, str], key: str, allowed: tuple[str, ...]) -> str:
    """The option's value, the first allowed one when it is not given."""
    value = str(options.get(key, allowed[0]))
    if value not in allowed:
        known = ", ".join(word for word in allowed if word)
        raise InputError(f"The runtime option {key} cannot be {value!r}.", f"Known: {known}.")
    return value


def _place_binary(device: Device, request: RunRequest, progress: Progress) -> _Binary:
    given = request.options.get("benchmark_binary") or device.spec.benchmark_binary
    version = None
    if given:
        source = Path(str(given)).expanduser()
    else:
        version = str(request.options.get("benchmark_version", PINNED_VERSION))
        platform = platform_of(device.facts())
        progress.stage(f"Fetching benchmark_model {version} for {platform}", None, "B")
        source = fetch_benchmark_binary(
            version,
            platform,
            offline=request.options.get("offline") == "true",
            on_bytes=progress.advance,
        )
    progress.stage("Sending benchmark_model", None, "B")
    folder = _folder_of(source)
    if folder is not None:
        tree = device.workspace.put_tree(folder, on_bytes=progress.advance, keep=request.keep)
        path, digest, sent = f"{tree.path}/benchmark_model", hash_path(folder), tree.sent_bytes
    else:
        digest = hash_path(source)
        file = device.workspace.put(
            source,
            sha256=digest,
            suffix=".benchmark_model",
            mode=0o700,
            on_bytes=progress.advance,
            keep=request.keep,
        )
        path, sent = file.path, file.sent_bytes
    return _Binary(path=path, sha256=digest, version=version, sent_bytes=sent)


def _folder_of(source: Path) -> Path | None:
    """The folder to send when the program brings its libraries along; None for a lone file."""
    if source.is_dir():
        if (source / "benchmark_model").is_file():
            return source
        raise InputError(
            f"{source} holds no benchmark_model.", "Give the program, or the folder it is in."
        )
    if not source.is_file():
        raise InputError(
            f"There is no benchmark_model at {source}.", "Check --benchmark-binary or devices.toml."
        )
    whole = source.name == "benchmark_model" and (source.parent / "lib").is_dir()
    return source.parent if whole else None


def _check_model(device: Device, request: RunRequest, sha256: str) -> None:
    if sha256 != request.sha256:
        raise DeviceError(
            f"{device.transport.name} reads another model than was sent"
            f" (sha256 {sha256 or 'unknown'} instead of {request.sha256}).",
            "Clean its work folder and try again; if it repeats, check its storage.",
        )


def _check_flags(
    device: Device, output: BenchmarkOutput, log: str, gpu: GpuProof | None, words: list[str]
) -> None:
    """Refuse a result that is not of the run that was asked for."""
    if gpu is not None and not gpu.proven:
        raise _no_gpu(device, gpu, log)
    asked = {word.lstrip("-").partition("=")[0] for word in words}
    ignored = sorted((asked & set(output.unconsumed_flags)) - _HARMLESS)
    if ignored:
        raise DeviceError(
            f"benchmark_model on {device.transport.name} ignored --{', --'.join(ignored)}, so its"
            " result is not of the run that was asked for.",
            "Give a newer benchmark_model with --benchmark-binary.",
            details={"log": log[-4000:]},
        )


def _no_gpu(device: Device, gpu: GpuProof, log: str) -> DeviceError:
    refused = f" Operations it does not take: {'; '.join(gpu.unsupported)}." * bool(gpu.unsupported)
    return DeviceError(
        f"The GPU of {device.transport.name} was asked for, but edgeopt refused to call it a GPU"
        f" run: {'; '.join(gpu.against)}.{refused}",
        "Give a benchmark_model with the GPU delegate, or measure the CPU with"
        " --target android-arm64.",
        details={"gpu": gpu.to_json(), "log": log[-4000:]},
    )


def _failed(
    device: Device, request: RunRequest, code: int, log: str, gpu: GpuProof | None
) -> DeviceError:
    """What an exit code and the end of the log mean."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    said = "; ".join(line.rstrip(".") for line in (errors or lines)[-4:])[-600:]
    if gpu is not None and gpu.against and not gpu.proven and "GPU kernel" not in gpu.against[0]:
        said = f"{'; '.join(gpu.against)}; {said}"
    hint = "Read the log; a newer benchmark_model may know the model's operations."
    how = f"exit {code}"
    if code in (126, 127):
        hint = (
            "The program is not for this device (processor, system, missing libraries): give"
            " another with --benchmark-binary, with its libraries in lib/ beside it."
        )
    if code == 126 and "denied" in said:
        how = "it may not be executed there"
        hint = "Is its work folder on a file system mounted noexec? Give another with workdir."
    if code > 128:
        how = _DEATHS.get(code, f"killed by signal {code - 128}")
        hint = "Out of memory, or a crash of the runtime: try a smaller model or another version."
    if code == KILLED and (line := ran_out_of_memory(device.transport)):
        how = f"the kernel there killed it, out of memory ({line})"
    return DeviceError(
        f"benchmark_model failed on {device.transport.name} ({how}) with {request.model.name}:"
        f" {said or 'it printed nothing'}.",
        hint,
        details={"exit_code": code, "log": log[-4000:]},
    )


def _gpu_conditions(request: RunRequest, gpu: GpuProof | None) -> dict[str, Any]:
    if gpu is None:
        return {}
    precision = _precision(request)
    allowed = "float16 allowed" if precision == "float16" else "float32"
    return {"accelerator": gpu.accelerator, "gpu": gpu.to_json(), "gpu_precision": allowed}


def _tell(
    progress: Progress, request: RunRequest, output: BenchmarkOutput, gpu: GpuProof | None
) -> None:
    count = output.measured_ns.get("count")
    if count is not None and count < request.runs:
        progress.note(f"benchmark_model made only {count:.0f} of {request.runs} runs.")
    if gpu is not None and not gpu.full:
        part = f"{gpu.operations_gpu} of {gpu.operations_total} operations on the GPU"
        progress.note(
            f"Partial GPU run: {part if gpu.operations_total else gpu.accelerator};"
            " the rest ran on the CPU and is in the time."
        )
