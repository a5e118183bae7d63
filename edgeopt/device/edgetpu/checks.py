"""The doctor's lines for a Coral board: chip, link, driver, library, runtimes, heat. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from edgeopt.device.check import Check
from edgeopt.device.edgetpu.choice import (
    MATCHING,
    RUNTIMES,
    Software,
    built_for,
    choose,
)
from edgeopt.device.edgetpu.errors import INSTALL, why_closed
from edgeopt.device.edgetpu.state import Chip, EdgeTpuState
from edgeopt.errors import DeviceError

__all__ = ["edgetpu_checks"]

_USB3_MBIT = 5000
_NEAR_MILLIC = 5_000  # a run of some seconds warms the chip by about this


def edgetpu_checks(
    state: EdgeTpuState, software: Software | None, *, device: str
) -> Iterator[Check]:
    """One line where there is no Edge TPU and nothing for one, else all of them."""
    if not state.present and state.library is None:
        yield Check(name="edge tpu", ok=True, found="none", details=state.to_json())
        return
    yield _chips(state)
    yield from _links(state)
    yield from _driver(state)
    yield from _holders(state)
    yield _library(state)
    yield _runtimes(state, software, device)
    yield from _heat(state)


def _chips(state: EdgeTpuState) -> Check:
    found = "; ".join(_chip(chip) for chip in state.chips)
    if any(chip.usable for chip in state.chips):
        return Check(name="edge tpu", ok=True, found=found, details=state.to_json())
    why = why_closed(state)
    absent = why.reason == "no_device"  # the library alone, on a machine that waits for its chip
    return Check(
        name="edge tpu",
        ok=absent,
        warning=absent,
        found=why.what,
        hint=why.hint,
        details=state.to_json(),
    )


def _chip(chip: Chip) -> str:
    rights = f" ({chip.rights})" if chip.rights else ""
    refused = "" if chip.usable else ", may not be opened"
    if chip.kind == "pci":
        return f"PCIe, {chip.node}{rights}{refused}"
    fresh = ", firmware not loaded: the first use does that, and it becomes 18d1:9302"
    return f"USB {chip.usb_id}, {chip.node}{rights}{refused}{fresh if chip.fresh else ''}"


def _links(state: EdgeTpuState) -> Iterator[Check]:
    for chip in state.of_kind("usb"):
        speed = chip.usb_mbit
        if speed is None:
            yield Check(name="usb speed", ok=True, found="not told")
            continue
        slow = speed < _USB3_MBIT
        hint = "Use a USB 3 port and cable: streamed parameters and large inputs wait for the link."
        yield Check(
            name="usb speed",
            ok=True,
            warning=slow,
            found=f"{speed} Mbit/s ({'USB 2' if slow else 'USB 3'})",
            hint=hint if slow else "",
        )


def _driver(state: EdgeTpuState) -> Iterator[Check]:
    if not state.of_kind("pci") and not state.pci_cards:
        return
    named = [f"{name} {version or '(built in)'}" for name, version in state.modules]
    dkms = dict(state.packages).get("gasket-dkms")
    named += [f"gasket-dkms {dkms}"] if dkms else []
    loaded = bool(state.of_kind("pci"))
    hint = "" if loaded else why_closed(state).hint
    words = ", ".join(named) or ("loaded, no version told" if loaded else "not loaded")
    yield Check(
        name="apex driver",
        ok=loaded,
        found=f"{words}; kernel {state.kernel or 'not told'}",
        hint=hint,
    )
    sick = [f"{c.node} is {c.status}" for c in state.of_kind("pci") if c.status not in _WELL]
    if sick:
        hint = "Look at dmesg for apex and gasket, then restart the board."
        yield Check(name="apex status", ok=True, warning=True, found="; ".join(sick), hint=hint)


_WELL = (None, "", "ALIVE")  # gasket's words: ALIVE, LAMED, DEAD (gasket_core.c)


def _holders(state: EdgeTpuState) -> Iterator[Check]:
    if state.holders:
        who = ", ".join(f"{name or '?'} ({pid}) has {node}" for pid, name, node in state.holders)
        hint = "A run will find it busy: end that program first."
        yield Check(name="edge tpu in use", ok=True, warning=True, found=who, hint=hint)


def _library(state: EdgeTpuState) -> Check:
    found = state.library
    if found is None:
        return Check(name="libedgetpu", ok=False, found="not found", hint=INSTALL)
    words = [found.path]
    words += [f"{found.owner} {found.version}"] if found.owner else ["of no Debian package"]
    built = built_for(found)
    words += [f"for TensorFlow {built[0]}.{built[1]}"] if built else ["TensorFlow not told"]
    words += [_clock(found.owner or "", state)]
    if found.stand_in:
        return Check(
            name="libedgetpu",
            ok=True,
            warning=True,
            found=f"{found.path}: {found.stand_in}",
            hint="No figure that it gives is of an Edge TPU. " + INSTALL,
        )
    return Check(name="libedgetpu", ok=True, found=", ".join(word for word in words if word))


def _clock(owner: str, state: EdgeTpuState) -> str:
    """libedgetpu1-std is built for half the clock on USB, by THROTTLE_EDGE_TPU; PCIe has it all."""
    if not state.of_kind("usb"):
        return "500 MHz" if state.of_kind("pci") else ""
    if owner.endswith("-max"):
        return "500 MHz (max: for up to 25 degC around it)"
    if owner.endswith("-std"):
        return "250 MHz on USB (std; libedgetpu1-max has 500 MHz)"
    return "clock not told"


def _runtimes(state: EdgeTpuState, software: Software | None, device: str) -> Check:
    name = "edge tpu runtimes"
    if software is None:
        return Check(name=name, ok=True, found="not told: no Python answers")
    there = {k: v for k, v in software.packages if k in RUNTIMES}
    found = ", ".join(f"{k} {v}" for k, v in there.items()) or "none"
    found += f" (Python {software.python})"
    if not there:
        return Check(name=name, ok=False, found=found, hint=MATCHING)
    try:
        choice = choose(state, software, wanted=None, device=device)
    except DeviceError as error:
        return Check(name=name, ok=False, found=f"{found}: {error.message}", hint=error.hint)
    said = [note for note in choice.notes if not state.stand_in or state.stand_in not in note]
    said = [note for note in said if "USB 2" not in note]  # has a line of its own
    return Check(
        name=name,
        ok=True,
        warning=bool(said),
        found=f"{found}; {choice.runtimes[0]} is used",
        hint=" ".join(said),
    )


def _heat(state: EdgeTpuState) -> Iterator[Check]:
    for chip in state.of_kind("pci"):
        now, trips = chip.temperature_millic, chip.trips_millic
        steps = ", ".join(f"{trip / 1000:g}" for trip in trips)
        held = f"; the driver steps the clock down at {steps} degC" if trips else ""
        if trips and chip.poll_ms == 0:
            held = "; the driver does not look (temp_poll_interval 0): the clock is never stepped"
        hot = chip.shutdown_millic
        off = f", the chip shuts down at {hot / 1000:g}" if hot else ""
        if now is None:
            words = "not told (the sensor sleeps until the chip is opened)"
            yield Check(name="edge tpu heat", ok=True, found=f"{words}{held}{off}")
            continue
        near = bool(trips) and now > trips[0] - _NEAR_MILLIC
        yield Check(
            name="edge tpu heat",
            ok=True,
            warning=near,
            found=f"{now / 1000:.1f} degC{held}{off}",
            hint="Cool it before measuring: from the first step on, a run is refused as invalid."
            if near
            else "",
        )
    if state.of_kind("usb") and not state.of_kind("pci"):
        yield Check(name="edge tpu heat", ok=True, found="not told over USB")
