"""A real OpenSSH server as a board, for tests and benchmarks.

It runs in a mount namespace of its own, where root's home is a temporary folder and the login
shell a plain one; with `link=True` also in a network namespace behind a virtual cable that can be
cut. All of it dies with the one process that is stopped at the end. Needs root and
openssh-server.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from edgeopt.device import DeviceSpec
from edgeopt.device.ssh import host_keys

_SSHD = "/usr/sbin/sshd"
_TOOLS = (_SSHD, "ssh-keygen", "unshare", "nsenter", "ip", "mount")
_CONFIG = """
Port {port}
ListenAddress {host}
HostKey {folder}/host_ed25519
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
UseDNS no
LogLevel ERROR
Subsystem sftp internal-sftp
"""


def why_no_sshd() -> str:
    """The reason to skip, or an empty text."""
    missing = [tool for tool in _TOOLS if not shutil.which(tool)]
    if os.geteuid() != 0:
        return "a real sshd in a namespace needs root"
    if missing:
        return f"not installed: {', '.join(missing)} (tests/tools/install_device_packages.sh)"
    return ""


class Sshd:
    """`folder` holds the keys, the board's home and its configuration."""

    def __init__(self, folder: Path, *, link: bool = False, extra: str = "") -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.key = folder / "client_key"
        self._link = f"eo{secrets.token_hex(4)}" if link else ""
        net = f"10.{20 + secrets.randbelow(60)}.{secrets.randbelow(256)}"
        self.host = f"{net}.2" if link else "127.0.0.1"
        self._near = f"{net}.1"
        self.port = 2222 if link else _free_port()
        self.login_shell = "/bin/sh"
        self._extra = extra
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ssh://root@{self.host}:{self.port}"

    def spec(self, **changes: object) -> DeviceSpec:
        """How edgeopt reaches it; the key is named, so that no agent is asked."""
        values: dict[str, object] = {
            "name": "board",
            "kind": "ssh",
            "host": self.host,
            "port": self.port,
            "user": "root",
            "key_file": self.key,
        }
        return DeviceSpec(**{**values, **changes})  # type: ignore[arg-type]

    @property
    def fingerprint(self) -> str:
        """As ssh-keygen says it."""
        public = str(self.folder / "host_ed25519.pub")
        return _run("ssh-keygen", "-l", "-f", public).split()[1]

    def trust(self) -> None:
        """Pin its host key into edgeopt's own known_hosts, as a user would."""
        host_keys.pin(self.spec(), self.fingerprint)

    def __enter__(self) -> Sshd:
        if not self.key.exists():
            self._make_keys()
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def new_host_key(self) -> None:
        """The board was installed anew (or somebody is in between)."""
        self.stop()
        for file in self.folder.glob("host_ed25519*"):
            file.unlink()
        self._keygen("host_ed25519")
        self._start()

    def restart(self) -> None:
        """With the same keys, and whatever was changed."""
        self.stop()
        self._start()

    def cut(self) -> None:
        """Take the cable away: packets vanish and neither end is told."""
        _run("ip", "link", "set", self._link, "down")

    def sessions(self) -> list[int]:
        """The processes of open connections: all descendants of the listener."""
        assert self._process
        return _descendants(self._process.pid)

    def running(self, word: str) -> bool:
        """Is a command with `word` in its arguments left on the board?"""
        lines = [_cmdline(pid) for pid in self.sessions()]
        return any(word in line for line in lines)

    def freeze(self) -> None:
        """Stop the server's sessions: the kernel still acknowledges, nobody reads."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def mount_tmpfs(self, folder: Path, options: str) -> None:
        """A file system of its own inside the board, e.g. `size=1m` or `ro`."""
        assert self._process
        folder.mkdir(parents=True, exist_ok=True)
        namespace = ["nsenter", "-t", str(self._process.pid), "-m", "--"]
        _run(*namespace, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))

    def inside(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command among the board's mounts; it is not one of its sessions."""
        assert self._process
        return subprocess.Popen(["nsenter", "-t", str(self._process.pid), "-m", "--", *words])

    def stop(self) -> None:
        if self._process is None:
            return
        for pid in [*self.sessions(), self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        if self._link:
            subprocess.run(["ip", "link", "del", self._link], capture_output=True, check=False)

    def _make_keys(self) -> None:
        self._keygen("host_ed25519")
        self._keygen("client_key")
        shutil.copy(self.folder / "client_key.pub", self.folder / "authorized_keys")

    def _keygen(self, name: str) -> None:
        _run(
            "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", f"{self.folder}/{name}"
        )

    def _configure(self) -> Path:
        """Write the server's configuration and the board's users; the latter's file."""
        (self.folder / "sshd_config").write_text(
            self._extra + _CONFIG.format(port=self.port, host=self.host, folder=self.folder)
        )
        passwd = self.folder / "passwd"
        passwd.write_text(
            f"root:x:0:0::{self.home}:{self.login_shell}\nsshd:x:105:65534::/run/sshd:/bin/false\n"
        )
        return passwd

    def _start(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd exits with 255 without it
        passwd, config = self._configure(), self.folder / "sshd_config"
        script = (
            f"mount --make-rprivate / && mount --bind {passwd} /etc/passwd"
            f" && ([ -z '{self._link}' ] || until ip addr add {self.host}/24 dev eth0 2>/dev/null;"
            f" do sleep 0.02; done) && ([ -z '{self._link}' ] || ip link set eth0 up)"
            f" && exec {_SSHD} -D -e -f {config}"
        )
        flags = ["-m", "-n"] if self._link else ["-m"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", *flags, "sh", "-c", script], stdin=subprocess.DEVNULL, stderr=log
            )
        if self._link:
            self._plug_in(self._process.pid)
        self._wait()

    def _plug_in(self, pid: int) -> None:
        time.sleep(0.1)  # for unshare to be in its new namespace
        name, far = self._link, f"{self._link}p"
        _run("ip", "link", "add", name, "type", "veth", "peer", "name", far)
        _run("ip", "link", "set", far, "netns", str(pid), "name", "eth0")
        _run("ip", "addr", "add", f"{self._near}/24", "dev", name)
        _run("ip", "link", "set", name, "up")

    def _wait(self) -> None:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
                return
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"sshd did not start: {(self.folder / 'log').read_text()}")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [int(child), *_descendants(int(child))]
    return found


def _cmdline(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except OSError:
        return ""
