"""SSH against a real sshd: trust, logins, deadlines, odd names and cut links."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.sshd import Sshd, why_no_sshd

from edgeopt.device import Device, connect
from edgeopt.device.ssh import host_keys
from edgeopt.errors import DeviceError, InputError

pytestmark = pytest.mark.device
ODD = 'it\'s; rm -rf $HOME `x` "q" *\nnew line'


@pytest.fixture(autouse=True)
def no_keys_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's ~/.ssh nor an agent takes part."""
    (tmp_path / "host").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "host"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def device(sshd: Sshd) -> Iterator[Device]:
    sshd.trust()
    with connect(sshd.spec()) as device:
        yield device


def failure(sshd: Sshd, **changes: object) -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        connect(sshd.spec(**changes))
    return caught.value


def test_an_unknown_host_key_is_refused_with_the_servers_fingerprint(sshd: Sshd) -> None:
    found = failure(sshd)
    command = f"edgeopt devices pin {sshd.url} --fingerprint {sshd.fingerprint}"
    assert "not known" in found.message and command in found.hint


def test_a_pinned_device_connects_and_the_pin_is_private(sshd: Sshd) -> None:
    sshd.trust()
    connect(sshd.spec()).close()
    assert host_keys.own_file().stat().st_mode & 0o777 == 0o600


def test_a_wrong_fingerprint_pins_nothing(sshd: Sshd) -> None:
    with pytest.raises(DeviceError, match="another host key"):
        host_keys.pin(sshd.spec(), "SHA256:" + "A" * 43)
    assert not host_keys.own_file().exists()


def test_a_changed_host_key_is_refused_with_both_and_can_be_pinned_anew(sshd: Sshd) -> None:
    sshd.trust()
    old = sshd.fingerprint
    sshd.new_host_key()
    found = failure(sshd)
    assert "HAS CHANGED" in found.message
    assert old in found.message and sshd.fingerprint in found.message
    sshd.trust()
    connect(sshd.spec()).close()


def test_a_key_in_the_users_known_hosts_is_trusted(sshd: Sshd, tmp_path: Path) -> None:
    public = (sshd.folder / "host_ed25519.pub").read_text().split()[:2]
    file = tmp_path / "host" / ".ssh" / "known_hosts"
    file.parent.mkdir()
    file.write_text(f"[127.0.0.1]:{sshd.port} {' '.join(public)}\n")
    connect(sshd.spec()).close()


def test_a_key_that_is_not_authorized_is_named(sshd: Sshd, tmp_path: Path) -> None:
    sshd.trust()
    key = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    found = failure(sshd, key_file=key)
    assert str(key) in found.message and "not accepted" in found.message


def test_an_encrypted_key_without_an_agent_is_explained(sshd: Sshd, tmp_path: Path) -> None:
    sshd.trust()
    key = tmp_path / "locked"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(key)]
    subprocess.run(argv, check=True)
    assert "ssh-add" in failure(sshd, key_file=key).message


def test_no_key_at_all_is_explained_without_asking_for_a_password(sshd: Sshd) -> None:
    sshd.trust()
    assert "no key to try" in failure(sshd, key_file=None).message


def test_ssh_config_completes_an_address(sshd: Sshd, tmp_path: Path) -> None:
    sshd.trust()
    config = tmp_path / "host" / ".ssh" / "config"
    config.parent.mkdir()
    text = "Host bench\n HostName 127.0.0.1\n Port {}\n User root\n IdentityFile {}\n"
    config.write_text(text.format(sshd.port, sshd.key))
    connect(sshd.spec(host="bench", port=None, user=None, key_file=None)).close()
    config.write_text(config.read_text() + " ProxyJump gate\n")
    assert "proxyjump" in failure(sshd, host="bench").message


def test_a_missing_key_file_is_the_users_to_correct(sshd: Sshd, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        connect(sshd.spec(key_file=tmp_path / "none"))


def test_a_closed_port_is_refused_at_once(sshd: Sshd) -> None:
    sshd.stop()
    assert "refuses connections" in failure(sshd).message


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "no-such-host.invalid"])
def test_a_name_without_an_address_is_explained(sshd: Sshd, host: str) -> None:
    assert "has no address" in failure(sshd, host=host).message


