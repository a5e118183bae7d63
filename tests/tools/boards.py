"""Boards for the lab: real sshds, each in a world of its own, that can be cut, slowed and reset.

`boards(8, folder, rate_bits=80e6)` starts eight. Needs root and openssh-server.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.sshd import Sshd, why_no_sshd
from tools.world import World, run

__all__ = ["Board", "boards", "inventory", "why_no_sshd"]

_MOUNTS = 'mount --make-rprivate / && mount -t proc proc /proc && mount --bind "$1" /etc/passwd'


class Board(World, Sshd):
    """An Sshd with processes of its own. `rate_bits` a second is what its cable carries."""

    def __init__(self, folder: Path, *, rate_bits: float | None = None, extra: str = "") -> None:
        Sshd.__init__(self, folder, link=True, extra=extra)
        World.__init__(self, server="sshd", rate_bits=rate_bits)

    @property
    def work(self) -> Path:
        """Its work folder, as this machine sees it."""
        return self.home / ".cache/edgeopt"

    def power_on(self) -> None:
        self.mend()
        self._serve()

    def sessions(self) -> list[int]:
        return [pid for pid, words in self.processes().items() if "sshd -f" not in words]

    def mount_tmpfs(self, folder: Path, options: str) -> None:
        """A file system of its own inside the board, e.g. `size=1m` or `ro`."""
        folder.mkdir(parents=True, exist_ok=True)
        run(*self.enter("-m"), "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))

    def unmount(self, folder: Path) -> None:
        run(*self.enter("-m", "-p"), "umount", "-l", str(folder))

    def inside(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self.enter("-m", "-n", "-p"), *words])

    def stop(self) -> None:
        self.end()

    def _start(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd exits with 255 without it
        self.begin(_MOUNTS, str(self._configure()))
        self._serve()

    def _serve(self) -> None:
        config, log = str(self.folder / "sshd_config"), str(self.folder / "log")
        run(*self.enter("-m", "-n", "-p"), "/usr/sbin/sshd", "-f", config, "-E", log)
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
