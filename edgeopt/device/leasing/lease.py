"""A lease on a device: who has it, for what, until when. The device keeps it, by its own clock.

Whoever finds a live lease of another does not measure. An owner shows that it lives; one that was
killed, cut off or rebooted away is held no longer than its time to live.
"""

from __future__ import annotations

import getpass
import os
import platform
import random
import re
import secrets
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

from edgeopt import stop
from edgeopt.device.leasing import scripts
from edgeopt.device.leftovers import host_tag, is_dead
from edgeopt.device.printable import clean_text, tail
from edgeopt.device.transport import Transport
from edgeopt.errors import DeviceError, InputError
from edgeopt.progress import Progress

__all__ = ["Board", "Held", "Lease", "me"]

_TTL_S = 60  # without a sign of life; EDGEOPT_LEASE_TTL
_BEATS = 4  # signs of life in that time
_STEP_S = 30.0
_CHECK_S = 5.0
_LOOK_S = 1.0
_TELL_S = 30.0
_LONGEST_S = 30 * 86_400
_NOT_OURS, _ENDED, _SILENT = 14, 17, 18  # exit codes of the scripts
_NO_FOLDER, _FULL, _TRIES = (11, 14), 24, 4
_NAME = re.compile(r"lease-[a-z0-9-]{1,80}")  # what a device lists is not trusted: it is removed


def me() -> str:
    """Who asks: EDGEOPT_OWNER, else user@host."""
    if named := os.environ.get("EDGEOPT_OWNER", "").strip():
        return _line(named, 100)
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without that user in /etc/passwd
        user = f"uid {os.getuid()}"
    return _line(f"{user}@{platform.node()}", 100)


@dataclass(frozen=True, kw_only=True)
class Lease:
    """One owner's hold on a device. Times in seconds; `since` is the owner's own clock, in UTC."""

    name: str
    owner: str
    purpose: str
    since: str
    ttl_s: int
    quiet_s: int  # since its owner's last sign of life, on the device's clock
    live: bool

    @property
    def expires_in_s(self) -> int:
        """When it ends if nothing more is heard of its owner; 0 when it has."""
        return max(0, self.ttl_s - self.quiet_s) if self.live else 0

    def __str__(self) -> str:
        return f"{self.owner} has it for {self.purpose or 'no stated purpose'} (since {self.since})"

    def to_json(self) -> dict[str, Any]:
        return {
            "owner": self.owner,
            "purpose": self.purpose,
            "since": self.since,
            "ttl_s": self.ttl_s,
            "expires_in_s": self.expires_in_s,
            "live": self.live,
        }