def test_a_server_that_says_nothing_ends_at_the_deadline(sshd: Sshd) -> None:
    sshd.trust()
    assert sshd._process
    sshd._process.send_signal(signal.SIGSTOP)  # the kernel still accepts
    start = time.monotonic()
    with pytest.raises(DeviceError):
        connect(sshd.spec(), timeout_s=2)
    assert time.monotonic() - start < 6


def test_words_arrive_as_they_were_given(device: Device) -> None:
    done = device.transport.run(["printf", "%s|", ODD, "", "-n", "é"], timeout_s=10)
    assert done.stdout.decode() == f"{ODD}||-n|é|"


def test_noise_of_the_login_shell_is_not_taken_for_output(sshd: Sshd) -> None:
    script = sshd.folder / "noisy"
    script.write_text('#!/bin/sh\necho welcome; echo "to you" >&2\nexec /bin/sh "$@"\n')
    script.chmod(0o755)
    sshd.login_shell = str(script)
    sshd.restart()
    sshd.trust()
    with connect(sshd.spec()) as device:
        done = device.transport.run(["echo", "answer"], timeout_s=10)
    assert (done.stdout, done.stderr) == (b"answer\n", b"")


def test_an_account_that_may_not_run_commands_is_explained(sshd: Sshd) -> None:
    script = sshd.folder / "nologin"
    script.write_text("#!/bin/sh\necho This account is not available\nexit 1\n")
    script.chmod(0o755)
    sshd.login_shell = str(script)
    sshd.restart()
    sshd.trust()
    with connect(sshd.spec()) as device, pytest.raises(DeviceError, match="not available"):
        device.transport.run(["true"], timeout_s=10)


def test_a_death_by_signal_is_told_as_a_shell_tells_it(device: Device) -> None:
    done = device.transport.run(["sh", "-c", "kill -SEGV $$"], timeout_s=10)
    assert done.exit_code == 139


def test_much_output_and_input_at_once_do_not_block(device: Device) -> None:
    data = b"x" * 5_000_000
    done = device.transport.run(["sh", "-c", "cat; cat /dev/null >&2"], timeout_s=30, stdin=data)
    assert done.stdout == data


def test_endless_output_is_ended_on_the_device_too(sshd: Sshd, device: Device) -> None:
    with pytest.raises(DeviceError, match="more than 64 MB"):
        device.transport.run(["yes", "endless-marker"], timeout_s=60)
    time.sleep(0.2)
    assert not sshd.running("endless-marker")


def test_a_file_that_never_ends_is_not_fetched_for_ever(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeopt.device.ssh.transport.MAX_PULL_BYTES", 1 << 20)
    with pytest.raises(DeviceError, match="too large to fetch"):
        device.transport.pull("/dev/zero", tmp_path / "zeros", timeout_s=30)
    assert (tmp_path / "zeros").stat().st_size <= 1 << 20
    assert device.transport.run(["echo", "alive"], timeout_s=10).stdout == b"alive\n"


def test_a_hung_command_is_killed_on_the_device_at_its_deadline(sshd: Sshd, device: Device) -> None:
    start = time.monotonic()
    with pytest.raises(DeviceError, match=r"did not end within 0\.5 s"):
        device.transport.run(["sh", "-c", "sleep 4711 & sleep 4711; wait"], timeout_s=0.5)
    assert time.monotonic() - start < 4
    time.sleep(0.2)
    assert not sshd.running("sleep 4711")
    assert device.transport.run(["echo", "usable"], timeout_s=5).stdout == b"usable\n"


def test_ctrl_c_leaves_nothing_running_on_the_device(sshd: Sshd) -> None:
    sshd.trust()
    script = (
        "from pathlib import Path\nfrom edgeopt.device import DeviceSpec, connect\n"
        f"spec = DeviceSpec(name='b', kind='ssh', host={sshd.host!r}, port={sshd.port},"
        f" user='root', key_file=Path({str(sshd.key)!r}))\n"
        "with connect(spec) as device: device.transport.run(['sleep', '4712'], timeout_s=60)\n"
    )
    repository = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=repository, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 20
    while not sshd.running("sleep 4712") and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) != 0
    time.sleep(0.2)
    assert not sshd.running("sleep 4712")


