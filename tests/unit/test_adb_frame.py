"""Exit codes and output through any adb, old or new, however the bytes are cut."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from edgeopt.device.adb.frame import Frame, marked_command
from edgeopt.device.adb.server import explain


def framed(stream: bytes, chunk_bytes: int) -> tuple[bytes, int | None, int | None]:
    out: list[bytes] = []
    frame = Frame("edgeopt-abc", out.append)
    for start in range(0, len(stream), chunk_bytes):
        frame.feed(stream[start : start + chunk_bytes])
    frame.finish()
    return b"".join(out), frame.pid, frame.exit_code


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    "output", [b"", b"x", b"x\n", b"edgeopt-abd\n", b"edgeopt-ab", b"\xff\x00\r"]
)
def test_output_and_code_survive_any_cutting(output: bytes, chunk_bytes: int) -> None:
    stream = b"edgeopt-abc 41\n" + output + b"edgeopt-abc 7\n"
    assert framed(stream, chunk_bytes) == (output, 41, 7)


@pytest.mark.parametrize("chunk_bytes", [1, 2, 5, 1000])
def test_an_old_terminals_carriage_returns_are_taken_away(chunk_bytes: int) -> None:
    stream = b"edgeopt-abc 41\r\none\r\ntwo\r\nedgeopt-abc 0\r\n"
    assert framed(stream, chunk_bytes) == (b"one\ntwo\n", 41, 0)


def test_a_clean_connections_carriage_returns_are_the_commands_own() -> None:
    assert framed(b"edgeopt-abc 4\na\r\nb\r\nedgeopt-abc 0\n", 9)[0] == b"a\r\nb\r\n"


def test_what_a_login_prints_first_is_no_output() -> None:
    assert framed(b"WARNING: linker\nedgeopt-abc 4\nyes\nedgeopt-abc 0\n", 9)[0] == b"yes\n"


def test_a_stream_that_breaks_off_has_no_exit_code_and_loses_nothing() -> None:
    assert framed(b"edgeopt-abc 4\nhalf edgeopt-a", 5) == (b"half edgeopt-a", 4, None)


def test_a_marker_alone_is_not_an_exit_code() -> None:
    assert framed(b"edgeopt-abc 4\nx\nedgeopt-abc ", 5)[2] is None


def test_the_marker_inside_the_output_is_output() -> None:
    stream = b"edgeopt-abc 4\nargs: edgeopt-abc $?\nedgeopt-abc 12345\nedgeopt-abc 0\n"
    assert framed(stream, 3) == (b"args: edgeopt-abc $?\nedgeopt-abc 12345\n", 4, 0)


def test_the_command_line_does_not_hold_the_marker_whole() -> None:
    assert "edgeopt-abc" not in marked_command(["true"], "edgeopt-abc")


def test_words_are_quoted_for_the_devices_shell() -> None:
    line = marked_command(["echo", "a b", "$(reboot)"], "edgeopt-abc")
    assert "echo 'a b' '$(reboot)';" in line


def fed(shell: str, command: str, stdin: str = "/dev/null") -> subprocess.Popen[bytes]:
    """A command that is fed for three seconds after the last signal, in a group of its own."""
    line = marked_command([shell, "-c", command], "edgeopt-abc", stdin, fed_s=3)
    return subprocess.Popen([shell, "-c", line], stdout=subprocess.PIPE, start_new_session=True)


@pytest.fixture(params=["sh", "mksh", "busybox"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Android's own is mksh."""
    found = shutil.which(request.param)
    if not found:
        pytest.skip(f"{request.param} is not installed here")
    if request.param != "busybox":
        return found
    script = tmp_path / "busybox-sh"
    script.write_text(f'#!/bin/sh\nexec {found} sh "$@"\n')
    script.chmod(0o755)
    return str(script)


def test_a_command_is_fed_while_signals_come_and_then_its_stdin_ends(shell: str) -> None:
    running, began = fed(shell, "cat >/dev/null"), time.monotonic()
    while time.monotonic() < began + 4.5:
        os.killpg(running.pid, signal.SIGCONT)
        time.sleep(0.3)
    assert running.poll() is None
    out, _ = running.communicate(timeout=20)
    assert time.monotonic() - began > 6.5 and framed(out, 9)[2] == 0


def test_what_a_command_is_given_comes_before_the_newlines(shell: str, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_text("one line\n")
    running = fed(shell, 'read -r a && read -r b && echo "$a, fed"; exit 7', str(given))
    assert framed(running.communicate(timeout=20)[0], 9) == (b"one line, fed\n", running.pid, 7)


@pytest.mark.parametrize(
    ("said", "meaning", "hint"),
    [
        ("error: device unauthorized.\nThis adb server's...", "does not trust", "prompt"),
        ("error: device offline", "does not answer", "reconnect"),
        ("error: more than one device/emulator", "not the only device", "SERIAL"),
        ("adb: device 'X' not found", "is not connected", "USB debugging"),
        ("error: no devices/emulators found", "is not connected", "USB debugging"),
        ("listed as no permissions (missing udev rules?)", "may not be opened", "udev"),
        ("* failed to start daemon", "adb server does not run", "start-server"),
        ("error: closed", "was lost", "cable"),
    ],
)
def test_adbs_words_become_what_to_do(said: str, meaning: str, hint: str) -> None:
    error = explain("adb://X", said)
    assert meaning in error.message
    assert hint in error.hint
    assert error.exit_code == 5
