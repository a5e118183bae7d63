"""Before a run on an Edge TPU: look at the board and decide what may be loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeopt.device.device import Device
from edgeopt.device.edgetpu.choice import Choice, Software, choose, read_software
from edgeopt.device.edgetpu.options import delegate_options
from edgeopt.device.edgetpu.state import EdgeTpuState, read_state

__all__ = ["EdgeTpuRun", "prepared"]


@dataclass(frozen=True, kw_only=True)
class EdgeTpuRun:
    """`options` go to libedgetpu's plugin as they are."""

    state: EdgeTpuState
    software: Software | None
    choice: Choice
    options: dict[str, str]

    @property
    def pair(self) -> str:
        """The library and the runtimes there, for a message: "16.0 with pycoral 2.0.0"."""
        library = self.state.library
        version = (library.version or library.label) if library else None
        there = self.software.versions if self.software else {}
        names = [f"{name} {there[name]}" for name in self.choice.runtimes if name in there]
        return f"libedgetpu {version or 'of unknown version'} with {', '.join(names) or 'no known'}"

    @property
    def invalid_reasons(self) -> tuple[str, ...]:
        """A stand-in answers in some time: that of no Edge TPU."""
        stand_in = self.state.stand_in
        return (f"a stand-in for libedgetpu answered ({stand_in})",) if stand_in else ()

    def to_json(self) -> dict[str, Any]:
        """What the report keeps under the device's facts."""
        return {
            **self.state.to_json(),
            "packages_python": self.software.versions if self.software else None,
            "options": self.options,
        }


def prepared(device: Device, command: list[str], options: Mapping[str, str]) -> EdgeTpuRun:
    """`command` starts the device's Python. Nothing is loaded yet.

    Raises InputError for options that libedgetpu would not heed, DeviceError for a pair of library
    and runtime that would crash, or when the device does not answer.
    """
    spec = device.spec
    given = delegate_options(
        options.get("edgetpu_device") or spec.edgetpu_device or "",
        options.get("edgetpu_performance") or spec.edgetpu_performance or "",
    )
    state = read_state(device.transport)
    software = read_software(device.transport, command)
    wanted = options.get("interpreter")
    choice = choose(state, software, wanted=wanted, device=device.transport.name)
    return EdgeTpuRun(state=state, software=software, choice=choice, options=given)
