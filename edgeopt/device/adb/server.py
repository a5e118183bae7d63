"""The adb program and its server: find it, call it inside a deadline, reach one device.

Every call is a process that is killed at its deadline: no library call that could hang on a cut
link. ANDROID_ADB_SERVER_PORT chooses another server than the user's own, as adb itself has it.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable

from edgeopt.device.local import LocalTransport
from edgeopt.device.printable import clean_text, tail
from edgeopt.device.transport import Completed
from edgeopt.errors import DeviceError, ToolError

__all__ = ["AdbProgram", "explain", "find_program", "reach"]

_SERVER_START_S = 20.0  # 3 s on a fast host: it looks for USB and mDNS devices first
_CALL_S = 5.0
_QUIET_S = 12.0  # of a command, before the device is asked whether it is there
_ALIVE_S = 8.0  # a phone that computes on all cores answers late
_DISCONNECT_S = 2.0  # it is only the server that has to answer
_POLL_S = 0.2
_NETWORK_SERIAL = re.compile(r"(\[[0-9A-Fa-f:.%\w]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}")

# What adb says, who is meant, and what helps. Order matters: the first that fits is taken.
_MEANINGS = (
    ("unauthorized", "does not trust this computer", "Accept the prompt on the phone, then rerun."),
    ("authorizing", "does not trust this computer yet", "Accept the prompt on the phone."),
    ("failed to authenticate", "does not trust this computer", "Accept the prompt on the phone."),
    (
        "no permissions",
        "may not be opened by this user",
        "Add a udev rule for it (or join the plugdev group), replug it, then adb kill-server.",
    ),
    (
        "more than one device",
        "is not the only device, and adb cannot tell which one is meant",
        "Name it: adb://SERIAL, as adb devices prints it.",
    ),
    (
        "offline",
        "is known to adb but does not answer",
        "Replug it or check its network; adb reconnect offline helps a stuck one.",
    ),
    (
        "not found",
        "is not connected",
        "Check the cable, USB debugging and its serial (adb devices).",
    ),
    ("no devices", "is not connected", "Check the cable and USB debugging (adb devices)."),
    (
        "refused",
        "refuses the connection",
        "Switch on network debugging there: adb tcpip 5555 over USB.",
    ),
    (
        "daemon",
        "cannot be asked: the adb server does not run",
        "Run adb start-server by hand and read what it says (another program on its port?).",
    ),
    (
        "adb server version",
        "cannot be asked: an adb of another version keeps killing the server",
        "Use one adb: set ADBUTILS_ADB_PATH to the one the other program uses.",
    ),
)


def find_program() -> str:
    """The adb on the PATH, else the one in adbutils. Raises ToolError when neither runs."""
    try:
        import adbutils
    except ImportError as error:
        raise ToolError("adbutils is not installed.", "pip install adbutils") from error
    try:
        return str(adbutils.adb_path())
    except adbutils.AdbError as error:
        raise ToolError(
            "There is no adb program that runs on this machine.",
            "Install Android platform-tools, or set ADBUTILS_ADB_PATH to an adb.",
        ) from error


def explain(name: str, said: str) -> DeviceError:
    """What adb's own words mean for the person who must act."""
    lowered = said.lower()
    shown = clean_text(said, 300).strip().rstrip(".") or "nothing"
    for phrase, meaning, hint in _MEANINGS:
        if phrase in lowered:
            return DeviceError(f"{name} {meaning} (adb: {shown}).", hint)
    return DeviceError(
        f"The connection to {name} was lost (adb: {shown}).",
        "Check its cable and power (adb devices), then rerun.",
    )


