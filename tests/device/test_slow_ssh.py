"""SSH over a slow link, where what is sent comes after all that was sent before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tools.slow_link import SlowLink
from tools.sshd import Sshd

from edgeopt.device import Device, connect
from edgeopt.device.ssh import host_keys
from edgeopt.device.ssh import transport as ssh
from edgeopt.errors import DeviceError

pytestmark = pytest.mark.device
SIZE = 1_500_000


@pytest.fixture
def device(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    (tmp_path / "host").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "host"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with SlowLink((sshd.host, sshd.port), bits_s=4e6) as link:
        spec = sshd.spec(port=link.port)
        host_keys.pin(spec, sshd.fingerprint)
        device = connect(spec)
        yield device
        with suppress(DeviceError):  # a test may have lost it
            device.close()


def large(folder: Path) -> Path:
    file = folder / "large"
    file.write_bytes(bytes(SIZE))
    return file


def test_a_command_beside_a_push_cuts_neither(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the lease's sign of life is: it once took the link for dead, and the push with it."""
    remote, ended = f"{device.workspace.root}/large", []

    def beside() -> None:
        monkeypatch.setattr(ssh, "_OPEN_S", 0.01)  # below what waits on the link
        ended.append(device.transport.run(["echo", "x"], timeout_s=30).stdout)

    other = threading.Timer(1.0, beside)
    other.start()
    device.transport.push(large(tmp_path), remote, timeout_s=30)
    other.join()
    monkeypatch.undo()
    assert ended == [b"x\n"]
    size = device.transport.run(["wc", "-c", remote], timeout_s=30)
    assert size.stdout.split()[0] == b"%d" % SIZE


def test_a_push_that_takes_longer_than_it_may_says_so(device: Device, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="did not end within 1 s") as raised:
        device.transport.push(large(tmp_path), f"{device.workspace.root}/large", timeout_s=1)
    assert raised.value.details == {"timeout_s": 1}