@dataclass(frozen=True, kw_only=True)
class Board:
    """Where the leases of one device are: `folder` there, made with `mode` ('' when it exists).

    Every call raises DeviceError when the device does not answer or cannot keep leases.
    """

    transport: Transport
    folder: str
    mode: str = ""

    def leases(self) -> list[Lease]:
        """All of them, dead ones too; the dead ones that are our login's are removed there."""
        found = self._listed(scripts.LIST)
        if dead := [lease.name for lease in found if not lease.live]:
            self._run(scripts.DROP, *dead, may=(_NOT_OURS,))
        return found

    def refuse_others(self) -> None:
        """Raises DeviceError, with the holder in its details, where somebody has the device."""
        if live := [lease for lease in self.leases() if lease.live]:
            raise self._busy(live[0], 0)

    def take(
        self,
        *,
        purpose: str,
        wait_s: float,
        progress: Progress,
        under: str | None = None,
        ttl_s: int | None = None,
        reserve: bool = False,
    ) -> Lease:
        """Wait until nobody else has the device, then have it.

        `under` is a reservation of our own, which is no obstacle. With `reserve` the lease is such
        a reservation: it outlives this process. `ttl_s` None: EDGEOPT_LEASE_TTL, else 60 s. Raises
        DeviceError after `wait_s`, or at once when that is 0: its details name the holder.
        """
        ttl_s = _ttl_s() if ttl_s is None else ttl_s
        tag = "reserved" if reserve else host_tag()
        name = f"lease-{tag}-{secrets.token_hex(8)}"
        began, told = time.monotonic(), -_TELL_S
        while True:
            others = [o for o in self.leases() if o.live and o.name != under]
            if not others:
                mine = self._try(name, purpose, ttl_s, under)
                if mine:
                    return mine
            waited = time.monotonic() - began
            if others:
                if waited >= wait_s:
                    raise self._busy(others[0], waited)
                if waited - told >= _TELL_S:
                    told = waited
                    progress.stage(f"Waiting for {self.transport.name}: {others[0]}")
            stop.sleep(_LOOK_S * random.uniform(0.5, 1.5))

    def beat(self, lease: Lease, *, timeout_s: float = _STEP_S) -> str:
        """A sign of life. Not empty: why the lease is over."""
        words = (lease.name, str(lease.ttl_s), secrets.token_hex(8))
        done = self._run(scripts.BEAT, *words, may=(_ENDED, _SILENT), timeout_s=timeout_s)
        if done == _SILENT:
            return f"there was no sign of life for over {lease.ttl_s} s"
        return "somebody ended it" if done else ""

    def drop(self, *names: str) -> None:
        """End leases; what is not there is no error, what is another login's is."""
        if names and self._run(scripts.DROP, *names, may=(_NOT_OURS,)):
            raise DeviceError(
                f"A lease in {self.folder} on {self.transport.name} is another login's: it was not"
                " ended.",
                "Ask its owner, or wait until it expires (edgeopt devices leases).",
            )

    def _try(self, name: str, purpose: str, ttl_s: int, under: str | None) -> Lease | None:
        since = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
        owner, text = me(), _line(purpose, 200)
        said = "\n".join((f"ttl {ttl_s}", f"owner {owner}", f"purpose {text}", f"since {since}"))
        try:
            found = self._listed(scripts.TAKE, name, said)
        except BaseException:  # also Ctrl-C: it may have been written
            self._withdraw(name)
            raise
        if any(o.live and o.name not in (name, under) for o in found):
            self.drop(name)
            return None
        mine = next((o for o in found if o.name == name), None) or self._vanished()
        if not mine.live:  # so slow a step that others count it out already
            self.drop(name)
            return None
        return mine

    def _withdraw(self, name: str) -> None:
        try:
            self.drop(name)
        except DeviceError:
            return  # its time to live ends it

    def _vanished(self) -> Lease:
        raise DeviceError(
            f"{self.transport.name} did not keep the lease that was written to {self.folder}.",
            "Check its storage, or whether somebody empties that folder.",
        )

    def _listed(self, script: str, *words: str) -> list[Lease]:
        argv = ["sh", "-c", script, "edgeopt", self.folder, self.mode, *words]
        for _ in range(_TRIES):
            done = self.transport.run(argv, timeout_s=_STEP_S)
            if done.exit_code not in _NO_FOLDER:
                break  # else a session that ended removed the empty folder under our feet
        lines = clean_text(done.stdout.decode(errors="replace"), 200_000).splitlines()
        if done.exit_code or "end" not in lines[-1:]:
            raise self._failed(done.exit_code, done.stdout + done.stderr)
        return _parsed(lines)

    def _run(
        self, script: str, *words: str, may: tuple[int, ...] = (), timeout_s: float = _STEP_S
    ) -> int:
        argv = ["sh", "-c", script, "edgeopt", self.folder, self.mode, *words]
        done = self.transport.run(argv, timeout_s=timeout_s)
        if done.exit_code and done.exit_code not in may:
            raise self._failed(done.exit_code, done.stderr)
        return done.exit_code

    def _failed(self, code: int, said: bytes) -> DeviceError:
        if code == _FULL:
            return DeviceError(
                f"{self.transport.name} has no space left for a lease in {self.folder}.",
                "Free some (edgeopt devices clean DEVICE removes what edgeopt keeps there), or give"
                " a workdir elsewhere.",
                details={"full": True},
            )
        return DeviceError(
            f"{self.transport.name} cannot keep a lease in {self.folder} (exit {code}):"
            f" {tail(said) or 'it said nothing'}.",
            "Give a writable folder: workdir, or lease_dir for several logins, in devices.toml.",
        )

    def _busy(self, other: Lease, waited_s: float) -> DeviceError:
        after = f" after {waited_s:.0f} s of waiting" if waited_s >= 1 else ""
        return DeviceError(
            f"{self.transport.name} is in use{after}: {other}.",
            f"Wait longer (--wait SECONDS; it ends in {other.expires_in_s} s unless renewed),"
            " or end it with edgeopt devices release DEVICE --force.",
            details={"busy": True, "lease": other.to_json()},
        )


