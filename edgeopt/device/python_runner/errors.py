"""What went wrong in the agent, as the person who must act should read it."""

from __future__ import annotations

import re
from typing import Any

from edgeopt.device.device import Device
from edgeopt.device.edgetpu.choice import MATCHING
from edgeopt.device.edgetpu.errors import heard, why_closed
from edgeopt.device.edgetpu.run import EdgeTpuRun
from edgeopt.device.edgetpu.state import read_state
from edgeopt.device.printable import clean_text, tail
from edgeopt.errors import DeviceError, EdgeoptError, InputError, ModelError

__all__ = ["crash", "explained"]

# 128 + signal, as a shell reports it.
_SIGNALS = {
    132: ("SIGILL: an instruction its processor does not have", "Install the wheel for that CPU."),
    134: ("SIGABRT: the runtime gave up", "Its last words are in the message."),
    135: ("SIGBUS: bad memory or a truncated file", "Check the storage and memory there."),
    136: ("SIGFPE: an arithmetic fault in the runtime", "The model may be damaged: inspect it."),
    137: (
        "killed from outside (out of memory? its kernel does not say)",
        "Free memory there (dmesg names who was killed), or use a smaller model.",
    ),
    138: (
        "it had heard nothing from this machine for so long that it gave up",
        "Did this machine sleep, or was edgeopt stopped (Ctrl-Z)? Run it again.",
    ),
    139: (
        "segmentation fault (SIGSEGV): a crash in native code",
        "The model may be damaged or too new for that runtime: inspect it, or upgrade the runtime.",
    ),
    142: ("SIGALRM: still running past its deadline", "Raise the timeout or lower --runs."),
}


def explained(
    message: dict[str, Any], device: Device, python: str, chip: EdgeTpuRun | None = None
) -> EdgeoptError:
    """The error for an `error` line of the agent; `chip` is what an Edge TPU's run began with."""
    code = str(message.get("code"))
    text = clean_text(str(message.get("text")), 600).strip().rstrip(".")
    name = device.transport.name
    if code == "no_runtime":
        return _no_runtime(message, device, python, chip)
    if code == "edgetpu_open":
        return _closed(device, chip)
    if why := heard(text):
        details = {"reason": why.reason, "said": text}
        return DeviceError(f"{name} cannot run this model: {why.what}.", why.hint, details=details)
    if code == "edgetpu_library":
        return DeviceError(
            f"{name} cannot load the Edge TPU library: {text}.",
            "Install libedgetpu1-std there (coral.ai/software, or github.com/feranick/libedgetpu).",
        )
    if code == "cores":
        return DeviceError(f"{name} {text}.", "Name others with --cores, or leave it out.")
    if code == "busy":
        return DeviceError(f"{name} is busy: {text}.", "Wait for it, or end it there.")
    if code == "model_hash":
        return DeviceError(
            f"{name} reads another model than was sent (sha256 {text}).", "Check its storage."
        )
    if code == "inputs":
        return InputError(f"The samples do not fit the model: {text}.", "See edgeopt inspect.")
    if code in ("compiled", "not_compiled", "accelerator"):
        return ModelError(f"On {name}: {text}.", "Choose the target that the model is made for.")
    if code in ("no_profiler", "profiler", "batch"):
        return _special(code, name, text, message)
    if code == "load":
        return _load(name, text)
    return DeviceError(f"The run on {name} failed: {text}.", "Try edgeopt devices doctor.")


def _closed(device: Device, chip: EdgeTpuRun | None) -> DeviceError:
    state = read_state(device.transport)  # now: it may have been unplugged since
    wanted = chip.options.get("device", "") if chip else ""
    why = why_closed(state, wanted)
    return DeviceError(
        f"The Edge TPU of {device.transport.name} does not open: {why.what}.",
        why.hint,
        details={"reason": why.reason, "edgetpu": state.to_json()},
    )


