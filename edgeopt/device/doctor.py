"""Is this device fit to deploy to? One check a line, each with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgeopt.device.check import Check
from edgeopt.device.device import Device
from edgeopt.device.edgetpu.checks import edgetpu_checks
from edgeopt.device.edgetpu.choice import read_software
from edgeopt.device.edgetpu.state import read_state
from edgeopt.device.python_runner.runner import probe, python_command
from edgeopt.errors import EdgeoptError

__all__ = ["Check", "doctor"]

_ENOUGH_KB = 200 * 1024
_DISK = 'while [ ! -d "$1" ]; do set -- "${1%/*}"; done; df -Pk "${1:-/}" | tail -n 1'


def doctor(device: Device) -> list[Check]:
    """Every check, also after one has failed. Raises nothing: a failure is a Check."""
    return [*_connection(device), *_folder(device), *_runtimes(device), *_edgetpu(device)]


def _connection(device: Device) -> Iterator[Check]:
    try:
        facts = device.facts()
    except EdgeoptError as error:
        yield _failed("connection", error)
        return
    yield Check(name="connection", ok=True, found=device.transport.name)
    words = [facts.get(k) for k in ("model", "cpu", "arch", "os", "kernel")]
    yield Check(name="board", ok=True, found=", ".join(str(w) for w in words if w))
    memory = facts.get("memory_bytes")
    found = f"{memory / 2**20:.0f} MB" if memory else "not told"
    yield Check(name="memory", ok=True, found=found)


def _folder(device: Device) -> Iterator[Check]:
    try:
        root = device.workspace.root
        row = device.transport.run(["sh", "-c", _DISK, "sh", root], timeout_s=20).stdout.split()
    except EdgeoptError as error:
        yield _failed("work folder", error)
        return
    yield Check(name="work folder", ok=True, found=root)
    if len(row) > 3 and row[3].isdigit():
        free_kb = int(row[3])
        hint = "" if free_kb > _ENOUGH_KB else "Free some space, or give another workdir."
        found = f"{free_kb // 1024} MB free"
        yield Check(name="disk", ok=free_kb > _ENOUGH_KB, found=found, hint=hint)


def _runtimes(device: Device) -> Iterator[Check]:
    if device.spec.kind == "adb":  # Android has no Python: its runtime is benchmark_model
        binary = device.spec.benchmark_binary
        ok = binary is not None and binary.exists()
        hint = "" if ok else "Name Google's program with benchmark_binary in devices.toml."
        yield Check(name="benchmark_model", ok=ok, found=str(binary or "not given"), hint=hint)
        return
    try:
        answer = probe(device)
    except EdgeoptError as error:
        yield _failed("python", error)
        return
    facts, runtimes = _table(answer, "facts"), _table(answer, "runtimes")
    yield Check(name="python", ok=True, found=f"{facts.get('python')} ({facts.get('executable')})")
    found = ", ".join(f"{name} {version}" for name, version in runtimes.items())
    yield Check(
        name="runtime",
        ok=bool(runtimes),
        found=found or "none",
        hint="" if runtimes else f"There: {facts.get('executable')} -m pip install ai-edge-litert",
    )
    yield from _governor(_table(answer, "readings"))


def _governor(readings: dict[str, Any]) -> Iterator[Check]:
    governors = sorted({str(g) for g in readings.get("governor") or [] if g})
    if governors:
        steady = governors == ["performance"]
        yield Check(
            name="governor",
            ok=True,
            found=", ".join(governors),
            hint="" if steady else "Latencies are steadier under the performance governor.",
        )


def _edgetpu(device: Device) -> Iterator[Check]:
    if device.spec.kind == "adb":
        return
    try:
        state = read_state(device.transport)
        there = state.present or state.library
        software = read_software(device.transport, python_command(device)) if there else None
        yield from edgetpu_checks(state, software, device=device.transport.name)
    except EdgeoptError as error:
        yield _failed("edge tpu", error)


def _table(answer: dict[str, Any], key: str) -> dict[str, Any]:
    value = answer.get(key)
    return value if isinstance(value, dict) else {}


def _failed(name: str, error: EdgeoptError) -> Check:
    return Check(name=name, ok=False, found=error.message, hint=error.hint)
