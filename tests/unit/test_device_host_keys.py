"""Which host keys count as known: the file format of sshd(8), read without ever guessing."""

from __future__ import annotations

import base64
import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgeopt.device import DeviceSpec
from edgeopt.device.ssh import host_keys
from edgeopt.errors import DeviceError, InputError

BLOB, OTHER = b"\0\0\0\x0bssh-ed25519 one", b"\0\0\0\x0bssh-ed25519 two"
KEY, OTHER_KEY = (base64.b64encode(blob).decode() for blob in (BLOB, OTHER))
SPEC = DeviceSpec(name="b", kind="ssh", host="board", port=2222, user="pi")


def known(tmp_path: Path, text: str, name: str = "[board]:2222") -> list[host_keys.HostKey]:
    file = tmp_path / "known_hosts"
    file.write_text(text)
    return host_keys.read_known_hosts(name, [file])


def hashed(name: str) -> str:
    salt = b"s" * 20
    digest = hmac.digest(salt, name.encode(), hashlib.sha1)
    return "|1|" + "|".join(base64.b64encode(part).decode() for part in (salt, digest))


@pytest.mark.parametrize(
    "pattern",
    ["[board]:2222", "x,[board]:2222", "[b*]:2222", "[BOARD]:2222", hashed("[board]:2222")],
)
def test_plain_wild_and_hashed_names_are_found(tmp_path: Path, pattern: str) -> None:
    assert [k.blob for k in known(tmp_path, f"{pattern} ssh-ed25519 {KEY}\n")] == [BLOB]


@pytest.mark.parametrize(
    "line",
    [
        f"board ssh-ed25519 {KEY}",  # port 22 is another host
        f"[b*]:2222,![board]:2222 ssh-ed25519 {KEY}",
        f"# [board]:2222 ssh-ed25519 {KEY}",
        f"@cert-authority [board]:2222 ssh-ed25519 {KEY}",
        "[board]:2222 ssh-ed25519 not-base64!",
        "[board]:2222 ssh-ed25519",
        "|1|broken ssh-ed25519 AAAA",
    ],
)
def test_other_hosts_and_broken_lines_are_passed_over(tmp_path: Path, line: str) -> None:
    assert known(tmp_path, line + "\n") == []


def test_an_unknown_key_is_refused_with_the_command_that_pins_it() -> None:
    with pytest.raises(DeviceError) as caught:
        host_keys.check(SPEC, "[board]:2222", "ssh-ed25519", BLOB, [])
    shown = host_keys.fingerprint(BLOB)
    assert f"edgeopt devices pin ssh://pi@board:2222 --fingerprint {shown}" in str(caught.value)


def test_a_changed_key_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    recorded = known(tmp_path, f"[board]:2222 ssh-ed25519 {OTHER_KEY}\n")
    with pytest.raises(DeviceError, match="HAS CHANGED") as caught:
        host_keys.check(SPEC, "[board]:2222", "ssh-ed25519", BLOB, recorded)
    assert host_keys.fingerprint(BLOB) in str(caught.value)
    assert host_keys.fingerprint(OTHER) in str(caught.value)


def test_a_revoked_key_is_refused_even_where_it_is_also_listed(tmp_path: Path) -> None:
    line = f"[board]:2222 ssh-ed25519 {KEY}\n"
    with pytest.raises(DeviceError, match="revoked"):
        host_keys.check(
            SPEC, "[board]:2222", "ssh-ed25519", BLOB, known(tmp_path, line + "@revoked " + line)
        )


@pytest.mark.parametrize("text", ["", "SHA256:", "MD5:aa:bb", "x" * 50])
def test_a_malformed_fingerprint_is_refused_before_connecting(text: str) -> None:
    with pytest.raises(InputError, match="fingerprint"):
        host_keys.pin(SPEC, text)


def test_boards_that_are_pinned_side_by_side_are_all_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEOPT_CONFIG", str(tmp_path))
    names = [f"[board{number}]:22" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:  # the lock is of an open file: threads keep apart as well
        list(pool.map(lambda name: host_keys._record(name, "ssh-ed25519", BLOB), names))
    lines = host_keys.own_file().read_text().splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(names)


def test_a_pin_that_cannot_be_written_leaves_nothing_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEOPT_CONFIG", str(tmp_path))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(host_keys.os, "fsync", full)
    with pytest.raises(InputError, match="could not be written"):
        host_keys._record("[board]:22", "ssh-ed25519", BLOB)
    assert list(tmp_path.iterdir()) == []
