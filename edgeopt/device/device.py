"""Device: one open connection to one board, and its private work folder."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from edgeopt import paths, registry
from edgeopt.device.facts import read_facts
from edgeopt.device.inventory import DeviceSpec
from edgeopt.device.leasing.lease import Held
from edgeopt.device.transport import Transport
from edgeopt.device.workspace import Workspace
from edgeopt.errors import DeviceError

__all__ = ["Device", "connect"]

_ROOTS = {"adb": "/data/local/tmp/edgeopt"}
_HOME_ROOT = "~/.cache/edgeopt"


@dataclass(kw_only=True)
class Device:
    """Use it in a `with`: leaving it removes what must not stay, and closes the connection."""

    spec: DeviceSpec
    transport: Transport
    workspace: Workspace
    lease: dict[str, Any] | None = None  # set while this process has the device alone
    held: Held | None = None
    known: dict[str, Any] = field(default_factory=dict)  # what a runner asked once a connection
    _facts: dict[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """hostname, os, kernel, arch, cpu, cores, memory_bytes, model; None where unknown.

        Read once a connection. Raises DeviceError when the device does not answer.
        """
        if not self._facts:
            self._facts = read_facts(self.transport)
        return dict(self._facts)

    def lease_reasons(self) -> tuple[str, ...]:
        """Why others may have measured here until now; empty when nobody could. Asks the device."""
        lost = self.held.check() if self.held else ""
        return (f"the lease on the device was lost: {lost}",) if lost else ()

    def close(self) -> None:
        """Idempotent. Removes leftovers first, as far as the connection still lets it."""
        try:
            self.workspace.close()
        finally:
            self.transport.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            return self.close()
        with suppress(DeviceError):  # what went wrong first is what counts
            self.close()
        return None


def connect(spec: DeviceSpec, *, timeout_s: float = 15) -> Device:
    """Open `spec`. Raises DeviceError (unreachable, host key, permission) within `timeout_s`."""
    transport: Transport = registry.load("transports", spec.kind)(spec, timeout_s)
    workspace = Workspace(
        transport,
        root=work_folder(spec),
        limit_bytes=spec.cache_limit_bytes,
        prepare_command=spec.prepare_command,
    )
    return Device(spec=spec, transport=transport, workspace=workspace)


def work_folder(spec: DeviceSpec) -> str:
    """The folder edgeopt keeps to on that device; a leading ~ is the device's home."""
    if spec.workdir:
        return spec.workdir
    if spec.kind == "local":
        return str(paths.cache_dir() / "device")
    return _ROOTS.get(spec.kind, _HOME_ROOT)
