"""Which Python runtime may load which libedgetpu, decided from versions before anything is loaded.

libedgetpu is compiled against one TensorFlow and shares C structures with the interpreter. The one
that Google shipped (16.0, TensorFlow 2.5) crashes under tflite_runtime 2.12 and later: issues 812
of google-coral/edgetpu and 53 of google-coral/libedgetpu.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.device.edgetpu.state import EdgeTpuState, Library
from edgeopt.device.printable import clean_text
from edgeopt.device.transport import Transport
from edgeopt.errors import DeviceError

__all__ = [
    "MATCHING",
    "RUNTIMES",
    "Choice",
    "Software",
    "built_for",
    "choose",
    "crashes",
    "interpreter_of",
    "read_software",
]

RUNTIMES = ("pycoral", "tflite_runtime", "ai_edge_litert")  # what libedgetpu is tested with first
MATCHING = (
    "Install a pair that fits: Google's libedgetpu 16.0 with tflite_runtime 2.5 and pycoral 2.0"
    " (Python 3.6 to 3.9), or a libedgetpu built for your runtime, such as 16.0tf2.17.1 with"
    " tflite_runtime 2.17 (github.com/feranick/libedgetpu)."
)
_SCRIPT = Path(__file__).with_name("packages.py")
_TIMEOUT_S = 30
_GOOGLES = (2, 5)  # libedgetpu 16.0, July 2021
_BROKE = (2, 12)  # from here on the interpreter expects more of a delegate
_LITERT = (2, 17)  # ai-edge-litert 1.0 is the interpreter of TensorFlow 2.17
_OLD_COMPILERS = ("COMPILER=5.", "COMPILER=6.")  # of Google's releases up to 16.0


@dataclass(frozen=True, kw_only=True)
class Software:
    """`packages` are installed distributions and their versions, none of them imported."""

    python: str | None = None
    packages: tuple[tuple[str, str], ...] = ()

    @property
    def versions(self) -> dict[str, str]:
        return dict(self.packages)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The runtimes that may be tried, best first, and what the user should know of them."""

    runtimes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_software(transport: Transport, command: list[str]) -> Software | None:
    """What the Python that `command` starts has installed; None when it does not answer."""
    script = _SCRIPT.read_bytes()
    done = transport.run([*command, "-B", "-"], timeout_s=_TIMEOUT_S, stdin=script)
    rows = [row for row in done.stdout.splitlines() if row.startswith(b'{"packages"')]
    try:
        said: Any = json.loads(rows[-1]) if rows else {}
    except (ValueError, RecursionError):
        return None
    packages = said.get("packages")
    if not isinstance(packages, dict):
        return None
    return Software(
        python=clean_text(str(said.get("python")), 40),
        packages=tuple(
            (clean_text(str(k), 40), clean_text(str(v), 40)) for k, v in list(packages.items())[:20]
        ),
    )


def built_for(library: Library | None) -> tuple[int, int] | None:
    """The TensorFlow that a libedgetpu was compiled against, None where nothing tells.

    Packages of later builds name it (`16.0tf2.17.1-1`); a bare `16.0` is Google's own, and so is a
    build by the compiler that Google used (GCC 6.3 in Debian 9), which later TensorFlows refuse.
    """
    if library is None:
        return None
    if found := re.search(r"tf(\d+)\.(\d+)", library.version or "", re.IGNORECASE):
        return int(found[1]), int(found[2])
    old = (library.label or "").startswith(_OLD_COMPILERS)
    return _GOOGLES if old or re.match(r"1\d\.\d+(-|$)", library.version or "") else None


def interpreter_of(runtime: str, versions: dict[str, str]) -> tuple[int, int] | None:
    """The TensorFlow that a runtime's interpreter is of; pycoral uses tflite_runtime's."""
    if runtime == "ai_edge_litert":
        return _LITERT
    found = re.match(r"(\d+)\.(\d+)", versions.get("tflite_runtime", ""))
    return (int(found[1]), int(found[2])) if found else None


def crashes(library: tuple[int, int] | None, interpreter: tuple[int, int] | None) -> bool:
    """Known to end in a segmentation fault. What is not known is no reason to refuse."""
    return bool(library and interpreter and library < _BROKE <= interpreter)


def choose(
    state: EdgeTpuState, software: Software | None, *, wanted: str | None, device: str
) -> Choice:
    """The runtimes to try on `device`. Raises DeviceError when each would crash."""
    order = (wanted,) if wanted else RUNTIMES
    versions = software.versions if software else {}
    there = [name for name in order if name in versions]
    if not there:  # nothing is known: the agent tries, and tells what it could not import
        return Choice(runtimes=order, notes=_state_notes(state, device))
    library = built_for(state.library)
    fit = [name for name in there if not crashes(library, interpreter_of(name, versions))]
    if not fit:
        pairs = ", ".join(f"{name} {_version(name, versions)}" for name in there)
        raise DeviceError(
            f"{device} has {_library(state)} with {pairs}: a libedgetpu for TensorFlow 2.5 crashes"
            " under interpreters from 2.12 on.",
            MATCHING,
            details={"reason": "version_clash", "edgetpu": state.to_json(), "packages": versions},
        )
    notes = _notes(fit[0], library, versions, state, device)
    return Choice(runtimes=tuple(fit), notes=(*notes, *_state_notes(state, device)))


def _notes(
    name: str,
    library: tuple[int, int] | None,
    versions: dict[str, str],
    state: EdgeTpuState,
    device: str,
) -> tuple[str, ...]:
    interpreter = interpreter_of(name, versions)
    if name == "ai_edge_litert":
        return (
            f"{device} runs the Edge TPU under ai_edge_litert {versions[name]}, a pair that nobody"
            " has published a test of; tflite_runtime or pycoral is tested.",
        )
    if library and interpreter and library != interpreter:
        return (
            f"{device} has {_library(state)} with {name} {_version(name, versions)}: built for"
            f" TensorFlow {library[0]}.{library[1]} and {interpreter[0]}.{interpreter[1]}, which"
            " may not fit each other.",
        )
    return ()


def _state_notes(state: EdgeTpuState, device: str) -> tuple[str, ...]:
    notes = []
    if state.stand_in:
        notes.append(f"The libedgetpu of {device} is no Edge TPU: {state.stand_in}.")
    usb = state.of_kind("usb")
    if usb and not state.of_kind("pci") and all(0 < (c.usb_mbit or 0) < 5000 for c in usb):
        notes.append(
            f"The accelerator of {device} hangs on USB 2 ({usb[0].usb_mbit} Mbit/s): transfers, and"
            " models whose parameters are streamed, are several times slower than on USB 3."
        )
    return tuple(notes)


def _version(name: str, versions: dict[str, str]) -> str:
    below = versions.get("tflite_runtime", "none")
    return versions[name] + (f" (on tflite_runtime {below})" if name == "pycoral" else "")


def _library(state: EdgeTpuState) -> str:
    found = state.library
    if found is None:
        return "libedgetpu"
    if found.version:
        return f"{found.owner or 'libedgetpu'} {found.version}"
    return "Google's libedgetpu" if built_for(found) == _GOOGLES else "libedgetpu"
