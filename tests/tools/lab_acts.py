"""What happens to a run in the lab. Each of these does it, puts it back, and says how it ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import adbutils
from tools.lab import Ended, Lab, Session

_LIBFAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


class Unsupported(Exception):
    """This machine cannot do that to a board; the message is the reason to skip."""


def cut_connecting(lab: Lab) -> Ended:
    session = lab.start("--runs", 20)
    session.reach("Connecting")
    time.sleep(lab.random.uniform(0, 0.15))
    lab.board.cut()
    session.happened()
    return session.end()


def _pushing(lab: Lab, happens: Callable[[], object]) -> Ended:
    lab.emptied()
    lab.board.slow(2e6)
    session = lab.start("--runs", 20, model=lab.heavy)
    _await_push(lab, session)
    happens()
    session.happened()
    return session.end()


def _await_push(lab: Lab, session: Session) -> None:
    """Return when part of a large model has arrived, and part has not."""
    if lab.kind == "adb":  # adbd shows a file only when it is whole
        session.reach("Sending the model")
        time.sleep(0.8)
    else:
        session.until(lab.arriving, "the push")
    time.sleep(lab.random.uniform(0, 0.5))


def cut_pushing(lab: Lab) -> Ended:
    return _pushing(lab, lab.board.cut)


def _running(lab: Lab, happens: Callable[[], object], *words: object) -> Ended:
    session = lab.begin(*words)
    happens()
    session.happened()
    return session.end()


def cut_running(lab: Lab) -> Ended:
    return _running(lab, lab.board.cut)


def cut_later(lab: Lab) -> Ended:
    """When a process has ended and the next one is under way."""
    session = lab.second_process()
    lab.board.cut()
    session.happened()
    return session.end()


def _collecting(lab: Lab, happens: Callable[[], object]) -> Ended:
    session = lab.start("--runs", 3, "--warmup", 0, model=lab.large)
    session.reach("Run on")
    session.until(
        lambda: any("outputs" in w and " cat " in w for w in lab.running()),
        "the collecting of outputs",
    )
    lab.board.slow(8e6)
    happens()
    session.happened()
    return session.end()


def cut_collecting(lab: Lab) -> Ended:
    return _collecting(lab, lab.board.cut)


def cut_printing(lab: Lab) -> Ended:
    """While benchmark_model's answer, 4 MB of it, is on the way."""
    binary = lab.double("head -c 4000000 /dev/zero | tr '\\0' x; echo")
    session = lab.start("--runs", 20, "--benchmark-binary", binary)
    session.reach("Timing")
    lab.board.slow(2e6)
    session.until(lambda: any("tr " in w for w in lab.running()), "the answer")
    time.sleep(lab.random.uniform(0.5, 3))
    lab.board.cut()
    session.happened()
    return session.end()


def reboot(lab: Lab) -> Ended:
    session = lab.begin()
    lab.board.power_off()
    session.happened()
    time.sleep(lab.random.uniform(1, 4))
    lab.board.power_on()
    return session.end()


def server_dies(lab: Lab) -> Ended:
    ended = _running(lab, lab.board.kill_server)
    lab.quiet()
    lab.board.power_on()
    return ended


def _mounted(lab: Lab, options: str, happens: Callable[[], Ended] | None = None) -> Ended:
    """With a work folder that is a file system of its own."""
    lab.emptied()
    lab.board.mount_tmpfs(lab.board.work.parent, options)
    try:
        if happens:
            return happens()
        session = lab.start("--runs", 20)
        return session.end()
    finally:
        lab.board.unmount(lab.board.work.parent)


def full_before(lab: Lab) -> Ended:
    return _mounted(lab, "size=8k,mode=700")


def full_pushing(lab: Lab) -> Ended:
    """Somebody else fills the disk while the model arrives."""

    def act() -> Ended:
        lab.board.slow(0.7e6)
        session = lab.start("--runs", 20, model=lab.heavy)
        _await_push(lab, session)
        _fill(lab)
        session.happened()
        return session.end()

    return _mounted(lab, "size=1500k,mode=700", act)


def full_answering(lab: Lab) -> Ended:
    """Room for the model and its inputs, and none for its outputs."""

    def act() -> Ended:
        session = lab.start("--runs", 3, "--warmup", 0, model=lab.large)
        return session.end()

    return _mounted(lab, "size=10m,mode=700", act)


def full_running(lab: Lab) -> Ended:
    """Somebody else fills the disk while benchmark_model runs."""

    def act() -> Ended:
        session = lab.start("--runs", 3000)
        session.until(lab.busy, "the run on the board")
        _fill(lab)
        session.happened()
        return session.end()

    return _mounted(lab, "size=400k,mode=700", act)


def _fill(lab: Lab) -> None:
    fill = f"dd if=/dev/zero of={lab.board.work.parent}/other bs=1k 2>/dev/null; exit 0"
    subprocess.run([*lab.board.enter("-m"), "sh", "-c", fill], check=True)


def read_only(lab: Lab) -> Ended:
    return _mounted(lab, "ro,mode=700")


def noexec(lab: Lab) -> Ended:
    return _mounted(lab, "noexec,size=20m,mode=700")


