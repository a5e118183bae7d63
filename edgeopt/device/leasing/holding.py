"""A device for this process alone: the lease is taken before anything is sent, and given back."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from edgeopt.device.device import Device, connect
from edgeopt.device.inventory import DeviceSpec
from edgeopt.device.leasing import labgrid
from edgeopt.device.leasing.lease import Board, Held, Lease
from edgeopt.errors import DeviceError, InputError
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

    Raises DeviceError when another has it, InputError where it cannot be noted here: then nothing
    is reserved.
    """
    board, url = board_of(device), device.spec.url
    old = _reservations().get(url)
    lease = board.take(
        purpose=purpose, wait_s=wait_s, progress=progress, under=old, ttl_s=for_s, reserve=True
    )
    try:
        with _noting() as known:
            known[url] = lease.name
    except BaseException:
        board.drop(lease.name)
        raise
    if old:
        board.drop(old)
    return lease


def release(device: Device, *, force: bool) -> list[Lease]:
    """End our reservation, with `force` every lease. Returns those that ended.

    Raises DeviceError when there is none of ours, or without `force` only others'.
    """
    board, url = board_of(device), device.spec.url
    mine = _reservations().get(url)
    live = [lease for lease in board.leases() if lease.live]
    ending = [lease for lease in live if force or lease.name == mine]
    board.drop(*(lease.name for lease in ending))
    if mine:
        with suppress(InputError), _noting() as known:  # a name that nothing has does no harm
            known.pop(url, None)
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


@contextmanager
def _noting() -> Iterator[dict[str, str]]:
    """The reservations, to be changed; written whole, one process at a time.

    Raises InputError where the state folder cannot be written.
    """
    path = state_dir() / _FILE
    try:
        make_private(path.parent)
        lock = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = _reservations()
            yield known
            _write(path, known)
        finally:
            os.close(lock)
    except OSError as error:
        raise InputError(
            f"Reservations cannot be noted in {path.parent}: {error.strerror or error}.",
            "Free some space, or give another folder with EDGEOPT_STATE.",
        ) from error


def _write(path: Path, known: dict[str, str]) -> None:
    if not known:
        path.unlink(missing_ok=True)
        return
    new = Path(f"{path}.{os.getpid()}")
    try:
        new.touch(mode=0o600)
        new.write_text(json.dumps(known, sort_keys=True), encoding="utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
