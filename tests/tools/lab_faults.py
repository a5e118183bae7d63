"""The list of faults, and how a run that meets one has to end."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tools import lab_acts as acts
from tools import lab_owners as owners
from tools import lab_programs as programs
from tools.lab import Ended, Lab

__all__ = ["FAULTS", "Fault"]

_LOST = (
    r"was lost|is not connected|did not answer|does not answer|cannot be connected"
    r"|did not end within"
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`act` does it and puts back what it broke. The run must end with `code` within `within_s` of
    it, and its message match `says`."""

    name: str
    kind: str
    act: Callable[[Lab], Ended]
    code: int = 5
    says: str = _LOST
    within_s: float = 30.0
    keeps: bool = False  # what was measured before must be in the report
    swept: bool = False  # something waits there on a dead link, and ends with the next run

    def judged(self, ended: Ended) -> bool:
        """Did it say what happened, in one sentence, and what to do?"""
        if self.code <= 0:  # done, or killed before a word
            return not ended.message
        if self.code == 130:
            return bool(re.search(self.says, ended.message))
        one = ended.message.endswith(".") and "\n" not in ended.message
        found = re.search(self.says, ended.message, re.IGNORECASE)
        return bool(found and one and ended.hint and len(ended.message) < 500)


def _both(name: str, act: Callable[[Lab], Ended], **more: object) -> list[Fault]:
    return [Fault(name=name, kind=kind, act=act, **more) for kind in ("ssh", "adb")]  # type: ignore[arg-type]


_FULL = r"no space left|free for|disk is full|full"
_HUNG = "did not end within"
FAULTS: list[Fault] = [
    *_both("link cut: connect", acts.cut_connecting, within_s=25.0),
    Fault(name="link cut: push", kind="ssh", act=acts.cut_pushing),
    Fault(name="link cut: push", kind="adb", act=acts.cut_pushing, within_s=40.0),
    *_both("link cut: run", acts.cut_running),
    *_both("link cut: a later process", acts.cut_later, keeps=True),
    Fault(name="link cut: collect", kind="ssh", act=acts.cut_collecting, keeps=True),
    Fault(name="link cut: collect", kind="adb", act=acts.cut_printing),
    *_both("board reboots", acts.reboot),
    *_both("its server is killed", acts.server_dies),
    *_both("disk full before", acts.full_before, says=_FULL),
    *_both("disk full: push", acts.full_pushing, says=_FULL),
    Fault(name="disk full: outputs", kind="ssh", act=acts.full_answering, says=_FULL),
    Fault(name="disk full: run", kind="adb", act=acts.full_running, code=0),
    *_both("read-only work folder", acts.read_only, says="read-only"),
    Fault(name="noexec mount", kind="ssh", act=acts.noexec, code=0),
    Fault(name="noexec mount", kind="adb", act=acts.noexec, says="may not be executed"),
    Fault(
        name="python not executable",
        kind="ssh",
        act=programs.python_not_executable,
        says="cannot run",
    ),
    Fault(
        name="binary for another machine",
        kind="adb",
        act=programs.wrong_machine,
        says="exit 12[67]",
    ),
    Fault(name="runtime missing", kind="ssh", act=programs.no_runtime, says="no runtime"),
    Fault(name="runtime missing", kind="adb", act=programs.no_library, says="exit 12[67]"),
    Fault(name="runtime crashes", kind="ssh", act=programs.segfault, says="segmentation fault"),
    Fault(name="runtime crashes", kind="adb", act=programs.adb_segfault, says="segmentation fault"),
    Fault(name="runtime aborts", kind="ssh", act=programs.abort, says="SIGABRT"),
    Fault(name="program fails", kind="adb", act=programs.adb_exit_1, says="no such operation"),
    Fault(name="out of memory", kind="ssh", act=programs.out_of_memory, says="out of memory"),
    Fault(name="out of memory", kind="adb", act=programs.adb_out_of_memory, says="out of memory"),
    *_both("killed (a stand-in)", acts.killed, says=r"killed"),
    *_both("hung: stopped", acts.hung, says=_HUNG),
    Fault(name="hung: never answers", kind="ssh", act=programs.hung_python, says=_HUNG),
    Fault(name="hung: never answers", kind="adb", act=programs.adb_hung, says=_HUNG),
    *_both("its server is frozen", acts.frozen_server),
    *_both("its server is frozen: connect", acts.frozen_connecting),
    Fault(name="this machine sleeps", kind="ssh", act=acts.asleep, says="heard nothing|was lost"),
    Fault(name="clock jumps", kind="ssh", act=acts.clock_jumps, code=6, says="clock"),
    *_both("clock of 2001", acts.old_clock, code=0),
    *_both("80 Mbit/s", acts.slow, code=0),
    Fault(name="adb server dies", kind="adb", act=acts.adb_server_dies),
    Fault(name="legacy adb", kind="adb", act=acts.legacy(acts.plain), code=0),
    Fault(
        name="legacy adb: program fails",
        kind="adb",
        act=acts.legacy(programs.adb_exit_1),
        says="no such operation",
    ),
    Fault(
        name="legacy adb: kill -9", kind="adb", act=acts.legacy(owners.killed), code=-9, swept=True
    ),
    *_both("kill -9, prepared", owners.killed_prepared, code=-9),
    *_both("link cut, prepared", owners.cut_prepared),
    *_both("kill -9, then another user", owners.killed_before_another, code=0, within_s=60.0),
    *_both("Ctrl-C: a later process", owners.stopped_later, code=130, says="Stopped", keeps=True),
    *_both("Ctrl-C, twice", owners.stopped_twice, code=130, says="Stopped"),
    Fault(name="legacy adb: link cut", kind="adb", act=acts.legacy(acts.cut_running)),
]
