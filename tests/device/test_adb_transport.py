"""The ADB transport against a real adbd: what it runs, sends, fetches, and how it gives up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.adbd import Adbd, adbd_or_skip

from edgeopt.device.adb import server as adb_server
from edgeopt.device.adb.transport import AdbTransport, connect
from edgeopt.device.inventory import DeviceSpec
from edgeopt.device.transport import SILENCE_S
from edgeopt.device.workspace import Workspace
from edgeopt.errors import DeviceError, ToolError

pytestmark = pytest.mark.device
TMP = "/data/local/tmp"


@pytest.fixture(scope="module")
def board() -> Iterator[Adbd]:
    yield from adbd_or_skip()


def spec_of(board: Adbd) -> DeviceSpec:
    return DeviceSpec(name="bench", kind="adb", serial=board.serial)


@pytest.fixture(params=["shell_v2", "legacy"])
def link(board: Adbd, request: pytest.FixtureRequest) -> AdbTransport:
    """Both ways of running a command.

    "legacy" forces the protocol of devices before Android 7 on this newer adbd: the same absence of
    exit codes and mixing of stderr. Their \\r\\n is in tests/unit/test_adb_frame.py.
    """
    transport = connect(spec_of(board), 10)
    assert transport.shell_v2
    transport.shell_v2 = request.param == "shell_v2"
    return transport


def processes(link: AdbTransport) -> str:
    return link.run(["ps", "-e", "-o", "args"], timeout_s=10).stdout.decode()


def test_exit_codes_come_back(link: AdbTransport) -> None:
    for code in (0, 1, 7, 127, 255):
        assert link.run(["sh", "-c", f"exit {code}"], timeout_s=10).exit_code == code


def test_a_missing_program_is_the_callers_to_judge(link: AdbTransport) -> None:
    assert link.run(["no-such-program"], timeout_s=10).exit_code == 127


def test_a_death_by_signal_is_told_as_every_shell_does(link: AdbTransport) -> None:
    assert link.run(["sh", "-c", "kill -SEGV $$"], timeout_s=10).exit_code == 139


def test_no_word_is_ever_read_as_a_command(link: AdbTransport) -> None:
    words = ["a b", "$(touch /data/local/tmp/pwned)", "`id`", "'", '"', "*", ";", "\\", "", "é\n"]
    done = link.run(["printf", "[%s]", *words], timeout_s=10)
    assert done.stdout.decode() == "".join(f"[{word}]" for word in words)
    assert b"pwned" not in link.run(["ls", TMP], timeout_s=10).stdout


def test_output_is_exact_to_the_byte_with_and_without_a_last_newline(link: AdbTransport) -> None:
    for text in ("", "x", "x\n", "\n\n", "edgeopt-"):
        assert link.run(["printf", "%s", text], timeout_s=10).stdout == text.encode()


def test_a_command_that_attends_hears_what_it_is_given_and_then_that_we_wait(
    link: AdbTransport,
) -> None:
    words = ["sh", "-c", 'read -r a && read -r b && echo "$a, and we wait"; exit 3']
    done = link.attend(words, timeout_s=30, stdin=b"first\n")
    assert (done.stdout, done.exit_code) == (b"first, and we wait\n", 3)


def test_a_legacy_boards_command_goes_on_for_as_long_as_we_wait(board: Adbd) -> None:
    """Longer than it would without a sign of life: only the deadline ends it."""
    link = connect(spec_of(board), 10)
    link.shell_v2 = False
    words = ["sh", "-c", "while read -r x; do :; done; echo ended"]
    with pytest.raises(DeviceError) as caught:
        link.attend(words, timeout_s=SILENCE_S + 3)
    assert "timeout_s" in caught.value.details
    assert "echo ended" not in processes(link)


def test_a_legacy_boards_command_ends_when_no_sign_reaches_it_any_more(
    board: Adbd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signs are held back here; the command and what feeds it are then gone there."""
    monkeypatch.setattr("edgeopt.device.adb.feed._EVERY_S", 1000)
    link = connect(spec_of(board), 10)
    link.shell_v2 = False
    words = ["sh", "-c", "while read -r x; do :; done; echo ended"]
    done = link.attend(words, timeout_s=SILENCE_S + 20)
    assert done.stdout == b"ended\n" and "trap n=0" not in processes(link)


def test_stdin_reaches_the_command_whole(link: AdbTransport) -> None:
    content = os.urandom(3_000_000)
    done = link.run(["sha256sum"], timeout_s=30, stdin=content)
    import hashlib

    assert done.stdout.split()[0].decode() == hashlib.sha256(content).hexdigest()
    assert b"edgeopt-" not in link.run(["ls", TMP], timeout_s=10).stdout


def test_without_stdin_a_reader_sees_the_end_at_once(link: AdbTransport) -> None:
    assert link.run(["cat"], timeout_s=10).stdout == b""


def test_a_command_line_longer_than_adb_takes_goes_by_file(link: AdbTransport) -> None:
    words = [f"word-{n}" for n in range(8000)]
    assert link.run(["sh", "-c", "echo $#", "sh", *words], timeout_s=20).stdout == b"8000\n"
    assert b"edgeopt-" not in link.run(["ls", TMP], timeout_s=10).stdout


def test_progress_comes_while_the_command_runs(link: AdbTransport) -> None:
    seen: list[tuple[float, bytes]] = []
    begin = time.monotonic()
    done = link.run(
        ["sh", "-c", "echo one; sleep 1; echo two"],
        timeout_s=10,
        on_stdout=lambda chunk: seen.append((time.monotonic() - begin, chunk)),
    )
    assert b"".join(chunk for _, chunk in seen) == done.stdout == b"one\ntwo\n"
    assert seen[-1][0] - seen[0][0] > 0.7


