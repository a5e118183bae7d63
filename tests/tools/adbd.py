"""A real adbd (Debian trixie's) as the other end of a real ADB link, for tests.

It lives in its own network, mount and process namespaces: nothing of it is seen in `mount` or
`ip netns`, and all of it dies with the one process that holds the namespaces. Needs root,
mmdebstrap and a Debian mirror (for the first build only; the tree is then kept as a tarball).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

_TOOLS = ("mmdebstrap", "ip", "unshare", "nsenter", "setpriv", "tar", "chroot")
_PACKAGES = "adbd,procps,toybox,mksh"
_TARBALL = "adbd-trixie-2.tar"
_PATH = "/usr/local/bin:/usr/bin:/bin"

# The stand-in for Android's own program; its answers say that they are a test's.
_GETPROP = """#!/bin/sh
case "$1" in
ro.product.model) echo "adbd in a test namespace" ;;
ro.product.manufacturer) echo Debian ;;
ro.product.cpu.abi) uname -m ;;
ro.build.version.sdk) echo 0 ;;
esac
"""


class Unavailable(Exception):
    """This machine cannot run the device side; the message is the reason to skip."""


@dataclass(frozen=True, kw_only=True)
class Adbd:
    """A running device side. `env` points adb at a server of this fixture's own."""

    serial: str
    root: Path
    env: dict[str, str]
    link: str

    def cut(self) -> None:
        """Take the cable away: packets vanish and neither end is told."""
        _run("ip", "link", "set", self.link, "down")

    def mend(self) -> None:
        _run("ip", "link", "set", self.link, "up")

    def path(self, remote: str) -> Path:
        """Where the test sees a file of the device."""
        return self.root / remote.lstrip("/")


def _run(*argv: str, timeout_s: float = 30.0) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=timeout_s)


def require_tools() -> None:
    """Raise Unavailable with the reason when this machine cannot run an adbd."""
    if os.geteuid() != 0:
        raise Unavailable("adbd in a namespace needs root")
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        raise Unavailable(
            f"not installed: {', '.join(missing)} (tests/tools/install_device_packages.sh)"
        )


def _cache_folder() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "edgeopt-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def root_tarball() -> Path:
    """The device's file tree, built once (about 30 s) and kept; concurrent callers wait."""
    require_tools()
    folder = _cache_folder()
    tarball = folder / _TARBALL
    with (folder / f"{_TARBALL}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tarball.is_file():
            _build(tarball)
    return tarball


def _build(tarball: Path) -> None:
    part = tarball.with_suffix(".part.tar")
    argv = [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--include={_PACKAGES}",
        "trixie",
        str(part),
    ]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired as error:
        raise Unavailable("mmdebstrap did not finish within 600 s") from error
    if done.returncode != 0:
        part.unlink(missing_ok=True)
        raise Unavailable(f"mmdebstrap failed: {done.stderr.strip()[-300:]}")
    part.replace(tarball)


def unpack(root: Path) -> None:
    root.mkdir()
    # Device nodes are left out: the real /dev is bound over them.
    _run("tar", "-C", str(root), "--exclude=./dev/*", "-xf", str(root_tarball()), timeout_s=120)
    (root / "data/local/tmp").mkdir(parents=True)
    stub = root / "usr/local/bin/getprop"
    stub.write_text(_GETPROP)
    stub.chmod(0o755)


def _start(root: Path) -> subprocess.Popen[bytes]:
    script = (
        'mount --make-rprivate / && mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && '
        "ip link set lo up && "
        f'exec chroot "$1" env -i PATH={_PATH} HOME=/data/local/tmp TMPDIR=/data/local/tmp '
        "SHELL=/bin/sh /usr/sbin/adbd"
    )
    spaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL"]
    argv = ["setpriv", "--pdeathsig", "KILL", *spaces, "sh", "-c", script, "sh", str(root)]
    with (root.parent / "adbd.log").open("wb") as log:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _wait(condition: str, check: object, timeout_s: float = 10.0) -> None:
    assert callable(check)
    end = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > end:
            raise Unavailable(f"timed out waiting until {condition}")
        time.sleep(0.02)


def _own_network(pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


def _cable(pid: int) -> tuple[str, str]:
    """Join this machine and the namespace of `pid`; returns our interface and its address."""
    token = secrets.token_hex(3)
    ours, theirs = f"eoh{token}", f"eod{token}"
    _run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs)
    try:
        _run("ip", "link", "set", theirs, "netns", str(pid))
        net = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(256)}"
        _run("ip", "addr", "add", f"{net}.1/24", "dev", ours)
        _run("ip", "link", "set", ours, "up")
        inside: Sequence[str] = ("nsenter", "-t", str(pid), "-n", "ip")
        _run(*inside, "addr", "add", f"{net}.2/24", "dev", theirs)
        _run(*inside, "link", "set", theirs, "up")
    except subprocess.CalledProcessError:
        _run("ip", "link", "del", ours)
        raise
    return ours, f"{net}.2"


def listening(address: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, 5555), timeout=0.5):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def adbd_or_skip() -> Iterator[Adbd]:
    """The body of a fixture: adb talks to this device's own server while it lasts."""
    try:
        with running_adbd() as board, pytest.MonkeyPatch.context() as patch:
            patch.setenv("ANDROID_ADB_SERVER_PORT", board.env["ANDROID_ADB_SERVER_PORT"])
            patch.setenv("HOME", board.env["HOME"])
            yield board
    except Unavailable as reason:
        pytest.skip(str(reason))


@contextlib.contextmanager
def running_adbd() -> Iterator[Adbd]:
    """A device reachable at `.serial`; everything is gone when the block ends."""
    import adbutils

    folder = Path(tempfile.mkdtemp(prefix="edgeopt-adbd-"))
    env = {**os.environ, "ANDROID_ADB_SERVER_PORT": str(_free_port()), "HOME": str(folder)}
    process: subprocess.Popen[bytes] | None = None
    link = ""
    try:
        unpack(folder / "root")
        process = _start(folder / "root")
        pid = process.pid
        _wait("the namespaces exist", lambda: _own_network(pid))
        try:
            link, address = _cable(pid)
        except subprocess.CalledProcessError as error:
            raise Unavailable(f"no virtual network cable: {error.stderr!r}") from error
        _wait("adbd listens", lambda: listening(address))
        yield Adbd(serial=f"{address}:5555", root=folder / "root", env=env, link=link)
    finally:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                [adbutils.adb_path(), "kill-server"], env=env, capture_output=True, timeout=10
            )
        if process is not None:
            process.kill()
            process.wait(10)
        if link:  # normally gone with its namespace already
            subprocess.run(["ip", "link", "del", link], capture_output=True, timeout=10)
        shutil.rmtree(folder)
