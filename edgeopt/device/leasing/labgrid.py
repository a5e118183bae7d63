"""Devices of labgrid: the lock on a place, and its address, by the labgrid-client program.

labgrid's own SSH driver does not check host keys, so edgeopt takes lock and address from it and
connects itself. Its lock is of a user on a host: two runs of one user are kept apart by the lease
on the device, which is taken as well.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from edgeopt import stop
from edgeopt.device.inventory import DeviceSpec
from edgeopt.device.printable import clean_text, tail
from edgeopt.errors import DeviceError, InputError, ToolError
from edgeopt.progress import Progress

__all__ = ["acquired", "holder"]

_STEP_S = 60.0
_LOOK_S = 2.0
_TELL_S = 30.0
# The messages of labgrid 26.0 (labgrid/remote/client.py); it ends with 1 for every reason.
_OURS = "you have already acquired"
_TAKEN = re.compile(r"is already acquired by ([^\s.]+)")
_HOLDER = re.compile(r"^\s*acquired: (\S+)$", re.MULTILINE)
_FIELD = re.compile(r"^\s+(address|username|port): *['\"]?([^'\"\s]+)['\"]?$", re.MULTILINE)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:%-]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.$-]*")


@contextmanager
def acquired(spec: DeviceSpec, *, wait_s: float, progress: Progress) -> Iterator[DeviceSpec]:
    """Hold the place of `spec`; gives the spec with the place's address where it has none.

    A place that was acquired before by the same user on this host stays so. Raises ToolError
    without labgrid-client, DeviceError when the place cannot be had within `wait_s`.
    """
    assert spec.labgrid is not None
    client = _Client(spec.labgrid, spec.labgrid_coordinator)
    ours_before = client.acquire(wait_s, progress)
    try:
        yield client.address(spec) if not spec.host and spec.kind == "ssh" else spec
    finally:
        if not ours_before:
            client.release()


def holder(spec: DeviceSpec) -> str:
    """`host/user` that has the place, "" when nobody has."""
    assert spec.labgrid is not None
    done = _Client(spec.labgrid, spec.labgrid_coordinator).run("show")
    found = _HOLDER.search(done.out)
    who = found.group(1) if found and found.group(1) != "None" else ""
    return clean_text(who, 100)


@dataclass(frozen=True)
class _Answer:
    code: int
    out: str
    error: str


@dataclass(frozen=True)
class _Client:
    place: str
    coordinator: str | None

    def run(self, *words: str) -> _Answer:
        program = shutil.which("labgrid-client")
        if program is None:
            raise ToolError(
                f"The place {self.place!r} is of labgrid, and there is no labgrid-client here.",
                "Install it (pip install labgrid), in PATH.",
            )
        where = ["-x", self.coordinator] if self.coordinator else []
        argv = [program, *where, "-p", self.place, *words]
        try:
            done = subprocess.run(
                argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=_STEP_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise DeviceError(
                f"labgrid-client {words[0]} did not end within {_STEP_S:g} s.",
                "Is the coordinator reachable (LG_COORDINATOR, labgrid_coordinator)?",
            ) from error
        out, error_text = (s.decode(errors="replace") for s in (done.stdout, done.stderr))
        answer = _Answer(done.returncode, clean_text(out, 20_000), clean_text(error_text, 2000))
        if done.returncode and "connect to coordinator" in answer.error:
            raise DeviceError(
                f"labgrid's coordinator cannot be reached: {tail(done.stderr)}.",
                "Start it, or name it with LG_COORDINATOR or labgrid_coordinator.",
            )
        return answer

    def acquire(self, wait_s: float, progress: Progress) -> bool:
        """True when the place was ours before."""
        began, told = time.monotonic(), -_TELL_S
        while (done := self.run("acquire")).code:
            if _OURS in done.error.lower():
                return True
            taken = _TAKEN.search(done.error)
            if taken is None:
                raise DeviceError(
                    f"labgrid does not give the place {self.place!r}: "
                    f"{tail(done.error.encode()) or 'it said nothing'}.",
                    "See labgrid-client places.",
                )
            waited = time.monotonic() - began
            if waited >= wait_s:
                raise DeviceError(
                    f"The labgrid place {self.place!r} is in use: {taken.group(1)} has it.",
                    "Wait longer (--wait SECONDS), or ask for it.",
                    details={"busy": True, "lease": {"owner": taken.group(1)}},
                )
            if waited - told >= _TELL_S:
                told = waited
                progress.stage(f"Waiting for the place {self.place}: {taken.group(1)} has it")
            stop.sleep(_LOOK_S)
        return False

    def release(self) -> None:
        done = self.run("release")
        if done.code:
            raise DeviceError(
                f"labgrid did not take the place {self.place!r} back: {tail(done.error.encode())}.",
                f"Release it with labgrid-client -p {self.place} release.",
            )

    def address(self, spec: DeviceSpec) -> DeviceSpec:
        """The NetworkService of the place, as labgrid's own configuration for it says."""
        said = dict(_FIELD.findall(self.run("env").out))
        host, user, port = (said.get(key, "") for key in ("address", "username", "port"))
        if not _HOST.fullmatch(host) or (user and not _USER.fullmatch(user)):
            raise InputError(
                f"The labgrid place {self.place!r} has no NetworkService with an address.",
                f"Export one for it, or write url = ... for {spec.name} in devices.toml.",
            )
        number = int(port) if port.isdecimal() and 0 < int(port) < 65536 else None
        return replace(spec, host=host, user=spec.user or user or None, port=spec.port or number)
