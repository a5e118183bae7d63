"""`edgeopt doctor`: what this machine can do."""

from __future__ import annotations

import platform
import shutil
import sys
from importlib import metadata
from typing import Any

import click

from edgeopt.cli import options, output
from edgeopt.errors import EdgeoptError, ToolError

__all__ = ["doctor"]

# distribution: (needed always, what it is for)
_PACKAGES = {
    "ai-edge-litert": (True, "runs models on this machine"),
    "litert-quantizer": (True, "quantizes .tflite models"),
    "paramiko": (True, "SSH devices"),
    "adbutils": (True, "Android devices"),
    "tensorflow": (False, "reads .keras, .h5 and SavedModel: pip install 'edgeopt[tf]'"),
    "tf-keras": (False, "reads legacy .h5: pip install 'edgeopt[tf]'"),
    "tensorflow-model-optimization": (False, "training techniques: pip install 'edgeopt[train]'"),
}


@click.command()
@options.as_json
def doctor(as_json: bool) -> None:
    """Check what this machine can do: packages, compiler, folders.

    Exit 4 when something that is always needed is missing.
    """
    rows = [_python(), *_packages(), *_compilers(), _edge_tpu(), _folder()]
    failed = [row for row in rows if not row["ok"] and row["required"]]
    if not as_json:
        output.checks(rows)
    if failed:
        raise ToolError(
            f"{failed[0]['name']}: {failed[0]['found']}.",
            failed[0]["hint"],
            reached={"checks": rows},
        )
    if as_json:
        output.emit("doctor", {"checks": rows})


def _row(name: str, ok: bool, found: str, hint: str = "", required: bool = True) -> dict[str, Any]:
    return {"name": name, "ok": ok, "found": found, "hint": hint, "required": required}


def _python() -> dict[str, Any]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return _row("python", sys.version_info >= (3, 10), found, "edgeopt needs Python 3.10 or newer.")


def _packages() -> list[dict[str, Any]]:
    rows = []
    for name, (required, purpose) in _PACKAGES.items():
        try:
            rows.append(_row(name, True, f"{metadata.version(name)}  ({purpose})", "", required))
        except metadata.PackageNotFoundError:
            found = f"not installed  ({purpose})"
            rows.append(_row(name, False, found, f"pip install {name}", required))
    return rows


def _compilers() -> list[dict[str, Any]]:
    from edgeopt import registry

    checks = [registry.load("compiler_checks", n)() for n in registry.names("compiler_checks")]
    return [_row(name, ok, found, hint, False) for name, ok, found, hint in checks]


def _edge_tpu() -> dict[str, Any]:
    """An Edge TPU of this machine, in one line; `edgeopt devices doctor local` says it all."""
    from edgeopt.device.edgetpu.state import read_state
    from edgeopt.device.local import LocalTransport

    name, hint = "edge tpu", "edgeopt devices doctor local"
    try:
        state = read_state(LocalTransport())
    except EdgeoptError as error:
        return _row(name, True, error.message, error.hint, False)
    if not state.present:
        return _row(name, True, "none on this machine", "", False)
    nodes = ", ".join(chip.node for chip in state.chips) or "a PCIe card without its driver"
    usable = any(chip.usable for chip in state.chips)
    return _row(name, usable, f"{nodes}  ({hint})", f"Run: {hint}", False)


def _folder() -> dict[str, Any]:
    from edgeopt.errors import InputError
    from edgeopt.paths import cache_dir
    from edgeopt.store import scratch

    try:
        with scratch(cache_dir()):
            free = shutil.disk_usage(cache_dir()).free
    except InputError as error:
        return _row("cache", False, error.message, error.hint)
    return _row("cache", True, f"{cache_dir()}  ({free >> 20} MiB free)")
