"""Why an Edge TPU does not open: libedgetpu gives no reason, so look at the board itself."""

from __future__ import annotations

from dataclasses import dataclass

from edgeopt.device.printable import clean_text
from edgeopt.device.transport import Transport

__all__ = ["EdgeTpuState", "parse_state", "read_state"]

# USB: 1a6e:089a before first use, 18d1:9302 once it runs. PCIe: vendor 1ac1, driver apex.
_SCRIPT = r"""
for n in /dev/apex_*; do [ -e "$n" ] || continue
  if [ -r "$n" ] && [ -w "$n" ]; then echo "apex yes $n"; else echo "apex no $n"; fi; done
for d in /sys/bus/usb/devices/*; do [ -r "$d/idVendor" ] || continue
  read -r v <"$d/idVendor"; read -r p <"$d/idProduct"
  case $v:$p in 1a6e:089a|18d1:9302) ;; *) continue;; esac
  read -r b <"$d/busnum"; read -r n <"$d/devnum"
  f=$(printf '/dev/bus/usb/%03d/%03d' "$b" "$n")
  if [ -w "$f" ]; then echo "usb yes $f"; else echo "usb no $f"; fi
done
for d in /sys/bus/pci/devices/*; do [ -r "$d/vendor" ] || continue
  read -r v <"$d/vendor"; [ "$v" = 0x1ac1 ] && echo "pci ${d##*/}"; done
if command -v dpkg-query >/dev/null 2>&1; then
  dpkg-query -W -f 'package ${Package} ${Version}\n' 'libedgetpu1-*' 2>/dev/null
fi
exit 0
"""


@dataclass(frozen=True, kw_only=True)
class EdgeTpuState:
    """Nodes are (path, may we use it)."""

    apex: tuple[tuple[str, bool], ...] = ()
    usb: tuple[tuple[str, bool], ...] = ()
    pci_cards: int = 0
    package: str | None = None  # version of the Debian package, e.g. "16.0tf2.17.1-1"

    @property
    def present(self) -> bool:
        return bool(self.apex or self.usb or self.pci_cards)

    def explain(self) -> tuple[str, str]:
        """What is most likely wrong when the delegate does not open, and what to do."""
        if not self.present:
            return (
                "no Edge TPU is to be seen there (no /dev/apex_0, no USB 1a6e:089a or 18d1:9302)",
                "Plug it in; a USB accelerator wants a USB 3 port and its own cable.",
            )
        if self.pci_cards and not self.apex:
            return (
                "a PCIe Edge TPU is there, but no /dev/apex_0: the apex driver is not loaded",
                "Install gasket-dkms for that kernel and run: modprobe apex",
            )
        refused = [node for node, usable in (*self.apex, *self.usb) if not usable]
        if refused and not any(usable for _, usable in (*self.apex, *self.usb)):
            return (
                f"this user may not open {refused[0]}",
                "Install libedgetpu's udev rule, add the user to its group (plugdev, or apex),"
                " plug in again and log in anew.",
            )
        return (
            "an Edge TPU is there and may be opened, so another program probably has it",
            "End what uses it (fuser /dev/apex_0), or unplug it and plug it in again.",
        )


def read_state(transport: Transport) -> EdgeTpuState:
    """Looks through one shell script; nothing is opened. Raises DeviceError when unreachable."""
    answer = transport.run(["sh", "-c", _SCRIPT], timeout_s=20)
    return parse_state(answer.stdout.decode(errors="replace"))


def parse_state(text: str) -> EdgeTpuState:
    rows = [line.split(maxsplit=2) for line in clean_text(text, 10_000).splitlines()]
    nodes = [row for row in rows if len(row) == 3]
    return EdgeTpuState(
        apex=tuple((row[2], row[1] == "yes") for row in nodes if row[0] == "apex"),
        usb=tuple((row[2], row[1] == "yes") for row in nodes if row[0] == "usb"),
        pci_cards=sum(row[:1] == ["pci"] for row in rows),
        package=next((row[2] for row in nodes if row[0] == "package"), None),
    )
