"""Leases in a folder of several logins: what is another's can neither be ended, nor mislead."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from edgeopt.device.leasing.lease import Board, Held, Lease
from edgeopt.device.local import LocalTransport
from edgeopt.device.transport import Completed
from edgeopt.errors import DeviceError
from edgeopt.progress import Silent

SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "mksh": ["mksh"], "ash": ["busybox", "sh"]}
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root becomes other users"
)


class Login(LocalTransport):
    """This machine, as another user and with another shell."""

    def __init__(self, uid: int = 0, shell: Sequence[str] = ("sh",)) -> None:
        self.uid, self.shell = uid, shell

    def run(self, argv: Sequence[str], **rest: object) -> Completed:
        words = [*self.shell, *argv[1:]] if argv[0] == "sh" else [*argv]
        if self.uid:
            one = str(self.uid)
            words = ["setpriv", "--reuid", one, "--regid", one, "--clear-groups", *words]
        return super().run(words, **rest)  # type: ignore[arg-type]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to others
        Path(place).chmod(0o755)
        found = Path(place) / "leases"
        found.mkdir()
        found.chmod(0o1777)
        yield found


def board(folder: Path, uid: int = 0, shell: Sequence[str] = ("sh",)) -> Board:
    return Board(transport=Login(uid, shell), folder=str(folder), mode="1777")


def take(board: Board, ttl_s: int = 60) -> Lease:
    return board.take(purpose="test", wait_s=0, progress=Silent(), ttl_s=ttl_s)


def age(folder: Path, lease: Lease, seconds: int) -> None:
    """As if its owner had not been heard of for so long."""
    now = int(float(Path("/proc/uptime").read_text().split()[0]))
    (folder / f"{lease.name}-beat").write_text(f"{now - seconds}\n")


@needs_root
def test_a_dead_lease_of_another_login_bars_nobody(folder: Path) -> None:
    anna, otto = board(folder, 60001), board(folder, 60002)
    first = take(anna)
    with pytest.raises(DeviceError, match="in use"):
        take(otto)
    age(folder, first, 61)
    assert take(otto).live
    assert (folder / first.name).exists(), "it is not otto's to remove"


@needs_root
def test_who_comes_back_after_his_lease_was_over_is_told(folder: Path) -> None:
    """His lease still lies there: nobody else could remove it."""
    anna, otto = board(folder, 60001), board(folder, 60002)
    first = take(anna)
    age(folder, first, 61)
    second = take(otto)
    assert "no sign of life" in anna.beat(first)
    assert otto.beat(second) == ""


@needs_root
def test_another_logins_lease_is_not_ended_and_that_is_said(folder: Path) -> None:
    first = take(board(folder, 60001))
    with pytest.raises(DeviceError, match="another login's"):
        board(folder, 60002).drop(first.name)
    assert (folder / first.name).exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_keeps_a_lease_and_knows_its_end(folder: Path, shell: str) -> None:
    if not shutil.which(SHELLS[shell][0]):
        pytest.skip(f"no {shell} here")
    here = board(folder, shell=SHELLS[shell])
    lease = take(here)
    with pytest.raises(DeviceError, match="in use"):
        take(here)
    assert here.beat(lease) == ""
    age(folder, lease, 60)
    assert "no sign of life" in here.beat(lease)
    here.drop(lease.name)
    assert here.beat(lease) == "somebody ended it"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["lease-a\\c", "lease-a\nlease lease-b 0 same\nend", "lease-a b", "lease-\x1b[2J", "lease-é"],
)
def test_a_planted_name_neither_makes_nor_hides_a_lease(folder: Path, name: str) -> None:
    (folder / name).write_text("boot x\nttl 99\n")
    lease = take(board(folder))
    assert [found.name for found in board(folder).leases()] == [lease.name]


@pytest.mark.parametrize("text", ["boot x\nttl 60\\c", "boot x\n\\nend\\c", "\0" * 9000, "end"])
def test_a_planted_text_neither_makes_nor_hides_a_lease(folder: Path, text: str) -> None:
    (folder / "lease-0").write_text(text)  # it is listed first
    (folder / "lease-0-beat").write_text("09\\c")
    lease = take(board(folder))
    assert [found.name for found in board(folder).leases() if found.live] == [lease.name]


def test_planted_links_and_pipes_are_passed_over(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("boot x\nowner the secret\n")
    (folder / "lease-0").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "lease-1")
    began = time.monotonic()
    lease = take(board(folder))
    os.mkfifo(folder / "lease-2-beat")
    assert [found.name for found in board(folder).leases()] == [lease.name]
    assert time.monotonic() - began < 15


def test_a_sign_of_life_writes_into_nothing_that_was_planted(folder: Path, tmp_path: Path) -> None:
    """The name of a lease is known to all; whoever may write beside it plants a link."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    lease = take(board(folder))
    (folder / f"tmp-{lease.name}").symlink_to(precious)
    assert board(folder).beat(lease) == ""
    assert precious.read_text() == "mine"


def test_what_happened_since_the_last_sign_of_life_counts(folder: Path) -> None:
    """The thread looks every 15 s; a measurement may be judged in between."""
    here = board(folder)
    with Held(here, take(here)) as keeper:
        assert keeper.check() == ""
        here.drop(keeper.lease.name)
        assert keeper.lost == ""
        assert keeper.check() == "somebody ended it"
    ended = Held(here, take(here))
    with ended:
        pass
    assert ended.check() == "", "it was ended by ourselves"
