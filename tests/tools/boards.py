"""Boards for the lab: real sshds, each in namespaces of its own, that can be cut, slowed and reset.

A board has its own processes (pid 1 is a small shell that reaps, so that what outlives its sshd
is still seen), its own mounts, home and network, behind a virtual cable. All of it dies with the
one process that holds the namespaces. `boards(8, folder, rate_bits=80e6)` starts eight. Needs root
and openssh-server.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.sshd import Sshd, why_no_sshd

__all__ = ["Board", "boards", "inventory", "why_no_sshd"]

_INIT = (
    'mount --make-rprivate / && mount -t proc proc /proc && mount --bind "$1" /etc/passwd'
    " && ip link set lo up && echo ready && while :; do sleep 0.7; done"
)
_SPACES = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL")
# Each packet in the queue at most 64 kB, as much as segmentation offload makes of one.
_TBF = ("burst", "64kb", "latency", "50ms")


class Board(Sshd):
    """An Sshd with processes of its own. `rate_bits` a second is what its cable carries."""

    def __init__(self, folder: Path, *, rate_bits: float | None = None, extra: str = "") -> None:
        super().__init__(folder, link=True, extra=extra)
        net = f"10.{90 + secrets.randbelow(100)}.{secrets.randbelow(256)}"
        self.host, self._near = f"{net}.2", f"{net}.1"
        self._rate = rate_bits
        self._init = 0  # pid 1 of the board, as this machine counts it

    def mend(self) -> None:
        """Plug the cable in again."""
        _run("ip", "link", "set", self._link, "up")

    def slow(self, rate_bits: float) -> None:
        """Limit the cable to so many bits a second, each way."""
        words = ("root", "tbf", "rate", f"{rate_bits:.0f}", *_TBF)
        _run("tc", "qdisc", "replace", "dev", self._link, *words)
        _run(*self._enter("-n"), "tc", "qdisc", "replace", "dev", "eth0", *words)

    def processes(self) -> dict[int, str]:
        """Every process of the board with its words, but for pid 1 and what it waits in."""
        found = {}
        space = _space(self._init)
        for folder in Path("/proc").glob("[0-9]*"):
            pid = int(folder.name)
            with contextlib.suppress(OSError):
                if pid != self._init and _space(pid) == space:
                    words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[pid] = words.decode(errors="replace").strip()
        return {pid: words for pid, words in found.items() if words and words != "sleep 0.7"}

    def strays(self) -> dict[int, str]:
        """What runs there that is not the SSH server's own."""
        return {pid: words for pid, words in self.processes().items() if "sshd" not in words[:14]}

    def sessions(self) -> list[int]:
        return [pid for pid, words in self.processes().items() if "sshd -f" not in words]

    def kill_server(self) -> None:
        """The SSH server dies with all its sessions; what they had started lives on."""
        for pid, words in self.processes().items():
            if "sshd" in words[:14]:
                _kill(pid)

    def power_off(self) -> None:
        """Everything on it dies, and the cable is dead."""
        self.cut()
        for pid in self.processes():
            _kill(pid)

    def power_on(self) -> None:
        self.mend()
        self._serve()

    def inside(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self._enter("-m", "-n", "-p"), *words])

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        subprocess.run(["ip", "link", "del", self._link], capture_output=True, check=False)

    def _enter(self, *spaces: str) -> list[str]:
        return ["nsenter", "-t", str(self._init), *spaces, "--"]

    def _start(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd exits with 255 without it
        self._configure()
        argv = ["setpriv", "--pdeathsig", "KILL", *_SPACES, "sh", "-c", _INIT, "sh"]
        argv.append(str(self.folder / "passwd"))
        self._process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdout
        if self._process.stdout.readline() != b"ready\n":
            self.stop()
            raise RuntimeError("the board's namespaces could not be made")
        pid = self._process.pid
        self._init = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        self._plug_in(self._init)
        inside = [*self._enter("-n"), "ip"]
        _run(*inside, "addr", "add", f"{self.host}/24", "dev", "eth0")
        _run(*inside, "link", "set", "eth0", "up")
        if self._rate:
            self.slow(self._rate)
        self._serve()

    def _serve(self) -> None:
        config, log = str(self.folder / "sshd_config"), str(self.folder / "log")
        _run(*self._enter("-m", "-n", "-p"), "/usr/sbin/sshd", "-f", config, "-E", log)
        self._wait()


@contextlib.contextmanager
def boards(
    count: int, folder: Path, *, rate_bits: float | None = None, extra: str = ""
) -> Iterator[list[Board]]:
    """`count` boards that edgeopt trusts already (pinned in EDGEOPT_CONFIG); gone afterwards.

    Start them in the main thread: they die with the thread that started them.
    """
    with contextlib.ExitStack() as stack:
        running = []
        for number in range(count):
            board = Board(folder / f"board{number}", rate_bits=rate_bits, extra=extra)
            running.append(stack.enter_context(board))
            board.trust()
        yield running


def inventory(
    running: Sequence[Board], *, python: str = sys.executable, tags: Sequence[str] = ()
) -> str:
    """The devices.toml that names them board0, board1 and so on."""
    lines = ["schema = 1"]
    for number, board in enumerate(running):
        lines += ["", f"[devices.board{number}]", f'url = "{board.url}"', f'key = "{board.key}"']
        lines.append(f'python = "{python}"')
        if tags:
            lines.append(f"tags = {list(tags)!r}".replace("'", '"'))
    return "\n".join(lines) + "\n"


def _space(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115 - not a path


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")


def wait_until(check: object, timeout_s: float) -> bool:
    """True as soon as `check()` is; False after `timeout_s`."""
    assert callable(check)
    end = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
