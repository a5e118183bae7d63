"""Why an Edge TPU did not run: libedgetpu gives no reason, so the board itself is looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeopt.device.edgetpu.choice import MATCHING
from edgeopt.device.edgetpu.state import Chip, EdgeTpuState

__all__ = ["APEX_RULE", "INSTALL", "USB_RULES", "Why", "heard", "why_closed"]

# As in debian/*.udev of google-coral/libedgetpu and google/gasket-driver.
USB_RULES = (
    'SUBSYSTEM=="usb",ATTRS{idVendor}=="1a6e",ATTRS{idProduct}=="089a",GROUP="plugdev"',
    'SUBSYSTEM=="usb",ATTRS{idVendor}=="18d1",ATTRS{idProduct}=="9302",GROUP="plugdev"',
)
APEX_RULE = 'SUBSYSTEM=="apex", MODE="0660", GROUP="apex"'
INSTALL = (
    "Install libedgetpu1-std there (coral.ai/software, or a later build from"
    " github.com/feranick/libedgetpu), so that the loader finds libedgetpu.so.1."
)
_TOO_OLD = re.compile(
    r"requires runtime version \((\d+)\), which is newer than this runtime version \((\d+)\)"
)


@dataclass(frozen=True, kw_only=True)
class Why:
    """`reason` is for programs: no_device, no_driver, no_node, wrong_index, no_permission, busy,
    unknown, library, runtime_too_old, no_delegate, version_clash."""

    reason: str
    what: str
    hint: str


def why_closed(state: EdgeTpuState, device: str = "") -> Why:
    """What is most likely wrong when the delegate does not open; `device` is what was asked for."""
    if not state.present and state.system not in (None, "Linux"):
        return Why(
            reason="unknown",
            what=f"{state.system} does not tell why",
            hint="See that it is plugged in and that no other program has it; then plug it in"
            " again.",
        )
    if not state.present:
        return Why(
            reason="no_device",
            what="no Edge TPU is to be seen there (no /dev/apex_0, no USB 1a6e:089a or 18d1:9302)",
            hint="Plug it in; a USB accelerator wants a USB 3 port and its own cable.",
        )
    if state.pci_cards and not state.of_kind("pci") and not state.of_kind("usb"):
        return Why(
            reason="no_driver",
            what="a PCIe Edge TPU is there, but no /dev/apex_0: the apex driver is not loaded",
            hint="Install gasket-dkms and the headers of that kernel"
            f" ({state.kernel or 'uname -r'}), then run: sudo modprobe apex. Kernels from 6.8 on"
            " need a patched gasket.",
        )
    kind, _, index = device.partition(":")
    chips = state.of_kind(kind) if kind else state.chips
    if not chips or (index.isdecimal() and int(index) >= len(chips)):
        found = ", ".join(chip.node for chip in state.chips) or "a card without a driver"
        return Why(
            reason="wrong_index",
            what=f"device {device!r} was asked for, and that board has {found}",
            hint=f"Counting starts at 0: name one of {len(chips)}, or leave edgetpu_device out."
            if chips
            else "Correct edgetpu_device, or leave it out.",
        )
    if not any(chip.usable for chip in chips):
        return _refused(chips[0], state)
    return _held(chips, state)


def _refused(chip: Chip, state: EdgeTpuState) -> Why:
    if chip.access == "absent":
        return Why(
            reason="no_node",
            what=f"the Edge TPU is attached, but {chip.node} is not there",
            hint="In a container, pass it in: --device /dev/bus/usb or --device /dev/apex_0 (a USB"
            " one changes its number at first use, so pass the whole folder).",
        )
    group = (chip.rights or "").split()[-1:]
    name = group[0] if group and group[0] != "root" else ""
    usual = "apex" if chip.kind == "pci" else "plugdev"
    rights = f" ({chip.rights}; the user's groups: {' '.join(state.groups)})" if chip.rights else ""
    if name:
        hint = f"There: sudo usermod -aG {name} {state.user or '$USER'}, then log in anew."
    else:
        rules = (APEX_RULE,) if chip.kind == "pci" else USB_RULES
        hint = (
            f"Put into /etc/udev/rules.d/65-edgetpu.rules: {' and '.join(rules)}; then sudo udevadm"
            f" control --reload-rules && sudo udevadm trigger, sudo usermod -aG {usual}"
            f" {state.user or '$USER'}, plug in again and log in anew."
        )
    return Why(
        reason="no_permission",
        what=f"{state.user or 'this user'} may not open {chip.node}{rights}",
        hint=hint,
    )


def _held(chips: tuple[Chip, ...], state: EdgeTpuState) -> Why:
    nodes = {chip.node for chip in chips}
    holders = [(pid, name, node) for pid, name, node in state.holders if node in nodes]
    if holders:
        who = ", ".join(f"{name or 'a process'} ({pid})" for pid, name, _ in holders[:3])
        return Why(
            reason="busy",
            what=f"it is busy: {who} has {holders[0][2]} open",
            hint=f"End it there (kill {holders[0][0]}), or wait for it.",
        )
    return Why(
        reason="unknown",
        what="an Edge TPU is there and may be opened, so another program probably has it (none that"
        " this user may see)",
        hint=f"Look as root: sudo fuser -v {chips[0].node}; else plug it in again, or restart the"
        " board.",
    )


def heard(text: str) -> Why | None:
    """What the words of the interpreter or of libedgetpu mean; None for words we do not know."""
    if found := _TOO_OLD.search(text):
        return Why(
            reason="runtime_too_old",
            what=f"the model was compiled for Edge TPU runtime {found[1]}, and its libedgetpu is of"
            f" runtime {found[2]}",
            hint="Install a newer libedgetpu there, or compile with --min-runtime-version"
            f" {found[2]}.",
        )
    if "unresolved custom op: edgetpu-custom-op" in text:
        return Why(
            reason="no_delegate",
            what="its interpreter does not know the compiled part: libedgetpu was not used",
            hint="Use runtime = edgetpu, with libedgetpu installed there: see edgeopt devices"
            " doctor.",
        )
    if "Unsupported data type in custom op handler" in text:
        return Why(
            reason="version_clash",
            what="its libedgetpu and its interpreter are built for different TensorFlows",
            hint=MATCHING,
        )
    if "libedgetpu" in text and ("cannot open shared object" in text or "not found" in text):
        return Why(reason="library", what="it has no Edge TPU library that loads", hint=INSTALL)
    return None
