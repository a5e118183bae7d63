"""A real adbd in a world of its own, with Android's shell (mksh): cut, slowed, reset, restarted."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tools.adbd import Unavailable, listening, unpack
from tools.world import World, run, wait_until

__all__ = ["AdbBoard", "adb_board"]

_MOUNTS = 'mount --make-rprivate / && mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev"'
_HOME = "/data/local/tmp"


class AdbBoard(World):
    """`root` is its file tree; adb reaches it with `env`, through a server of its own."""

    def __init__(self, folder: Path, *, rate_bits: float | None = None) -> None:
        self.root = folder / "root"
        super().__init__(server="adbd", rate_bits=rate_bits, proc=f"{self.root}/proc")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        self.env = {"ANDROID_ADB_SERVER_PORT": port, "HOME": str(folder)}
        self.environment: list[str] = []  # more of it, of adbd and what it starts: NAME=VALUE
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def serial(self) -> str:
        return f"{self.host}:5555"

    @property
    def url(self) -> str:
        return f"adb://{self.serial}"

    @property
    def work(self) -> Path:
        """Its work folder, as this machine sees it."""
        return self.root / "data/local/tmp/edgeopt"

    def __enter__(self) -> AdbBoard:
        unpack(self.root)
        shell = self.root / "usr/local/bin/sh"
        shell.symlink_to("/bin/mksh")
        try:
            self.begin(_MOUNTS, str(self.root))
            self._serve()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.kill_adb_server()
        self.end()
        self._reap()

    def power_on(self) -> None:
        self.mend()
        self._serve()

    def kill_adb_server(self) -> None:
        """The server on this machine, as `adb kill-server` does."""
        import adbutils

        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                [adbutils.adb_path(), "kill-server"],
                env={**os.environ, **self.env},
                capture_output=True,
                timeout=10,
            )

    def mount_tmpfs(self, folder: Path, options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        run(*self.enter("-m"), "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))

    def unmount(self, folder: Path) -> None:
        run(*self.enter("-m", "-p"), "umount", "-l", str(folder))

    def _reap(self) -> None:
        """adbd is dead. Its nsenter stopped when it was frozen, and would not notice."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()

    def _serve(self) -> None:
        self._reap()
        environment = ["PATH=/usr/local/bin:/usr/bin:/bin", f"HOME={_HOME}", f"TMPDIR={_HOME}"]
        environment += ["SHELL=/bin/mksh", *self.environment]
        inside = ["chroot", str(self.root), "env", "-i", *environment, "/usr/sbin/adbd"]
        with (self.root.parent / "adbd.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [*self.enter("-m", "-n", "-p"), *inside],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if not wait_until(lambda: listening(self.host), 30):
            raise Unavailable("adbd does not listen")


@contextlib.contextmanager
def adb_board(*, rate_bits: float | None = None) -> Iterator[AdbBoard]:
    """Raises Unavailable with the reason when this machine cannot run one."""
    folder = Path(tempfile.mkdtemp(prefix="edgeopt-adb-board-"))
    try:
        with AdbBoard(folder, rate_bits=rate_bits) as board:
            yield board
    finally:
        shutil.rmtree(folder, ignore_errors=True)
