"""A device for this process alone: the lease is taken before anything is sent, and given back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from edgeopt.device.device import Device, connect
from edgeopt.device.inventory import DeviceSpec
from edgeopt.device.leasing import labgrid
from edgeopt.device.leasing.lease import Board, Held, Lease
from edgeopt.errors import DeviceError
from edgeopt.paths import make_private, state_dir
from edgeopt.progress import Progress, Silent

__all__ = ["board_of", "held", "reached", "release", "reserve"]

_SHARED_MODE = "1777"  # of a folder for several logins: each may end only its own leases
_FILE = "reservations.json"


@contextmanager
def held(
    spec: DeviceSpec,
    *,
    purpose: str,
    wait_s: float,
    progress: Progress | None = None,
    timeout_s: float = 15,
) -> Iterator[Device]:
    """Open `spec` and have it alone until the block ends; `device.lease` says so.

    `wait_s` is how long another owner is waited for. Raises DeviceError: busy (its details name the
    owner) or unreachable. Whether the lease was kept all the time is `device.lease_reasons()`.
    """
    shown = progress or Silent()
    began = time.monotonic()
    place = (
        labgrid.acquired(spec, wait_s=wait_s, progress=shown) if spec.labgrid else nullcontext(spec)
    )
    with place as found, connect(found, timeout_s=timeout_s) as device:
        board = board_of(device)
        left = max(0.0, wait_s - (time.monotonic() - began))
        under = _reservations().get(spec.url)
        lease = board.take(purpose=purpose, wait_s=left, progress=shown, under=under)
        with Held(board, lease) as keeper:
            device.held = keeper
            device.lease = {
                "owner": lease.owner,
                "purpose": lease.purpose,
                "since": lease.since,
                "waited_s": round(time.monotonic() - began, 3),
                "labgrid": spec.labgrid,
            }
            yield device


@contextmanager
def reached(spec: DeviceSpec, *, timeout_s: float = 15) -> Iterator[Device]:
    """Open `spec` only to look: no lease is taken, but labgrid's place is, where it has one."""
    place = (
        labgrid.acquired(spec, wait_s=0, progress=Silent()) if spec.labgrid else nullcontext(spec)
    )
    with place as found, connect(found, timeout_s=timeout_s) as device:
        yield device


def board_of(device: Device) -> Board:
    """Where that device keeps its leases: lease_dir of devices.toml, else its work folder."""
    if device.spec.lease_dir:
        return Board(transport=device.transport, folder=device.spec.lease_dir, mode=_SHARED_MODE)
    return Board(transport=device.transport, folder=device.workspace.root)


def reserve(
    device: Device, *, purpose: str, for_s: int, wait_s: float, progress: Progress
) -> Lease:
    """Keep a device for this user beyond this process; runs of the same user here may use it.

    Raises DeviceError when another has it.
    """
    known = _reservations()
    board = board_of(device)
    old = known.get(device.spec.url)
    lease = board.take(
        purpose=purpose, wait_s=wait_s, progress=progress, under=old, ttl_s=for_s, reserve=True
    )
    if old:
        board.drop(old)
    _write(known | {device.spec.url: lease.name})
    return lease


def release(device: Device, *, force: bool) -> list[Lease]:
    """End our reservation, with `force` every lease. Returns those that ended.

    Raises DeviceError when there is none of ours, or without `force` only others'.
    """
    known, board = _reservations(), board_of(device)
    mine = known.pop(device.spec.url, None)
    live = [lease for lease in board.leases() if lease.live]
    ending = [lease for lease in live if force or lease.name == mine]
    board.drop(*(lease.name for lease in ending))
    _write(known)
    if not ending:
        raise DeviceError(
            f"{device.transport.name} is not reserved by you"
            + (f": {live[0]}." if live else ", nor by anybody."),
            "End another's lease with --force." if live else "",
        )
    return ending


def _reservations() -> dict[str, str]:
    """By device address: the names of leases that outlived the process that took them."""
    try:
        found: Any = json.loads((state_dir() / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _write(known: dict[str, str]) -> None:
    path = state_dir() / _FILE
    if not known:
        path.unlink(missing_ok=True)
        return
    make_private(path.parent)
    new = Path(f"{path}.{os.getpid()}")
    new.touch(mode=0o600)
    new.write_text(json.dumps(known, sort_keys=True), encoding="utf-8")
    new.replace(path)
