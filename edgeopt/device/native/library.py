"""LiteRT's C library for the native runner: the device's own wheel, or one that the user names."""

from __future__ import annotations

import email.parser
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.device.printable import clean_text, tail
from edgeopt.device.python_runner.runner import python_command
from edgeopt.errors import DeviceError, InputError
from edgeopt.store import Store

if TYPE_CHECKING:
    from edgeopt.device.device import Device
    from edgeopt.progress import Progress

__all__ = ["PROVEN", "Library", "find_library"]

# The C API has no headers in the wheel and changes between releases (2.1.2 makes a model without an
# environment): a version is here when its outputs were compared with the interpreter's, to the bit.
PROVEN = ("2.3.0", "2.2.0", "2.1.6")
_NAME = "libLiteRt.so"
_MEMBER = f"ai_edge_litert/{_NAME}"
_MAX_BYTES = 1 << 30
# Runs on the device: finds the package without importing it.
_FIND = """
import importlib.util, json, os, sys
sys.path[:1] = []
spec = importlib.util.find_spec("ai_edge_litert")
found = {}
for folder in (spec.submodule_search_locations or []) if spec else []:
    path = os.path.join(folder, "libLiteRt.so")
    if os.path.isfile(path):
        found = {"path": path, "version": None}
        try:
            from importlib.metadata import version
            found["version"] = version("ai-edge-litert")
        except Exception:
            pass
        break
print("edgeopt " + json.dumps(found))
"""


@dataclass(frozen=True, kw_only=True)
class Library:
    """Where libLiteRt.so is on the device, and its release."""

    path: str
    version: str
    came_from: str  # "the device's ai-edge-litert", "ai_edge_litert-2.3.0-...whl"


def find_library(
    device: Device, options: Mapping[str, str], progress: Progress, *, keep: bool
) -> Library:
    """The library to load. Raises InputError for a wheel that is not one of that processor,
    DeviceError where there is none or one whose C API is not the one that is called."""
    if wheel := options.get("native_library"):
        return _from_wheel(device, Path(wheel).expanduser(), progress, keep)
    if "native_library" not in device.known:
        device.known["native_library"] = _on_device(device)
    found: dict[str, Any] = device.known["native_library"]
    name = device.transport.name
    if not found:
        raise DeviceError(
            f"The Python of {name} has no ai-edge-litert with LiteRT's C library in it.",
            f"On that machine: python3 -m pip install ai-edge-litert=={PROVEN[0]}. Name a virtual"
            " environment's Python with --device-python, or give a wheel of it with"
            " --native-library.",
            details={"reason": "no_runtime"},
        )
    if found["version"] not in PROVEN:
        raise DeviceError(
            f"{name} has ai-edge-litert {found['version'] or 'of unknown version'}; the native"
            f" runner calls the C API of {', '.join(PROVEN)}, which is another.",
            f"Install ai-edge-litert=={PROVEN[0]} there, or give its wheel with --native-library,"
            " or use --runtime litert.",
            details={"reason": "version"},
        )
    return Library(
        path=found["path"], version=found["version"], came_from="the device's ai-edge-litert"
    )


def _on_device(device: Device) -> dict[str, Any]:
    """`path` and `version` as the device's Python says; empty where it has none."""
    argv = [*python_command(device), "-c", _FIND]
    done = device.transport.run(argv, timeout_s=60)
    if done.exit_code in (126, 127):
        return {}
    for line in done.stdout.decode(errors="replace").splitlines():
        if line.startswith("edgeopt "):
            return _said(line.removeprefix("edgeopt "))
    raise DeviceError(
        f"The Python of {device.transport.name} could not be asked for its packages:"
        f" {tail(done.stderr) or 'it said nothing'}.",
        "Name another with --device-python.",
    )


def _said(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    path = found.get("path") if isinstance(found, dict) else None
    if not isinstance(path, str) or not re.fullmatch(r"/[^\n\0]{1,4000}", path):
        return {}
    version = found.get("version")
    return {"path": path, "version": clean_text(version, 40) if isinstance(version, str) else None}


def _from_wheel(device: Device, wheel: Path, progress: Progress, keep: bool) -> Library:
    version, machines = _read_wheel(wheel)
    arch = str(device.facts().get("arch"))
    if version not in PROVEN:
        raise InputError(
            f"{wheel.name} is LiteRT {version}; the native runner calls the C API of"
            f" {', '.join(PROVEN)}.",
            f"Give a wheel of ai-edge-litert {PROVEN[0]}.",
        )
    if arch not in machines:
        raise InputError(
            f"{wheel.name} is for {', '.join(machines)}, and {device.transport.name} is {arch}.",
            f"pip download ai-edge-litert=={version} --platform manylinux_2_27_{arch}"
            " --only-binary=:all: --no-deps",
        )

    def make(path: Path) -> Mapping[str, str]:
        with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as source:
            path.write_bytes(source.read(_MAX_BYTES))
        return {}

    progress.stage(f"Send {_NAME}", None, "B")
    entry = Store().build(Store.key(what=_MEMBER, wheel=_hash(wheel)), _NAME, make)
    placed = device.workspace.put(
        entry.path, sha256=_hash(entry.path), suffix=".so", keep=keep, on_bytes=progress.advance
    )
    return Library(path=placed.path, version=version, came_from=wheel.name)


def _read_wheel(wheel: Path) -> tuple[str, list[str]]:
    """The release and the processors of a wheel, from its own metadata."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(_MEMBER).file_size >= _MAX_BYTES:
                raise KeyError(_MEMBER)
            infos = [n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/WHEEL", n)]
            tags = _headers(archive, infos[0]).get_all("Tag") or []
            about = _headers(archive, infos[0].replace("/WHEEL", "/METADATA"))
    except (OSError, zipfile.BadZipFile, KeyError, IndexError) as error:
        raise InputError(
            f"{wheel} is no wheel with {_MEMBER} in it: {error}.",
            "Give an ai_edge_litert wheel for the device's processor.",
        ) from error
    machines = {m[1] for tag in tags if (m := re.search(r"_(x86_64|aarch64|armv7l)$", tag))}
    return str(about.get("Version")), sorted(machines) or ["no known processor"]


def _headers(archive: zipfile.ZipFile, name: str) -> Any:
    with archive.open(name) as stream:
        return email.parser.BytesParser().parsebytes(stream.read(1 << 20), headersonly=True)


def _hash(path: Path) -> str:
    from edgeopt.artifact import hash_path

    return hash_path(path)