def _special(code: str, name: str, text: str, message: dict[str, Any]) -> EdgeoptError:
    """Of a profile or a load (agent/profile.py, agent/load.py)."""
    if code == "batch":
        return InputError(
            f"--batch cannot change this model: {text}.",
            "Convert it with that batch (edgeopt convert --batch N), or with an open one.",
        )
    if code == "profiler":
        return ModelError(
            f"LiteRT's profiler on {name} cannot take this model: {text}.",
            "Profile it with --runtime benchmark_model --benchmark-binary PATH, which takes it.",
        )
    facts = message.get("facts")
    proven = facts.get("proven") if isinstance(facts, dict) else None
    known_ones = proven[:5] if isinstance(proven, list) else []
    versions = ", ".join(clean_text(str(v), 20) for v in known_ones)
    known = f" edgeopt knows the profiler of ai-edge-litert {versions}, 64-bit Linux." * bool(
        versions
    )
    return DeviceError(
        f"{name} has no profiler that edgeopt can use: {text}.{known}",
        "Install that version there (pip install ai-edge-litert==VERSION), or profile with"
        " --runtime benchmark_model --benchmark-binary PATH.",
    )


def _load(name: str, text: str) -> EdgeoptError:
    if "Didn't find op for builtin opcode" in text:
        return DeviceError(
            f"The runtime on {name} is too old for this model: {text}.",
            "Upgrade it there: python3 -m pip install --upgrade ai-edge-litert.",
        )
    if "MemoryError" in text:
        return DeviceError(f"{name} has too little memory for this model.", "Use a smaller one.")
    return ModelError(f"The runtime on {name} cannot load the model: {text}.", "Inspect the model.")


def _no_runtime(
    message: dict[str, Any], device: Device, python: str, chip: EdgeTpuRun | None
) -> DeviceError:
    facts = message.get("facts")
    facts = facts if isinstance(facts, dict) else {}
    tried = facts.get("tried")
    tried = tried if isinstance(tried, dict) else {}
    said = "; ".join(f"{k}: {clean_text(str(v), 100)}" for k, v in list(tried.items())[:5])
    if why := heard(said):  # pycoral loads libedgetpu when it is imported
        return DeviceError(
            f"{device.transport.name} cannot run this model: {why.what}.",
            why.hint,
            details={"reason": why.reason, "tried": [clean_text(str(k), 40) for k in tried]},
        )
    arch = device.facts().get("arch")
    version = re.match(r"3\.(\d{1,3})\.", str(facts.get("python")))
    package = "ai-edge-litert"  # no wheel of it is for 32 bit, or for a Python before 3.9
    if arch in ("armv7l", "armv6l") or (version and int(version[1]) < 9):
        package = "tflite-runtime 'numpy<2'"
    install = MATCHING if chip else f"On that machine ({arch}): {python} -m pip install {package}."
    return DeviceError(
        f"{device.transport.name} has no runtime that {python} could import ({said}).",
        f"{install} Name a virtual environment's Python with --device-python, or `python` in"
        " devices.toml.",
        details={"reason": "no_runtime", "tried": [clean_text(str(k), 40) for k in tried]},
    )


def crash(
    exit_code: int,
    stderr: bytes,
    *,
    name: str,
    python: str,
    stage: str,
    pair: str = "",
    noise: bytes = b"",
    killed: str = "",
) -> DeviceError:
    """The error for an agent that ended without an answer; `noise` is what else it printed.

    `pair` names the libedgetpu and the runtime of a run on an Edge TPU; `killed` is the kernel's
    word about a process that it killed for want of memory.
    """
    said = tail(stderr) or " ".join(clean_text(noise.decode(errors="replace"), 80).split())
    words = f" It said: {said}." if said else ""
    if exit_code in (126, 127):
        return DeviceError(
            f"{name} cannot run {python}.{words}",
            "Install Python 3.7 or later there, or name it with --device-python (`python` in"
            " devices.toml).",
        )
    if exit_code == 0:
        return DeviceError(
            f"{python} on {name} ended without an answer.{words}",
            "It must be a Python 3.7 or later: see --device-python, `python` in devices.toml.",
        )
    what, hint = _SIGNALS.get(exit_code, (f"exit code {exit_code}", ""))
    if killed:
        what = f"the kernel there killed it, out of memory ({killed})"
        hint = "Free memory there, or use a smaller model."
    details = {"exit_code": exit_code, "stage": stage}
    if pair and exit_code == 139:
        words = f" It has {pair}.{words}"
        hint = "A libedgetpu built for another runtime does this. " + MATCHING
        details["reason"] = "version_clash"
    elif pair and (why := heard(said)):
        hint = f"That is: {why.what}. {why.hint}"
        details["reason"] = why.reason
    if "SyntaxError" in said:
        hint = f"{python} there is older than Python 3.7: name a newer one with --device-python."
    return DeviceError(
        f"The run on {name} ended during {stage}: {what}.{words}",
        hint,
        details=details,
    )