def test_a_frozen_server_does_not_hang_a_command(sshd: Sshd, device: Device) -> None:
    sshd.freeze()
    start = time.monotonic()
    with pytest.raises(DeviceError):
        device.transport.run(["true"], timeout_s=2)
    assert time.monotonic() - start < 5


def test_a_cut_link_ends_a_push_within_seconds_and_leaves_no_false_file(tmp_path: Path) -> None:
    if reason := why_no_sshd():
        pytest.skip(reason)
    source = tmp_path / "big"
    with source.open("wb") as stream:
        stream.truncate(2 << 30)
    with Sshd(tmp_path / "far", link=True) as board:
        board.trust()
        device = connect(board.spec())
        cut_at: list[float] = []

        def cut() -> None:
            board.cut()
            cut_at.append(time.monotonic())

        timer = threading.Timer(0.4, cut)
        timer.start()
        with pytest.raises(DeviceError, match="lost"):
            device.workspace.put(source, sha256="0" * 64, suffix=".tflite")
        assert time.monotonic() - cut_at[0] < 12
        timer.join()
        left = {p.name for p in (board.home / ".cache" / "edgeopt").iterdir()}
        assert all(name.startswith(("tmp-", "run-")) for name in left)


def test_a_push_as_fast_as_scp_arrives_whole(device: Device, sshd: Sshd, tmp_path: Path) -> None:
    source = tmp_path / "m"
    source.write_bytes(bytes(range(256)) * 40_001)
    told: list[int] = []
    target = sshd.home / ODD
    device.transport.push(source, str(target), timeout_s=60, on_bytes=told.append)
    assert target.read_bytes() == source.read_bytes()
    assert told[-1] == source.stat().st_size and told == sorted(told)
    assert target.stat().st_mode & 0o777 == 0o600
    back = tmp_path / "back"
    device.transport.pull(str(target), back, timeout_s=60)
    assert back.read_bytes() == source.read_bytes()


def test_a_push_into_nowhere_says_why(device: Device, tmp_path: Path) -> None:
    source = tmp_path / "m"
    source.write_bytes(b"x" * 100)
    with pytest.raises(DeviceError, match=r"(?i)nonexistent|no such file"):
        device.transport.push(source, "/nonexistent/x", timeout_s=10)
    with pytest.raises(DeviceError, match="did not give back"):
        device.transport.pull("/nonexistent/x", tmp_path / "y", timeout_s=10)


def test_a_full_disk_is_named_and_leaves_nothing(sshd: Sshd, tmp_path: Path) -> None:
    sshd.trust()
    small = sshd.home / "small"
    sshd.mount_tmpfs(small, "size=1m,mode=700")
    source = tmp_path / "m"
    source.write_bytes(b"x" * 3_000_000)
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    with connect(sshd.spec(workdir=str(small))) as device:
        with pytest.raises(DeviceError, match=r"has 10\d\d kB free for .* needs 3000 kB"):
            device.workspace.put(source, sha256=sha256, suffix=".tflite")
        device.workspace.close()
        with pytest.raises(DeviceError, match="No space left"):
            device.transport.push(source, f"{small}/direct", timeout_s=20)
        device.transport.run(["rm", "-f", f"{small}/direct"], timeout_s=10)
        listing = device.transport.run(["ls", "-A", str(small)], timeout_s=10)
    assert listing.stdout == b""


def test_a_read_only_work_folder_is_named(sshd: Sshd) -> None:
    sshd.trust()
    sshd.mount_tmpfs(sshd.home / "fixed", "ro,mode=700")
    with (
        connect(sshd.spec(workdir=f"{sshd.home}/fixed/work")) as device,
        pytest.raises(DeviceError, match="Read-only file system"),
    ):
        assert device.workspace.root


def test_the_board_describes_itself(device: Device) -> None:
    facts = device.facts()
    assert facts["os"] == "Linux" and facts["cores"] and facts["memory_bytes"] > 1 << 20
