"""Who killed a process on a board: what its kernel says of the out-of-memory killer."""

from __future__ import annotations

import re

from edgeopt.device.printable import clean_text
from edgeopt.device.transport import Transport
from edgeopt.errors import DeviceError

__all__ = ["KILLED", "ran_out_of_memory"]

KILLED = 137  # 128 + SIGKILL, as every shell says it

_READ = "cat /proc/uptime; dmesg 2>/dev/null | grep -i 'killed process' | tail -n 1"
_LINE = re.compile(r"\[ *([0-9]{1,12}\.[0-9]{1,9})\] (.*killed process .*)", re.IGNORECASE)
_RECENT_S = 30.0  # the process that is asked about has just died
_STEP_S = 10.0


def ran_out_of_memory(link: Transport) -> str:
    """The kernel's line about the process that it has just killed for want of memory.

    "" when it says nothing of the kind, or may not be asked (kernel.dmesg_restrict). Its times
    count from boot as /proc/uptime does, whatever the board's clock says.
    """
    try:
        done = link.run(["sh", "-c", _READ], timeout_s=_STEP_S)
    except DeviceError:
        return ""
    first, _, rest = done.stdout[:8192].decode(errors="replace").partition("\n")
    found = _LINE.search(rest)
    try:
        uptime_s = float(first.split()[0])
    except (ValueError, IndexError):
        return ""
    if found is None or not -1 <= uptime_s - float(found[1]) <= _RECENT_S:
        return ""
    return clean_text(found[2].partition(", ")[0], 120).strip()
