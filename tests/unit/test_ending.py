"""What a killed session left running is ended with all that it had started, by every shell."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeopt.device.scripts import END
from edgeopt.device.ssh.transport import _KILL

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it reads /proc")
SHELLS = ["sh", "dash", "bash", "mksh", "busybox"]
TWO = "sleep 60 & sleep 61; :"  # a shell and two programs


def words(shell: str) -> list[str]:
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}")
    return [shell, "sh", "-c"] if shell == "busybox" else [shell, "-c"]


def members(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, leader = file.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(leader) == group and state != "Z":
            found.append(int(file.parent.name))
    return found


def until(check: object, timeout_s: float = 20.0) -> bool:
    assert callable(check)
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("script", [END, _KILL], ids=["END", "_KILL"])
@pytest.mark.parametrize("shell", SHELLS)
def test_a_group_is_ended_as_a_whole(shell: str, script: str) -> None:
    ender = words(shell)
    leader = subprocess.Popen(["sh", "-c", TWO], start_new_session=True)
    try:
        assert until(lambda: len(members(leader.pid)) == 3)
        subprocess.run([*ender, script, "sh", str(leader.pid)], check=True, timeout=20)
        assert until(lambda: not members(leader.pid))
    finally:
        for pid in members(leader.pid):
            subprocess.run(["kill", "-9", str(pid)], check=False)
        leader.wait()


@pytest.mark.parametrize("shell", SHELLS)
def test_what_leads_no_group_may_end_what_it_started_itself(shell: str, tmp_path: Path) -> None:
    ender, file = words(shell), tmp_path / "ended"
    text = f"trap 'touch {file}; exit' TERM; echo; while :; do sleep 0.05; done"
    # The group has another leader, which must live.
    leader = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess; subprocess.run(['sh', '-c', {text!r}])"],
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    try:
        assert leader.stdout and leader.stdout.readline() == b"\n"
        # Not the copy of it that is about to become a `sleep`.
        waiting = [p for p in members(leader.pid) if "trap" in _words(p)[:40]]
        [child] = [p for p in waiting if _parent(p) == leader.pid]
        assert child != leader.pid
        subprocess.run([*ender, END, "edgeopt", str(child)], check=True, timeout=20)
        assert file.exists() and not Path(f"/proc/{child}").exists()
        assert leader.wait(20) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)  # whoever stays would hold the pipe open
        leader.communicate()


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _words(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return ""
    return text[2] if len(text) > 2 and text[0] == "sh" else ""
