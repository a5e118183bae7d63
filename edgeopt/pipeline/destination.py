"""Which device a job means, settled before any long work; no connection is made."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from edgeopt import registry
from edgeopt.errors import DeviceError, InputError
from edgeopt.paths import config_dir
from edgeopt.pipeline.session import Session

if TYPE_CHECKING:
    from edgeopt.device.inventory import DeviceSpec

__all__ = ["device_spec", "runtime_name", "settle_device"]


def device_spec(session: Session) -> DeviceSpec:
    """The device that was named, else this machine, with the target's defaults for reaching it.

    Raises InputError for a name or an address that cannot be meant.
    """
    from edgeopt.device.inventory import resolve

    job = session.job
    defaults = dict(session.target.transport)
    spec = resolve(job.device or "local", folders=(Path.cwd(), config_dir()), defaults=defaults)
    return replace(
        spec,
        benchmark_binary=job.benchmark_binary or spec.benchmark_binary,
        python=job.device_python or spec.python,
    )


def runtime_name(session: Session) -> str:
    """What runs the model there, by its name in the registry: --runtime, else the device's own in
    devices.toml, else the target's."""
    return session.job.runtime or device_spec(session).runtime or session.target.runtime


def _needs(runtime: str) -> str:
    return "a Linux wheel (native)" if runtime == "native" else f"Python ({runtime})"


def _check_runtime(session: Session, runtime: str) -> None:
    """Raises InputError for what --runtime and --native-library cannot mean together."""
    known = registry.names("runtimes")
    if runtime not in known:
        near = get_close_matches(runtime, known, 1)
        guess = f" Did you mean {near[0]}?" if near else ""
        raise InputError(
            f"There is no runtime named {runtime!r}.{guess}", f"Known: {', '.join(known)}."
        )
    if runtime == "native" and session.target.accelerator != "cpu":
        raise InputError(
            f"The native runner runs on the CPU, and {session.target.name} on its"
            f" {session.target.profile.partition.label}.",
            "Leave it out (--runtime, or runtime in devices.toml): the target's own reaches it.",
        )
    library = session.job.native_library
    if library is not None and runtime != "native":
        raise InputError(
            f"--native-library is about the native runner, and {runtime} runs here.",
            "Add --runtime native.",
        )
    if library is not None and not library.is_file():
        raise InputError(
            f"There is no wheel at {library}.", "Give an ai_edge_litert-...whl of the board's."
        )


def settle_device(session: Session) -> None:
    """Refuse what cannot work, and say where it runs when no device was named.

    Raises DeviceError for a target that edgeopt only compiles for; InputError for an unknown
    device, an Android target without one, and a runtime that needs Python on a device without.
    """
    target, spec = session.target, device_spec(session)
    if not target.runs:
        raise DeviceError(
            f"edgeopt has no runtime that reaches an {target.profile.partition.label}: "
            f"{target.name} is for compiling.",
            "Leave the run out with --no-run, and build the compiled file into your firmware.",
        )
    reached = target.transport.get("kind")
    if session.job.device is None and reached == "adb":
        raise InputError(
            f"{target.name} is reached over ADB, and no device was named.",
            "Give --device adb://SERIAL (adb devices shows them), or a name of devices.toml.",
        )
    runtime = runtime_name(session)
    _check_runtime(session, runtime)
    own_program = runtime == "benchmark_model"
    if spec.kind == "adb" and not own_program and runtime in registry.BUILTINS["runtimes"]:
        raise InputError(
            f"{target.name} runs through {_needs(runtime)}, and Android, which is behind "
            f"{spec.name}, has none.",
            "Use --target android-arm64 for its CPU, or --target android-gpu for its GPU.",
        )
    if session.job.device is None and reached not in (None, "local"):
        session.note(f"No --device was given: what runs is this machine, not a {target.name}.")