class AdbProgram:
    """adb for one serial. `name` is for messages. `lost`: it did not answer, and is asked no more:
    each step of cleaning up would wait for it once more. `doubted`: the next command asks first."""

    def __init__(self, path: str, serial: str) -> None:
        self.path, self.serial, self.name = path, serial, f"adb://{serial}"
        self.lost = self.doubted = False
        self._host = LocalTransport()
        self._host.name = self.name

    def call(self, *words: str, timeout_s: float = _CALL_S) -> Completed:
        """adb without a device, such as `start-server`: nothing watches over a silent one."""
        return self._host.run([self.path, *words], timeout_s=timeout_s)

    def to_device(
        self,
        *words: str,
        timeout_s: float = _CALL_S,
        stdin: bytes = b"",
        on_stdout: Callable[[bytes], None] | None = None,
        beats: bool = False,
    ) -> Completed:
        """adb for the device. With `beats` its stdin stays open, and says that we wait.

        adb waits for TCP to give up on a link that died with something on its way, a quarter of an
        hour: when nothing comes for a while, the device is asked whether it is there.
        """
        doubted, self.doubted = self.doubted, False
        if self.lost or (doubted and not self._ask(min(timeout_s, _ALIVE_S))):
            raise self._gone()
        return self._host.run_watched(
            [self.path, "-s", self.serial, *words],
            self._still_there,
            timeout_s=timeout_s,
            stdin=stdin,
            beats=beats,
            on_stdout=on_stdout,
        )

    def _still_there(self, quiet_s: float) -> bool:
        """True when the device was asked and answered. Raises DeviceError when it did not."""
        if not self.lost and quiet_s < _QUIET_S:
            return False
        if self._ask(_ALIVE_S):
            return True
        raise self._gone()

    def _ask(self, timeout_s: float) -> bool:
        """Does it answer? If not it is lost."""
        if not self.lost and not self.answers(timeout_s):
            self.lost = True
            if _NETWORK_SERIAL.fullmatch(self.serial):
                # Else what was under way arrives when the link is back, after the next clean-up.
                with contextlib.suppress(DeviceError):
                    self.call("disconnect", self.serial, timeout_s=_DISCONNECT_S)
        return not self.lost

    def _gone(self) -> DeviceError:
        return DeviceError(
            f"The connection to {self.name} was lost: it does not answer any more.",
            "Check its cable, power and network (adb devices), then rerun.",
        )

    def state(self) -> str:
        """ "device" when usable, else adb's word or complaint."""
        answer = self.to_device("get-state")
        return (
            (answer.stdout if answer.exit_code == 0 else answer.stderr)
            .decode(errors="replace")
            .strip()
        )

    def answers(self, timeout_s: float) -> bool:
        """True when a command comes back: `get-state` alone says "device" on a cut link too."""
        try:
            done = self.call("-s", self.serial, "shell", "echo", "alive", timeout_s=timeout_s)
        except DeviceError:
            return False
        return b"alive" in done.stdout


def reach(adb: AdbProgram, timeout_s: float) -> None:
    """Have the device answer within `timeout_s`. Raises DeviceError with what is the matter."""
    started = adb.call("start-server", timeout_s=_SERVER_START_S)
    if started.exit_code:
        raise DeviceError(
            f"The adb server does not start: {tail(started.stderr) or 'no reason given'}.",
            "Run adb start-server by hand; ANDROID_ADB_SERVER_PORT chooses another port.",
        )
    deadline = time.monotonic() + timeout_s
    network = _NETWORK_SERIAL.fullmatch(adb.serial) is not None
    state = adb.state()
    if state == "device":
        if adb.answers(min(_CALL_S, timeout_s)):
            return
        state = "device offline"
    if network:
        state = _connect(adb, state, deadline)
    else:
        state = _settled(adb, deadline)  # just plugged in or just woken, it may need a moment
    if state in ("bootloader", "recovery", "sideload", "rescue"):
        raise DeviceError(f"{adb.name} is in {state} mode.", "Boot it into Android: adb reboot.")
    if state != "device":
        raise explain(adb.name, _detail(adb, state))


def _connect(adb: AdbProgram, state: str, deadline: float) -> str:
    """Connect over the network; the last state seen, "device" when it answers."""
    said = state
    while time.monotonic() < deadline:
        if "not found" not in state:
            # adb would say "already connected" of the dead connection and keep it.
            adb.call("disconnect", adb.serial)
        left = max(0.5, deadline - time.monotonic())
        try:
            answer = adb.call("connect", adb.serial, timeout_s=left)
        except DeviceError:
            return f"no answer from {adb.serial}: offline"
        said = (answer.stdout + answer.stderr).decode(errors="replace").strip()
        state = _settled(adb, deadline)
        if state == "device" or "unauthorized" in state:
            return state
        if "refused" in said or "resolve" in said:
            return said
        time.sleep(_POLL_S)
    return f"{said}; {state}"


def _settled(adb: AdbProgram, deadline: float) -> str:
    """The state once adb has made up its mind, at most 3 s later."""
    end = min(deadline, time.monotonic() + 3)
    while True:
        state = adb.state()
        left = end - time.monotonic()
        if state == "device" and adb.answers(max(0.5, left)):
            return state
        if left <= 0 or "not found" in state:
            return state if state != "device" else "device offline"
        time.sleep(_POLL_S)


def _detail(adb: AdbProgram, state: str) -> str:
    """`adb devices` knows more than get-state: no permissions, unauthorized."""
    rows = adb.call("devices").stdout.decode(errors="replace").splitlines()
    mine = [row.partition("\t")[2] for row in rows if row.startswith(f"{adb.serial}\t")]
    others = [row.partition("\t")[0] for row in rows[1:] if "\t" in row]
    if mine:
        return f"{state}; listed as {mine[0]}"
    if others:
        return f"{state}; connected are {', '.join(others)}"
    return state
