"""The work folder: content-addressed, checked where it lies, swept, limited, removable."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgeopt.device import DeviceSpec, Workspace
from edgeopt.device.leftovers import host_tag
from edgeopt.device.local import LocalTransport, connect
from edgeopt.device.transport import Completed
from edgeopt.errors import DeviceError

ODD = 'it\'s; rm -rf $HOME `x` "q"\nnew line'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def space(root: Path) -> Iterator[Workspace]:
    space = Workspace(LocalTransport(), root=str(root), limit_bytes=512 << 20)
    yield space
    space.close()


def made(path: Path, content: bytes) -> tuple[Path, str]:
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


def is_running(process: Path) -> bool:
    """Is there such a process, and is it more than an entry that nobody has reaped?"""
    try:
        return (process / "stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def names(root: Path) -> set[str]:
    return {entry.name for entry in root.iterdir()} if root.exists() else set()


def test_a_file_is_sent_once_and_kept_private(space: Workspace, root: Path, tmp_path: Path) -> None:
    source, sha256 = made(tmp_path / "m", b"model" * 1000)
    first = space.put(source, sha256=sha256, suffix=".tflite")
    assert (first.sent_bytes, Path(first.path)) == (5000, root / f"{sha256}.tflite")
    assert space.put(source, sha256=sha256, suffix=".tflite").sent_bytes == 0
    assert (root.stat().st_mode & 0o777, Path(first.path).stat().st_mode & 0o777) == (0o700, 0o600)


def test_a_damaged_copy_on_the_device_is_sent_again(
    space: Workspace, root: Path, tmp_path: Path
) -> None:
    source, sha256 = made(tmp_path / "m", b"model")
    placed = Path(space.put(source, sha256=sha256, suffix="").path)
    placed.write_bytes(b"mXdel")
    assert space.put(source, sha256=sha256, suffix="").sent_bytes == 5
    assert placed.read_bytes() == b"model"


def test_a_file_that_arrives_otherwise_is_removed_and_refused(
    space: Workspace, root: Path, tmp_path: Path
) -> None:
    source, _ = made(tmp_path / "m", b"model")
    with pytest.raises(DeviceError, match="not the one that was sent"):
        space.put(source, sha256="0" * 64, suffix=".tflite")
    space.close()
    assert names(root) == set()


def test_odd_folder_names_are_never_read_as_commands(tmp_path: Path) -> None:
    source, sha256 = made(tmp_path / "m", b"model")
    space = Workspace(LocalTransport(), root=str(tmp_path / ODD), limit_bytes=1 << 20)
    placed = space.put(source, sha256=sha256, suffix=".tflite")
    assert Path(placed.path).parent == tmp_path / ODD
    assert space.clean() == 5
    assert not (tmp_path / ODD).exists()


def test_a_work_folder_that_others_can_write_to_is_refused(space: Workspace, root: Path) -> None:
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(DeviceError, match="other users can write"):
        assert space.root


def test_a_work_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    space = Workspace(LocalTransport(), root=str(tmp_path / "file" / "x"), limit_bytes=1)
    with pytest.raises(DeviceError, match="cannot make its work folder"):
        assert space.root


def test_clean_removes_ours_and_nothing_else(space: Workspace, root: Path, tmp_path: Path) -> None:
    source, sha256 = made(tmp_path / "m", b"model")
    space.put(source, sha256=sha256, suffix=".tflite")
    (root / "tmp-dead-1-x-1").write_bytes(b"12345")
    (root / "edgeopt.lock").touch()
    (root / "users own file").write_text("stays")
    assert space.clean() == 10
    assert names(root) == {"users own file"}
    assert space.clean() == 0


def test_leftovers_go_when_old_or_when_their_process_is_gone(space: Workspace, root: Path) -> None:
    root.mkdir(mode=0o700)
    process = subprocess.Popen(["true"])
    process.wait()
    host = host_tag().partition("-")[0]
    for name in (
        f"{host}-{process.pid}-a-1",
        f"{host}-{os.getpid()}-b-1",
        "feed-1-c-1",
        "feed-1-d-1",
    ):
        (root / f"tmp-{name}").touch()
    hours_ago = time.time() - 2 * 3600
    os.utime(root / "tmp-feed-1-d-1", (hours_ago, hours_ago))
    assert space.root
    assert names(root) == {f"tmp-{host}-{os.getpid()}-b-1", "tmp-feed-1-c-1"}


def test_the_oldest_used_go_when_the_folder_is_full(root: Path, tmp_path: Path) -> None:
    files = [made(tmp_path / f"m{i}", bytes([i]) * 100_000) for i in range(4)]
    for age, (source, sha256) in zip((3, 1, 2), files, strict=False):
        space = Workspace(LocalTransport(), root=str(root), limit_bytes=1 << 20)
        placed = space.put(source, sha256=sha256, suffix="")
        os.utime(placed.path, (time.time() - age * 60,) * 2)
        space.close()
    space = Workspace(LocalTransport(), root=str(root), limit_bytes=320_000)
    space.put(files[3][0], sha256=files[3][1], suffix="")
    space.close()
    assert names(root) == {files[i][1] for i in (1, 2, 3)}


def test_what_is_there_already_needs_no_room(root: Path, tmp_path: Path) -> None:
    files = [made(tmp_path / f"m{i}", bytes([i]) * 100_000) for i in range(2)]
    for _ in range(2):
        for source, sha256 in files:
            space = Workspace(LocalTransport(), root=str(root), limit_bytes=250_000)
            space.put(source, sha256=sha256, suffix="")
            space.close()
    assert names(root) == {sha256 for _, sha256 in files}


def test_what_a_session_uses_is_not_evicted_by_it(root: Path, tmp_path: Path) -> None:
    space = Workspace(LocalTransport(), root=str(root), limit_bytes=50_000)
    files = [made(tmp_path / f"m{i}", bytes([i]) * 100_000) for i in range(2)]
    placed = [space.put(source, sha256=sha256, suffix="") for source, sha256 in files]
    assert all(Path(p.path).exists() for p in placed)
    space.close()
    assert names(root) == set()


def test_what_another_session_uses_is_neither_removed_nor_evicted(
    root: Path, tmp_path: Path
) -> None:
    source, sha256 = made(tmp_path / "m", b"model" * 20_000)
    first, second = (
        Workspace(LocalTransport(), root=str(root), limit_bytes=limit) for limit in (1 << 20, 1024)
    )
    path = Path(first.put(source, sha256=sha256, suffix="", keep=False).path)
    assert second.put(source, sha256=sha256, suffix="", keep=False).sent_bytes == 0
    first.close()
    assert path.exists()
    second.close()
    assert not root.exists()


class Mute(LocalTransport):
    """A double: a link that stops answering once `cut` is set; each call costs its deadline."""

    cut = False
    waited_s = 0.0

    def run(self, argv: Sequence[str], *, timeout_s: float, **rest: Any) -> Completed:
        if self.cut:
            self.waited_s += timeout_s
            raise DeviceError("no answer")
        return super().run(argv, timeout_s=timeout_s, **rest)

    def push(self, *words: Any, **rest: Any) -> None:
        self.cut = True
        raise DeviceError("stalled")


def test_a_link_that_no_longer_answers_is_waited_for_once(root: Path, tmp_path: Path) -> None:
    source, sha256 = made(tmp_path / "m", b"model")
    link = Mute()
    space = Workspace(link, root=str(root), limit_bytes=1 << 20)
    with pytest.raises(DeviceError, match="stalled"):
        space.put(source, sha256=sha256, suffix="", keep=False)
    space.discard()
    space.close()
    assert link.waited_s <= 10


def test_a_killed_session_holds_nothing(root: Path, tmp_path: Path) -> None:
    source, sha256 = made(tmp_path / "m", b"model")
    process = subprocess.Popen(["true"])
    process.wait()
    root.mkdir(mode=0o700)
    dead = f"run-{host_tag().partition('-')[0]}-{process.pid}-abcd-uses"
    (root / dead).write_text(sha256 + "\n")
    space = Workspace(LocalTransport(), root=str(root), limit_bytes=1 << 20)
    space.put(source, sha256=sha256, suffix="", keep=False)
    space.close()
    assert not root.exists()


def test_unkept_files_and_their_folder_go_at_the_end(root: Path, tmp_path: Path) -> None:
    source, sha256 = made(tmp_path / "m", b"model")
    space = Workspace(LocalTransport(), root=str(root), limit_bytes=1 << 20)
    space.put(source, sha256=sha256, suffix=".tflite", keep=False)
    space.close()
    assert not root.exists()


def test_a_folder_is_sent_once_with_its_executables(
    space: Workspace, root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "program"
    (folder / "lib").mkdir(parents=True)
    (folder / "run it").write_text("#!/bin/sh\necho ran\n")
    (folder / "run it").chmod(0o755)
    (folder / "lib" / "a'b.so").write_bytes(b"library")
    placed = space.put_tree(folder)
    assert subprocess.run([f"{placed.path}/run it"], capture_output=True, check=True).stdout
    assert space.put_tree(folder).sent_bytes == 0
    (Path(placed.path) / "lib" / "a'b.so").write_bytes(b"damaged")
    assert space.put_tree(folder).sent_bytes > 0
    (Path(placed.path) / "intruder").touch()
    assert space.put_tree(folder).sent_bytes > 0


def test_a_run_folder_is_gone_after_an_error(space: Workspace, root: Path) -> None:
    with pytest.raises(KeyError), space.run_dir() as folder:
        (Path(folder) / "outputs").touch()
        raise KeyError
    assert names(root) == set()


def test_only_entries_of_the_folder_can_be_removed(space: Workspace, root: Path) -> None:
    for path in (f"{root}/../x", "/etc/passwd", f"{root}", f"{root}/.."):
        with pytest.raises(ValueError, match="not an entry"):
            space.remove(path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="whether it runs is read in /proc")
def test_a_local_command_is_killed_with_its_children_at_the_deadline(tmp_path: Path) -> None:
    transport = connect(DeviceSpec(name="local", kind="local"), 5)
    argv = ["sh", "-c", f"sleep 41.5 & echo $! >{tmp_path}/pid; wait"]
    start = time.monotonic()
    with pytest.raises(DeviceError, match="did not end within"):
        transport.run(argv, timeout_s=0.3)
    assert time.monotonic() - start < 3
    child = Path("/proc") / (tmp_path / "pid").read_text().strip()
    deadline = time.monotonic() + 2
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(child)


def test_a_local_command_may_read_nothing_and_print_much() -> None:
    done = LocalTransport().run(
        ["sh", "-c", "yes | head -c 3000000; exit 7"], timeout_s=20, stdin=b"x" * 3_000_000
    )
    assert (len(done.stdout), done.exit_code) == (3_000_000, 7)


def test_endless_output_is_ended() -> None:
    with pytest.raises(DeviceError, match="more than 64 MB"):
        LocalTransport().run(["yes"], timeout_s=60)


def test_a_missing_local_program_is_a_device_error() -> None:
    with pytest.raises(DeviceError, match="cannot be run"):
        LocalTransport().run(["/nonexistent/program"], timeout_s=5)
