"""Prepares a device for measuring, and puts everything back, whatever happens.

Cores are chosen to pin the run to; the frequency governor is set where that is permitted. Nothing
is stopped. What was there before is recorded on the device first (prepare_scripts), and put back by
this session, else by a watcher there when this session's lease shows no more life, else by the next
session or `devices clean`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeopt.device.device import Device
from edgeopt.device.leftovers import host_tag
from edgeopt.device.preparing import scripts
from edgeopt.device.preparing.cores import Core, choose, core_list
from edgeopt.device.printable import clean_text, tail
from edgeopt.errors import DeviceError, InputError

__all__ = ["Prepared", "prepare"]

_GOVERNOR = "performance"
_STEP_S = 30.0
_MARGIN_S = 4  # two looks of the watcher, beyond the lease's own time to live
_STUCK = 18


@dataclass(kw_only=True)
class Prepared:
    """What was done to a device. `restore` undoes it, once; `to_json` says both."""

    device: Device
    cores: tuple[int, ...] = ()
    why: str = ""
    governors: dict[int, str] = field(default_factory=dict)  # those that were changed: what was
    had: tuple[int, ...] = ()
    lacking: dict[int, str] = field(default_factory=dict)  # that know no such governor
    refused: dict[int, str] = field(default_factory=dict)
    swept: int = 0
    notes: list[str] = field(default_factory=list)
    record: str = ""
    restored: bool | None = None  # None: there was nothing to put back, or it was not tried yet

    def restore(self) -> None:
        """Put everything back. What stands in the way is in `notes`, and `restored` is False."""
        record, self.record = self.record, ""
        if not record:
            return
        space, words = self.device.workspace, self.device.spec.prepare_command
        argv = ["sh", "-c", scripts.RESTORE, "edgeopt", space.root, record, *words]
        try:
            done = self.device.transport.run(argv, timeout_s=_STEP_S)
        except DeviceError as error:
            self.restored = False
            self.notes.append(
                f"The governor could not be put back now ({error.message.rstrip('.')}): the watcher"
                " on the device does it when the lease has ended."
            )
            return
        said = _lines(done.stdout)
        stuck = [line[1] for line in said if line[0] == "stuck" and len(line) > 1]
        self.restored = done.exit_code == 0
        for line in said:
            if line[0] == "other" and len(line) == 3:
                self.notes.append(
                    f"Core {line[1]}: the governor is {line[2]}, which somebody else has set"
                    " meanwhile; it was left."
                )
        if not self.restored:
            which = f" of core {', '.join(stuck)}" if stuck else ""
            self.notes.append(
                f"The governor{which} could not be put back:"
                f" {tail(done.stderr) or 'the write was refused'}. It is still {_GOVERNOR};"
                " edgeopt devices clean tries again."
            )

    def to_json(self) -> dict[str, Any]:
        changed = {str(core): old for core, old in sorted(self.governors.items())}
        return {
            "cores": list(self.cores) or None,
            "cores_why": self.why or None,
            "governor": _GOVERNOR if changed or self.had else None,
            "governor_before": changed,
            "governor_refused": {str(c): g for c, g in sorted(self.refused.items())},
            "restored": self.restored,
            "notes": list(self.notes),
        }


def prepare(
    device: Device, *, governor: bool, cores: str | None, threads: int, by_agent: bool
) -> Prepared:
    """Choose cores (or check those that were named), and with `governor` set it.

    The device must be held: its lease tells the watcher that this session lives. Raises InputError
    for cores that the device has not, DeviceError when it cannot be asked. What is not permitted
    is in the notes. `by_agent`: the runtime is the Python agent, which pins itself; others need
    taskset. Whoever calls this must call `restore`, also after an error.
    """
    known, isolated, taskset = _survey(device)
    ready = Prepared(device=device)
    if cores is not None:
        ready.cores, ready.why = _named(cores, known, device), "named by the user"
    else:
        ready.cores, ready.why = choose(known, threads, isolated=isolated)
    if not ready.cores:
        ready.notes.append("Not pinned: this device does not tell its cores.")
    elif not taskset and not by_agent:
        ready.cores, ready.why = (), ""
        ready.notes.append("Not pinned: there is no taskset on the device.")
    if 0 < len(ready.cores) < threads:
        many = len(ready.cores)
        ready.notes.append(f"{threads} threads share {many} core{'s' if many > 1 else ''}.")
    if governor:
        try:
            _set(ready)
        except BaseException:
            ready.restore()
            raise
    return ready


def _set(ready: Prepared) -> None:
    device, held = ready.device, ready.device.held
    assert held is not None, "a device is prepared under its lease"
    record = f"{scripts.PREFIX}{host_tag()}-{secrets.token_hex(4)}"
    lease = f"{held.board.folder}/{held.lease.name}"
    silence = str(held.lease.ttl_s + _MARGIN_S)
    ready.record = record
    words = (record, lease, silence, scripts.RESTORE, scripts.WATCH, _GOVERNOR)
    argv = ["sh", "-c", scripts.SET, "edgeopt", device.workspace.root, *words]
    done = device.transport.run([*argv, *device.spec.prepare_command], timeout_s=_STEP_S)
    for kind, *rest in _lines(done.stdout):
        _heed(ready, kind, rest)
    if done.exit_code:
        ready.restore()
        said = tail(done.stderr) or f"exit {done.exit_code}"
        ready.notes.append(f"The governor was not set: no record could be kept ({said}).")
    elif not ready.governors and not ready.refused:
        ready.record = ""
    _tell(ready)


def _heed(ready: Prepared, kind: str, rest: Sequence[str]) -> None:
    if kind == "swept":
        ready.swept += 1
    if len(rest) != 2 or not rest[0].isdigit():
        return
    core, value = int(rest[0]), rest[1]
    if kind == "set":
        ready.governors[core] = value
    elif kind == "had":
        ready.had = (*ready.had, core)
    elif kind == "lacks":
        ready.lacking[core] = value
    elif kind == "refused":
        ready.refused[core] = value


def _tell(ready: Prepared) -> None:
    if ready.refused:
        command = "prepare_command in devices.toml, such as 'sudo -n'"
        way = "that command is not allowed to" if ready.device.spec.prepare_command else command
        ready.notes.append(
            f"The governor of {_cores(ready.refused)} was not set, it stays"
            f" {'/'.join(sorted(set(ready.refused.values())))}: not permitted ({way})."
        )
    if ready.lacking:
        ready.notes.append(
            f"The governor of {_cores(ready.lacking)} was not set: there is no {_GOVERNOR} there."
        )
    if not (ready.governors or ready.had or ready.refused or ready.lacking):
        ready.notes.append("This device has no frequency governor to set.")
    if ready.swept:
        ready.notes.append("A killed session had left its governor set: it was put back first.")


def _cores(found: Mapping[int, str]) -> str:
    numbers = ", ".join(map(str, sorted(found)))
    return f"core {numbers}" if len(found) == 1 else f"cores {numbers}"


def _named(text: str, known: Sequence[Core], device: Device) -> tuple[int, ...]:
    wanted = core_list(text)
    usable = {core.number for core in known}
    if missing := [core for core in wanted if usable and core not in usable]:
        raise InputError(
            f"{device.transport.name} has no core {missing[0]} that may be used.",
            f"Usable are {', '.join(map(str, sorted(usable)))}.",
        )
    if not usable:
        raise InputError(
            f"{device.transport.name} does not tell its cores, so nothing can be pinned there.",
            "Leave --cores out.",
        )
    return wanted


def _survey(device: Device) -> tuple[list[Core], tuple[int, ...], bool]:
    """The cores that may be used, those the kernel keeps apart, and whether taskset is there."""
    done = device.transport.run(["sh", "-c", scripts.SURVEY], timeout_s=_STEP_S)
    said: dict[str, dict[str, str]] = {}
    for kind, *rest in _lines(done.stdout):
        if len(rest) == 1:
            said.setdefault(kind, {})[rest[0]] = rest[0]
        elif len(rest) == 2:
            said.setdefault(kind, {})[rest[0]] = rest[1]
    numbers = [n for n in said.get("core", {}) if n.isdigit() and len(n) < 5]
    allowed = _listed(said.get("allowed", {}))
    online = {n for n in numbers if said.get("online", {}).get(n, "1") == "1"}
    cores = [
        Core(
            number=int(n),
            capacity=_number(said.get("capacity", {}).get(n)),
            max_khz=_number(said.get("khz", {}).get(n)),
            siblings=_listed({"": said.get("siblings", {}).get(n, "")}),
        )
        for n in sorted(online, key=int)
        if not allowed or int(n) in allowed
    ]
    # Without the list of what a process may use (macOS) nothing can be pinned either.
    isolated = _listed(said.get("isolated", {}))
    return (cores if allowed else []), isolated, b"\ntaskset" in done.stdout


def _listed(said: Mapping[str, str]) -> tuple[int, ...]:
    try:
        return core_list(next(iter(said.values()), ""))
    except InputError:
        return ()


def _number(text: str | None) -> int | None:
    good = text is not None and text.isascii() and text.isdigit() and len(text) < 16
    return int(text) if good and text is not None else None


def _lines(output: bytes) -> list[list[str]]:
    text = clean_text(output.decode(errors="replace"), 200_000)
    return [line.split() for line in text.splitlines() if line.split()]
