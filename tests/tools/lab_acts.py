"""What happens to a run in the lab. Each of these does it, puts it back, and says how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tools.lab import Ended, Lab
from tools.lab_memory import memory_limit

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
    session.until(lab.arriving, "the push")
    time.sleep(lab.random.uniform(0, 0.5))
    happens()
    session.happened()
    return session.end()


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
    words = ("--max-time", 12, "--precision", "0.0001", "--processes", 4)
    words = ("--runs", 1200, *words[2:]) if lab.kind == "adb" else words
    session = lab.start(*words)
    session.reach("Repeat")
    session.until(lab.busy, "the second process")
    time.sleep(lab.random.uniform(0.1, 0.6))
    lab.board.cut()
    session.happened()
    return session.end()


def _collecting(lab: Lab, happens: Callable[[], object]) -> Ended:
    session = lab.start("--runs", 3, "--warmup", 0, model=lab.large)
    session.reach("Run on")
    session.until(
        lambda: any("outputs" in w and " cat " in w for w in lab.board.strays().values()),
        "the collecting of outputs",
    )
    lab.board.slow(8e6)
    happens()
    session.happened()
    return session.end()


def cut_collecting(lab: Lab) -> Ended:
    return _collecting(lab, lab.board.cut)


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
        lab.board.slow(2e6)
        session = lab.start("--runs", 20, model=lab.heavy)
        inside = lab.board.enter("-m")
        count = f"ls {lab.board.work} | grep -c ^tmp-"
        session.until(
            lambda: (
                subprocess.run([*inside, "sh", "-c", count], capture_output=True).stdout > b"0\n"
            ),
            "the push",
        )
        fill = f"dd if=/dev/zero of={lab.board.work.parent}/other bs=1k 2>/dev/null; exit 0"
        subprocess.run([*inside, "sh", "-c", fill], check=True)
        session.happened()
        return session.end()

    return _mounted(lab, "size=1500k,mode=700", act)


def full_answering(lab: Lab) -> Ended:
    """Room for the model and its inputs, and none for its outputs."""

    def act() -> Ended:
        session = lab.start("--runs", 3, "--warmup", 0, model=lab.large)
        return session.end()

    return _mounted(lab, "size=10m,mode=700", act)


def read_only(lab: Lab) -> Ended:
    return _mounted(lab, "ro,mode=700")


def noexec(lab: Lab) -> Ended:
    return _mounted(lab, "noexec,size=20m,mode=700")


def _with_python(lab: Lab, text: str, *words: object, mode: int = 0o755) -> Ended:
    program = lab.program(text, mode)
    return lab.start("--runs", 20, "--device-python", program, *words).end()


def python_not_executable(lab: Lab) -> Ended:
    return _with_python(lab, "#!/bin/sh\n", mode=0o644)


def no_runtime(lab: Lab) -> Ended:
    return _with_python(lab, f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')


def _runtime_double(lab: Lab, body: str) -> str:
    """A Python whose ai_edge_litert is a double that dies as `body` says; the death is real."""
    module = lab.folder / f"site-{abs(hash(body)) % 10**8}/ai_edge_litert"
    module.mkdir(parents=True, exist_ok=True)
    (module / "__init__.py").touch()
    (module / "interpreter.py").write_text(f"def Interpreter(**_):\n    {body}\n")
    numpy = Path(np.__path__[0]).parent
    return (
        f"#!/bin/sh\nexport PYTHONPATH={module.parent}:{numpy}\nulimit -c 0\n"
        f'exec {sys.executable} -S "$@"\n'
    )


def segfault(lab: Lab) -> Ended:
    return _with_python(lab, _runtime_double(lab, "import ctypes; ctypes.string_at(0)"))


def abort(lab: Lab) -> Ended:
    return _with_python(lab, _runtime_double(lab, "import os; os.abort()"))


def out_of_memory(lab: Lab) -> Ended:
    """The kernel's own killer, by a memory limit of 64 MB around the board's Python."""
    body = "x = [bytearray(b'x' * 4096) for _ in range(100000)]"
    with memory_limit(64 << 20) as join:
        text = _runtime_double(lab, body).replace("ulimit -c 0", join)
        return _with_python(lab, text)


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


def hung_python(lab: Lab) -> Ended:
    return _with_python(lab, "#!/bin/sh\nexec sleep 3333\n", "--timeout", 5)


def frozen_server(lab: Lab) -> Ended:
    """The SSH server stops: the kernel still acknowledges what arrives, nobody reads it."""
    ended = _running(lab, lambda: lab.board.freeze(), "--timeout", 8)
    lab.board.kill_server()
    lab.quiet()
    lab.board.power_on()
    return ended


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


def _with_double(lab: Lab, fault: str, *words: object) -> Ended:
    return lab.start("--runs", 20, "--benchmark-binary", lab.double(fault), *words).end()


def adb_segfault(lab: Lab) -> Ended:
    return _with_double(lab, "kill -SEGV $$")


def adb_exit_1(lab: Lab) -> Ended:
    return _with_double(lab, "echo 'ERROR: no such operation' >&2; exit 1")


def adb_hung(lab: Lab) -> Ended:
    return _with_double(lab, "sleep 3333", "--timeout", 6)


def wrong_machine(lab: Lab) -> Ended:
    binary = lab.folder / "for-another-machine"
    binary.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(64))
    binary.chmod(0o755)
    return lab.start("--runs", 20, "--benchmark-binary", binary).end()


def legacy(act: Callable[[Lab], Ended]) -> Callable[[Lab], Ended]:
    """With an adb that says the device has no shell_v2, as before Android 7. A double of adb's
    list of features only: edgeopt then takes the old protocol, which this adbd really speaks."""

    def acted(lab: Lab) -> Ended:
        import adbutils

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