def test_a_deadline_ends_the_command_on_the_device_too(link: AdbTransport) -> None:
    begin = time.monotonic()
    with pytest.raises(DeviceError, match=r"did not end within 1 s"):
        link.run(["sh", "-c", "sleep 71 & sleep 72; echo"], timeout_s=1)
    assert time.monotonic() - begin < 4
    assert "sleep 7" not in processes(link)


def test_output_without_end_is_cut_off_and_its_source_killed(link: AdbTransport) -> None:
    with pytest.raises(DeviceError, match="printed more than"):
        link.run(["yes", "endless"], timeout_s=60)
    assert "endless" not in processes(link)


def test_stderr_is_apart_where_the_device_can_and_never_lost(link: AdbTransport) -> None:
    done = link.run(["sh", "-c", "echo out; echo err >&2"], timeout_s=10)
    if link.shell_v2:
        assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    else:
        assert sorted(done.stdout.split()) == [b"err", b"out"]


def test_push_and_pull_keep_every_byte_and_the_file_is_private(
    link: AdbTransport, tmp_path: Path
) -> None:
    source, back, told = tmp_path / "a", tmp_path / "b", []
    source.write_bytes(os.urandom(5_000_001))
    link.push(source, f"{TMP}/x y'z", timeout_s=30, on_bytes=told.append)
    link.pull(f"{TMP}/x y'z", back, timeout_s=30)
    assert back.read_bytes() == source.read_bytes()
    assert told == sorted(told) and told[-1] == 5_000_001 and len(told) > 2
    assert link.run(["stat", "-c", "%a", f"{TMP}/x y'z"], timeout_s=9).stdout == b"600\n"
    link.run(["rm", f"{TMP}/x y'z"], timeout_s=9)


def test_an_empty_file_is_pushed(link: AdbTransport, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    link.push(tmp_path / "empty", f"{TMP}/empty", timeout_s=10)
    assert link.run(["wc", "-c", f"{TMP}/empty"], timeout_s=9).stdout.split()[0] == b"0"
    link.run(["rm", f"{TMP}/empty"], timeout_s=9)


def test_a_push_that_cannot_be_stored_says_so(link: AdbTransport, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(300_000))
    with pytest.raises(DeviceError, match=r"could not store f|could not go on"):
        link.push(tmp_path / "f", "/proc/no/such", timeout_s=10)


def test_pulling_what_is_not_there_says_so(link: AdbTransport, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="No such file"):
        link.pull(f"{TMP}/no-such", tmp_path / "x", timeout_s=10)


def test_a_second_put_sends_nothing_and_clean_leaves_nothing(
    link: AdbTransport, board: Adbd, tmp_path: Path
) -> None:
    from edgeopt.artifact import hash_path

    source = tmp_path / "m.tflite"
    source.write_bytes(os.urandom(100_000))
    digest = hash_path(source)
    sent = []
    for _ in range(2):
        workspace = Workspace(link, root=f"{TMP}/edgeopt", limit_bytes=1 << 30)
        sent.append(workspace.put(source, sha256=digest, suffix=".tflite").sent_bytes)
        workspace.close()
    assert sent == [100_000, 0]
    assert workspace.clean() == 100_000
    assert not board.path(f"{TMP}/edgeopt").exists()


def test_a_device_that_is_not_there_says_what_is(board: Adbd) -> None:
    with pytest.raises(DeviceError, match=r"is not connected .*connected are"):
        connect(DeviceSpec(name="x", kind="adb", serial="no-such-serial"), 5)


def test_a_refused_address_says_so_quickly(board: Adbd) -> None:
    begin = time.monotonic()
    with pytest.raises(DeviceError, match="refuses the connection"):
        connect(DeviceSpec(name="x", kind="adb", serial="127.0.0.1:1"), 10)
    assert time.monotonic() - begin < 6


def test_no_adb_program_is_a_tool_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import adbutils

    def none() -> str:
        raise adbutils.AdbError("No adb exe could be found")

    monkeypatch.setattr(adbutils, "adb_path", none)
    with pytest.raises(ToolError, match="no adb program"):
        adb_server.find_program()


def test_a_cut_link_ends_every_operation_at_its_deadline(board: Adbd, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(60_000_000))
    link = connect(spec_of(board), 10)
    board.cut()
    try:
        begin = time.monotonic()
        with pytest.raises(DeviceError):
            link.run(["true"], timeout_s=1)
        assert time.monotonic() - begin < 3
        begin = time.monotonic()
        with pytest.raises(DeviceError, match="did not end within"):
            link.push(tmp_path / "big", f"{TMP}/big", timeout_s=2)
        assert time.monotonic() - begin < 4
        begin = time.monotonic()
        with pytest.raises(DeviceError, match="does not answer"):
            connect(spec_of(board), 3)
        assert time.monotonic() - begin < 9
    finally:
        board.mend()
    again = connect(spec_of(board), 20)
    assert again.run(["echo", "back"], timeout_s=10).stdout == b"back\n"
    again.run(["rm", "-f", f"{TMP}/big"], timeout_s=10)


def test_a_command_whose_adb_server_dies_is_a_lost_connection(board: Adbd) -> None:
    import threading

    link = connect(spec_of(board), 10)
    server = adb_server.AdbProgram(adb_server.find_program(), board.serial)
    killer = threading.Timer(1, lambda: server.call("kill-server"))
    killer.start()
    with pytest.raises(DeviceError, match=r"was lost|does not answer|not connected"):
        link.run(["sleep", "15"], timeout_s=12)
    killer.join()
    assert connect(spec_of(board), 20).run(["true"], timeout_s=10).exit_code == 0