class Held:
    """Keeps a lease alive from a thread of its own, and ends it. Use it in a `with`.

    `lost` says why others may have measured at the same time, else it is empty.
    """

    def __init__(self, board: Board, lease: Lease) -> None:
        self.board, self.lease, self.lost = board, lease, ""
        self._end = threading.Event()
        self._one = threading.Lock()
        self._heard = time.monotonic()
        self._thread = threading.Thread(target=self._keep, daemon=True, name="edgeopt-lease")

    def __enter__(self) -> Held:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join(timeout=_STEP_S)
        self.board._withdraw(self.lease.name)

    def check(self) -> str:
        """`lost`, as it is now: what happened since the last sign of life counts as well."""
        if not self.lost and not self._end.is_set():
            self._beat(_CHECK_S)
        return self.lost

    def _beat(self, timeout_s: float) -> None:
        if not self._one.acquire(timeout=timeout_s):
            return  # the one before still waits for its answer
        try:
            self.lost = self.lost or self.board.beat(self.lease, timeout_s=timeout_s)
            self._heard = time.monotonic()
        except DeviceError:
            if time.monotonic() - self._heard > self.lease.ttl_s:
                self.lost = f"the device was out of reach for over {self.lease.ttl_s} s"
        finally:
            self._one.release()

    def _keep(self) -> None:
        while not self.lost and not self._end.wait(self.lease.ttl_s / _BEATS):
            self._beat(_STEP_S)


def _ttl_s() -> int:
    text = os.environ.get("EDGEOPT_LEASE_TTL", "").strip() or str(_TTL_S)
    if not text.isdecimal() or not 4 <= int(text) <= _LONGEST_S:
        raise InputError(
            f"EDGEOPT_LEASE_TTL is {text!r}.", f"Give 4 to {_LONGEST_S} seconds, or unset it."
        )
    return int(text)


def _parsed(lines: list[str]) -> list[Lease]:
    """The listing as values; a lease that makes no sense is one that is dead."""
    found: list[tuple[str, str, str, dict[str, str]]] = []
    for line in lines:
        words = line.split(" ")
        if words[0] == "lease" and len(words) == 4 and _NAME.fullmatch(words[1]):
            found.append((words[1], words[2], words[3], {}))
        elif line.startswith("| ") and found:
            key, _, value = line[2:].partition(" ")
            found[-1][3].setdefault(key, value)
        elif words[0] == "lease":
            found.append(("", "0", "other", {}))  # takes the lines of one that is passed over
    return [_lease(*row) for row in found if row[0]]


def _lease(name: str, quiet: str, boot: str, said: dict[str, str]) -> Lease:
    ttl = int(said["ttl"]) if said.get("ttl", "").isdecimal() and len(said["ttl"]) < 9 else 0
    seconds = int(quiet) if quiet.isdecimal() and len(quiet) < 12 else 0
    alive = boot == "same" and seconds <= min(ttl, _LONGEST_S)
    return Lease(
        name=name,
        owner=_line(said.get("owner", ""), 100) or "somebody",
        purpose=_line(said.get("purpose", ""), 200),
        since=_line(said.get("since", ""), 40),
        ttl_s=ttl,
        quiet_s=seconds,
        live=alive and not is_dead(name.removeprefix("lease-")),
    )


def _line(text: str, limit: int) -> str:
    return " ".join(clean_text(text, limit).split())
