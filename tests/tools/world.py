"""Namespaces of a board: its own processes, mounts and network behind a virtual cable.

Pid 1 is a small shell that reaps, so that what outlives a server is still seen. All of it dies
with the one process that holds the namespaces, and that with the thread that started it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["World", "wait_until"]

_SPACES = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL")
_LOOP = "ip link set lo up && echo ready && while :; do sleep 0.7; done"
# Each packet in the queue at most 64 kB, as much as segmentation offload makes of one.
_TBF = ("burst", "64kb", "latency", "50ms")
_NOBODY = "02:00:00:00:00:01"


class World:
    """`host` is the board's address. `server` begins the words of what serves the connections."""

    def __init__(self, *, server: str, rate_bits: float | None = None, proc: str = "/proc") -> None:
        net = f"10.{90 + secrets.randbelow(100)}.{secrets.randbelow(256)}"
        self.host, self._near = f"{net}.2", f"{net}.1"
        self._cable = f"ew{secrets.token_hex(4)}"
        self._server, self._rate, self._proc = server, rate_bits, proc
        self._holder: subprocess.Popen[bytes] | None = None
        self._init = 0  # pid 1 of the board, as this machine counts it

    def begin(self, script: str, *words: str) -> None:
        """Make the namespaces; `script` mounts what the board has; `words` are its $1 and on."""
        argv = ["setpriv", "--pdeathsig", "KILL", *_SPACES, "sh", "-c", f"{script} && {_LOOP}"]
        self._holder = subprocess.Popen(
            [*argv, "sh", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._holder.stdout
        if self._holder.stdout.readline() != b"ready\n":
            self.end()
            raise RuntimeError("the board's namespaces could not be made")
        pid = self._holder.pid
        self._init = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        name, far = self._cable, f"{self._cable}p"
        run("ip", "link", "add", name, "type", "veth", "peer", "name", far)
        run("ip", "link", "set", far, "netns", str(self._init), "name", "eth0")
        run("ip", "addr", "add", f"{self._near}/24", "dev", name)
        run("ip", "link", "set", name, "up")
        run(*self.enter("-n"), "ip", "addr", "add", f"{self.host}/24", "dev", "eth0")
        run(*self.enter("-n"), "ip", "link", "set", "eth0", "up")
        if self._rate:
            self.slow(self._rate)

    def end(self) -> None:
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
            assert self._holder.stdout
            self._holder.stdout.close()
            self._holder = None
        subprocess.run(["ip", "link", "del", self._cable], capture_output=True, check=False)

    def enter(self, *spaces: str) -> list[str]:
        """The words before a command that is to run in these namespaces of the board."""
        return ["nsenter", "-t", str(self._init), *spaces, "--"]

    def cut(self) -> None:
        """Packets vanish, both ways; neither end is told, as with a switch that lost its power."""
        ours = (self.host, "lladdr", _NOBODY, "nud", "permanent", "dev", self._cable)
        theirs = (self._near, "lladdr", _NOBODY, "nud", "permanent", "dev", "eth0")
        run("ip", "neigh", "replace", *ours)
        run(*self.enter("-n"), "ip", "neigh", "replace", *theirs)

    def mend(self) -> None:
        for words in (
            ["ip", "neigh", "del", self.host, "dev", self._cable],
            [*self.enter("-n"), "ip", "neigh", "del", self._near, "dev", "eth0"],
        ):
            subprocess.run(words, capture_output=True, check=False)  # it may not have been cut

    def slow(self, rate_bits: float) -> None:
        """Limit the cable to so many bits a second, each way."""
        words = ("root", "tbf", "rate", f"{rate_bits:.0f}", *_TBF)
        run("tc", "qdisc", "replace", "dev", self._cable, *words)
        run(*self.enter("-n"), "tc", "qdisc", "replace", "dev", "eth0", *words)

    def fast(self) -> None:
        """As fast as it was made."""
        if self._rate:
            return self.slow(self._rate)
        for inside in ([], self.enter("-n")):
            dev = "eth0" if inside else self._cable
            words = [*inside, "tc", "qdisc", "del", "dev", dev, "root"]
            subprocess.run(words, capture_output=True, check=False)  # it may not have been slowed
        return None

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

    def cpu_seconds(self) -> float:
        """What its processes have used so far, those that ended too: pid 1 reaps them."""
        ticks = 0
        for pid in (self._init, *self.processes()):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(int(field) for field in fields[11:15])
        return ticks / os.sysconf("SC_CLK_TCK")

    def listing(self) -> list[tuple[int, str]]:
        """Cheaper, by the board's own /proc: process group, as the board counts it, and words of
        everything that is not the server's own."""
        found = []
        for folder in Path(f"/proc/{self._init}/root{self._proc}").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                if words and words != "sleep 0.7" and folder.name != "1":
                    found.append((_group((folder / "stat").read_text()), words))
        return [(group, words) for group, words in found if not self._own(words)]

    def strays(self) -> dict[int, str]:
        """What runs there that is not the server's own."""
        return {pid: words for pid, words in self.processes().items() if not self._own(words)}

    def _own(self, words: str) -> bool:
        """Is it the server's?"""
        return self._server in words[: len(self._server) + 12]

    def kill_server(self) -> None:
        """The server dies with all its sessions; what they had started lives on."""
        for pid in self.processes().keys() - self.strays().keys():
            _signal(pid, signal.SIGKILL)

    def freeze(self) -> None:
        """Stop the server and its sessions: the kernel still acknowledges, nobody reads."""
        for pid in self.processes().keys() - self.strays().keys():
            _signal(pid, signal.SIGSTOP)

    def power_off(self) -> None:
        """Everything on it dies, and the cable is dead."""
        self.cut()
        for pid in self.processes():
            _signal(pid, signal.SIGKILL)

    def send(self, number: signal.Signals, word: str) -> int:
        """Signal the board's processes that have `word` among theirs. Returns how many."""
        pids = [pid for pid, words in self.strays().items() if word in words]
        for pid in pids:
            _signal(pid, number)
        return len(pids)


def wait_until(check: Callable[[], object], timeout_s: float, step_s: float = 0.02) -> bool:
    """True as soon as `check()` is; False after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(step_s)
    return True


def run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")


def _group(stat: str) -> int:
    return int(stat.rpartition(")")[2].split()[2])


def _space(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115 - not a path


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
