"""Choose the runtime and run; the host's own reference outputs; cleaning a device."""

from __future__ import annotations

import tempfile
from dataclasses import replace

from edgeopt import registry
from edgeopt.device.conditions import compact, judge, remarks
from edgeopt.device.device import Device, connect
from edgeopt.device.inventory import DeviceSpec
from edgeopt.device.run import RunRequest, RunResult
from edgeopt.errors import DeviceError, EdgeoptError
from edgeopt.progress import Progress, Silent

__all__ = ["clean", "host_outputs", "run", "runtime_of"]

_DEFAULT_RUNTIME = "litert"
_RUNTIME_OF_KIND = {"adb": "benchmark_model"}  # Android has no Python


def run(
    device: Device, request: RunRequest, progress: Progress, runtime: str | None = None
) -> RunResult:
    """Run `request` with a runtime of the registry.

    `runtime` beats `request.options["runtime"]`, which beats the device's own; the
    default is "litert", over ADB "benchmark_model". Raises InputError for an unknown runtime, and
    what the runtime raises.

    The conditions of the run are judged here, whatever the runtime: see conditions.judge.
    """
    name = runtime or runtime_of(device, request)
    try:
        result: RunResult = registry.load("runtimes", name)(device, request, progress)
    except EdgeoptError as error:
        if isinstance(error.reached, RunResult):
            error.reached = _judged(error.reached, request)
        raise
    return _judged(result, request)


def _judged(result: RunResult, request: RunRequest) -> RunResult:
    """With reasons against its times, and remarks on them where there are any."""
    said = result.conditions
    told = remarks(said) if request.runs or request.time_s else ()
    return replace(
        result,
        conditions=compact(said),
        invalid_reasons=tuple(dict.fromkeys((*judge(said), *result.invalid_reasons))),
        notes=tuple(dict.fromkeys((*result.notes, *told))),
    )


def runtime_of(device: Device, request: RunRequest) -> str:
    """The name of the runtime that `run` takes when none is named to it."""
    default = _RUNTIME_OF_KIND.get(device.spec.kind, _DEFAULT_RUNTIME)
    return request.options.get("runtime") or device.spec.runtime or default


def host_outputs(request: RunRequest, progress: Progress | None = None) -> RunResult:
    """The reference outputs for parity: the same agent, on this machine's CPU, nothing timed.

    The model runs in a process of its own: a malformed one crashes there and not here. Raises what
    `run` raises; `samples_ns` is empty.
    """
    with tempfile.TemporaryDirectory(prefix="edgeopt-host-") as folder:
        spec = DeviceSpec(name="this machine", kind="local", workdir=folder)
        wanted = replace(
            request, accelerator="cpu", runs=0, warmup=0, want_outputs=True, options={}
        )
        try:
            with connect(spec) as host:
                return run(host, wanted, progress or Silent(), _DEFAULT_RUNTIME)
        except DeviceError as error:
            raise DeviceError(
                f"The reference run on this machine, not the device, failed: {error.message}",
                f"{error.hint} Its folder is made in TMPDIR ({tempfile.gettempdir()}).",
                details=error.details,
            ) from error


def clean(device: Device) -> int:
    """Remove everything edgeopt put on the device. Returns the bytes freed."""
    return device.workspace.clean()
