"""Signs of life for a command that adb's old protocol gives no stdin: signals to its group."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from edgeopt.device.transport import SILENCE_S
from edgeopt.errors import DeviceError

if TYPE_CHECKING:
    from edgeopt.device.adb.frame import Frame
    from edgeopt.device.adb.server import AdbProgram

__all__ = ["Feed"]

# Each is a shell on the device: no more of them than are needed. One that is late has still been
# sent, and the next does not wait for it any longer.
_EVERY_S = SILENCE_S / 5


class Feed:
    """While its `with` lasts, the command in `frame` is told by commands of their own that we wait.

    It must be one that `marked_command` made with `fed`. A sign that does not arrive is no error:
    when none does, the command's stdin ends, as it would over any other link.
    """

    def __init__(self, adb: AdbProgram, frame: Frame) -> None:
        self._adb, self._frame = adb, frame
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._signs, daemon=True, name="edgeopt-adb-feed")

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        if error is None:  # else what runs there is killed now, not once a sign has come back
            self._thread.join(timeout=_EVERY_S)

    def _signs(self) -> None:
        due = time.monotonic() + _EVERY_S
        while not self._end.wait(max(0.0, due - time.monotonic())) and not self._adb.lost:
            due = time.monotonic() + _EVERY_S
            if self._frame.pid is not None:
                line = f"kill -CONT -{self._frame.pid} 2>/dev/null"
                with contextlib.suppress(DeviceError):
                    self._adb.call("-s", self._adb.serial, "shell", line, timeout_s=_EVERY_S)
