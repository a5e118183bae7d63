"""The runtime of targets that edgeopt compiles for and cannot run on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from edgeopt.errors import DeviceError

if TYPE_CHECKING:
    from edgeopt.device.device import Device
    from edgeopt.device.run import RunRequest
    from edgeopt.progress import Progress

__all__ = ["run"]


def run(device: Device, request: RunRequest, progress: Progress) -> NoReturn:
    """Raises DeviceError always."""
    raise DeviceError(
        f"edgeopt has no runtime for {request.accelerator}: {device.spec.name} was not used.",
        "Leave the run out with --no-run, and build the compiled file into your firmware.",
    )