def killed(lab: Lab) -> Ended:
    """A stand-in for what kills processes on a board: SIGKILL from outside."""
    return _running(lab, lambda: _send(lab, signal.SIGKILL))


def _send(lab: Lab, number: signal.Signals) -> None:
    for pid in lab.programs():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def hung(lab: Lab) -> Ended:
    """The program is stopped, as in an uninterruptible sleep: it answers nothing."""
    return _running(lab, lambda: _send(lab, signal.SIGSTOP), "--timeout", 8)


def frozen_server(lab: Lab) -> Ended:
    """The board's server stops: the kernel still acknowledges what arrives, nobody reads it."""
    ended = _running(lab, lab.board.freeze, "--timeout", 60)
    _thawed(lab)
    return ended


def _thawed(lab: Lab) -> None:
    lab.board.kill_server()
    lab.quiet()
    lab.board.power_on()


def frozen_connecting(lab: Lab) -> Ended:
    """The kernel takes the connection, and nobody says a word on it."""
    lab.board.freeze()
    try:
        return lab.start("--runs", 20).end()
    finally:
        _thawed(lab)


def asleep(lab: Lab) -> Ended:
    """This machine sleeps for longer than the board waits for it."""
    session = lab.begin()
    session.process.send_signal(signal.SIGSTOP)
    lab.quiet()
    session.process.send_signal(signal.SIGCONT)
    session.happened()
    return session.end()


def clock_jumps(lab: Lab) -> Ended:
    """The board's clock is set back by a day while the model runs (libfaketime)."""
    _need_faketime()
    clock = lab.folder / "clock"
    clock.write_text("+0\n")
    text = (
        f"#!/bin/sh\nexport LD_PRELOAD={_LIBFAKETIME} FAKETIME_TIMESTAMP_FILE={clock}"
        f' FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1\nexec {sys.executable} "$@"\n'
    )
    words = ("--max-time", 6, "--processes", 1, "--precision", "0.00001")
    session = lab.start("--device-python", lab.program(text), *words, EDGEOPT_CONDITIONS="judge")
    session.until(lab.busy, "the run on the board")
    time.sleep(2)
    clock.write_text("-1d\n")
    session.happened()
    return session.end()


def old_clock(lab: Lab) -> Ended:
    """A board without a battery for its clock thinks it is 2001; then it asks a server."""
    _need_faketime()
    return _old_adb_clock(lab) if lab.kind == "adb" else _old_ssh_clock(lab)


def _old_adb_clock(lab: Lab) -> Ended:
    board = lab.board
    shutil.copy(_LIBFAKETIME, board.root / "usr/lib")
    library = f"/usr/lib/{Path(_LIBFAKETIME).name}"
    board.kill_server()
    board.environment += [f"LD_PRELOAD={library}", "FAKETIME=@2001-01-01 00:00:00"]
    board.power_on()
    try:
        ended = lab.start("--runs", 20).end()
        asked = [adbutils.adb_path(), "-s", board.serial, "shell", "date +%Y"]
        said = subprocess.run(asked, env=lab.env, capture_output=True, check=False).stdout
        assert said.strip() == b"2001", f"the board's clock says {said!r}"
        return ended
    finally:
        board.kill_server()
        board.environment.clear()
        board.power_on()


def _old_ssh_clock(lab: Lab) -> Ended:
    config = lab.board.folder / "sshd_config"
    before = config.read_text()
    fake = f'SetEnv LD_PRELOAD={_LIBFAKETIME} "FAKETIME=@2001-01-01 00:00:00"\n'
    lab.board.kill_server()
    config.write_text(fake + before)
    lab.board.power_on()
    try:
        session = lab.start("--runs", 20)
        return session.end()
    finally:
        lab.board.kill_server()
        config.write_text(before)
        lab.board.power_on()


def _need_faketime() -> None:
    if not Path(_LIBFAKETIME).exists():
        raise Unsupported("libfaketime is not installed")


def slow(lab: Lab) -> Ended:
    lab.emptied()
    lab.board.slow(80e6)
    return lab.start("--runs", 20).end()


def adb_server_dies(lab: Lab) -> Ended:
    return _running(lab, lab.board.kill_adb_server)


def legacy(act: Callable[[Lab], Ended]) -> Callable[[Lab], Ended]:
    """With an adb that says the device has no shell_v2, as before Android 7. A double of adb's
    list of features only: edgeopt then takes the old protocol, which this adbd really speaks."""

    def acted(lab: Lab) -> Ended:
        double = lab.folder / "adb-without-shell-v2"
        double.write_text(
            f'#!/bin/sh\nfor w do [ "$w" != features ] || {{ {adbutils.adb_path()} "$@" |'
            f' grep -v shell_v2; exit; }}; done\nexec {adbutils.adb_path()} "$@"\n'
        )
        double.chmod(0o755)
        lab.env["ADBUTILS_ADB_PATH"] = str(double)
        try:
            return act(lab)
        finally:
            del lab.env["ADBUTILS_ADB_PATH"]

    return acted


def plain(lab: Lab) -> Ended:
    return lab.start("--runs", 20).end()
