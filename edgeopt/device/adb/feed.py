"""Signs of life for a command that adb's old protocol gives no stdin: signals to its group."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeopt.device.transport import SILENCE_S
from edgeopt.errors import DeviceError

if TYPE_CHECKING:
    from edgeopt.device.adb.frame import Frame
    from edgeopt.device.adb.server import AdbProgram

__all__ = ["feeding"]

# Each is a shell on the device: no more of them than are needed. One that is late has still been
# sent, and the next does not wait for it any longer.
_EVERY_S = SILENCE_S / 5


@contextlib.contextmanager
def feeding(adb: AdbProgram, frame: Frame) -> Iterator[None]:
    """Meanwhile the command in `frame` is told by commands of their own that we wait for it.

    It must be one that `marked_command` made with `fed_s`. A sign that does not arrive is no error:
    when none does, the command's stdin ends, as it would over any other link.
    """
    end = threading.Event()

    def signs() -> None:
        due = time.monotonic() + _EVERY_S
        while not end.wait(max(0.0, due - time.monotonic())) and not adb.lost:
            due = time.monotonic() + _EVERY_S
            if frame.pid is not None:
                line = f"kill -CONT -{frame.pid} 2>/dev/null"
                with contextlib.suppress(DeviceError):
                    adb.call("-s", adb.serial, "shell", line, timeout_s=_EVERY_S)

    thread = threading.Thread(target=signs, daemon=True, name="edgeopt-adb-feed")
    thread.start()
    try:
        yield
    finally:
        end.set()
    # Not after an error: what runs there is then killed now, not once a sign has come back.
    thread.join(timeout=_EVERY_S)
