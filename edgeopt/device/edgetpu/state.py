"""What a board says about its Edge TPU: nodes, driver, library, heat, who has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgeopt.device.edgetpu.script import SCRIPT
from edgeopt.device.printable import clean_text
from edgeopt.device.transport import Transport

__all__ = ["Chip", "EdgeTpuState", "Library", "parse_state", "read_state"]

_TIMEOUT_S = 20
_NEW_USB = "1a6e:089a"  # until its firmware is loaded, which the first use after plugging in does
_ASLEEP_MILLIC = -40_000  # below what the chip is specified for: its sensor is off until opened
_LINE = re.compile(r"([a-z]+)\.([A-Za-z0-9:_+-]+)\.([a-z0-9_]+)=(.*)")


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One Edge TPU. Temperatures in thousandths of a degree Celsius; None is "not told"."""

    kind: str  # "pci" or "usb"
    node: str
    access: str  # "yes", "no" or "absent"
    rights: str | None = None  # "crw-rw---- root apex"
    usb_id: str | None = None
    usb_mbit: int | None = None
    temperature_millic: int | None = None
    trips_millic: tuple[int, ...] = ()
    shutdown_millic: int | None = None
    poll_ms: int | None = None  # how often the driver compares them; 0 is never
    status: str | None = None

    @property
    def usable(self) -> bool:
        return self.access == "yes"

    @property
    def fresh(self) -> bool:
        """A USB accelerator whose firmware is not loaded yet."""
        return self.usb_id == _NEW_USB


@dataclass(frozen=True, kw_only=True)
class Library:
    """libedgetpu as the loader finds it; `owner` is the Debian package that the file is of."""

    path: str
    owner: str | None = None
    version: str | None = None  # of `owner`, e.g. "16.0" or "16.0tf2.17.1-1"
    label: str | None = None  # "COMPILER=6.3.0 20170516,DATE=redacted,TIME=redacted"
    stand_in: str | None = None  # how a double calls itself


@dataclass(frozen=True, kw_only=True)
class EdgeTpuState:
    """`holders` are (process, name, node) of those who have a node open, as far as this user sees.

    `pci_cards` are the drivers bound to the PCIe cards, "" for none. `modules` and `packages` are
    names to versions, "" where there is none.
    """

    chips: tuple[Chip, ...] = ()
    pci_cards: tuple[str, ...] = ()
    library: Library | None = None
    modules: tuple[tuple[str, str], ...] = ()
    packages: tuple[tuple[str, str], ...] = ()
    holders: tuple[tuple[int, str, str], ...] = ()
    user: str | None = None
    groups: tuple[str, ...] = ()
    kernel: str | None = None
    system: str | None = None  # as `uname -s` says it; only Linux tells of its chips

    @property
    def present(self) -> bool:
        return bool(self.chips or self.pci_cards)

    @property
    def stand_in(self) -> str | None:
        return self.library.stand_in if self.library else None

    def of_kind(self, kind: str) -> tuple[Chip, ...]:
        return tuple(chip for chip in self.chips if chip.kind == kind)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; temperatures in thousandths of a degree Celsius, None is "not told"."""
        return {
            "chips": [{**vars(c), "trips_millic": list(c.trips_millic)} for c in self.chips],
            "pci_drivers": list(self.pci_cards),
            "library": vars(self.library) if self.library else None,
            "modules": dict(self.modules),
            "packages": dict(self.packages),
            "holders": [{"pid": p, "name": n, "node": d} for p, n, d in self.holders],
            "user": self.user,
            "groups": list(self.groups),
            "kernel": self.kernel,
            "system": self.system,
            "is_double": self.stand_in is not None,
        }


def read_state(transport: Transport, root: str = "") -> EdgeTpuState:
    """Looks through one shell script; nothing is opened. Raises DeviceError when unreachable.

    `root` stands before every path: the board's file system when it is mounted elsewhere.
    """
    answer = transport.run(["sh", "-c", SCRIPT, "edgeopt", root], timeout_s=_TIMEOUT_S)
    return parse_state(answer.stdout.decode(errors="replace"))


def parse_state(text: str) -> EdgeTpuState:
    """The script's lines; what is not of their form is passed over."""
    said: dict[str, dict[str, dict[str, str]]] = {}
    for line in clean_text(text, 50_000).splitlines():
        if found := _LINE.fullmatch(line):
            section, index, key, value = found.groups()
            table = said.setdefault(section, {}).setdefault(index, {})
            table.setdefault(key, value.strip()[:300])
    user = said.get("user", {}).get("0", {})
    packages = {k: v.get("version", "") for k, v in said.get("package", {}).items()}
    return EdgeTpuState(
        chips=(*_chips(said, "apex", "pci"), *_chips(said, "usb", "usb")),
        pci_cards=tuple(row.get("driver", "") for row in said.get("pci", {}).values()),
        library=_library(said.get("library", {}).get("0", {}), packages),
        modules=tuple((k, v.get("version", "")) for k, v in said.get("module", {}).items()),
        packages=tuple(packages.items()),
        holders=tuple(
            (int(pid), row.get("name", ""), row.get("node", ""))
            for pid, row in said.get("holder", {}).items()
            if pid.isdecimal() and len(pid) < 12
        ),
        user=user.get("name") or None,
        groups=tuple(user.get("groups", "").split()),
        kernel=said.get("kernel", {}).get("0", {}).get("release"),
        system=said.get("kernel", {}).get("0", {}).get("system"),
    )


def _chips(said: dict[str, dict[str, dict[str, str]]], section: str, kind: str) -> Iterator[Chip]:
    for row in said.get(section, {}).values():
        heat = _number(row.get("temp"))
        trips = (_number(row.get(f"trip_point{n}_temp")) for n in range(3))
        yield Chip(
            kind=kind,
            node=row.get("node", ""),
            access=row.get("access", "no"),
            rights=row.get("rights"),
            usb_id=row.get("id"),
            usb_mbit=_number(row.get("speed")),
            temperature_millic=None if heat is None or heat < _ASLEEP_MILLIC else heat,
            trips_millic=tuple(trip for trip in trips if trip is not None and trip > 0),
            shutdown_millic=(
                _number(row.get("hw_temp_warn2")) if row.get("hw_temp_warn2_en") != "0" else None
            ),
            poll_ms=_number(row.get("temp_poll_interval")),
            status=row.get("status"),
        )


def _library(row: dict[str, str], packages: dict[str, str]) -> Library | None:
    if not row.get("path"):
        return None
    owner = row.get("owner") or None
    return Library(
        path=row["path"],
        owner=owner,
        version=packages.get(owner or ""),
        label=row.get("label") or None,
        stand_in=row.get("stand_in") or None,
    )


def _number(text: str | None) -> int | None:
    digits = (text or "").removeprefix("-")
    return int(text or "") if digits.isascii() and digits.isdigit() and len(digits) < 10 else None
