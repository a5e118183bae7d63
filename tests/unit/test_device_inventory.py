"""How a word becomes a device, and what is refused on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeopt.device import list_devices, resolve
from edgeopt.errors import InputError

GOOD = """schema = 1

[devices.bench-pi]
url = "ssh://pi@10.0.0.5:2222"
key = "keys/bench"
python = "/opt/venv/bin/python"
workdir = "/data/edgeopt"
target = "raspberry-pi-5"
tags = ["lab", "a76"]
cache_mb = 100

[devices.phone]
url = "adb://R5CT1"
benchmark_binary = "/opt/benchmark_model"
"""


def refusal(text: str, folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        resolve(text, folders=[folder])
    return str(caught.value)


def test_addresses_say_kind_user_host_and_port(tmp_path: Path) -> None:
    spec = resolve("ssh://pi@board.local:2200", folders=[tmp_path])
    assert (spec.kind, spec.user, spec.host, spec.port) == ("ssh", "pi", "board.local", 2200)
    assert spec.url == "ssh://pi@board.local:2200"


def test_an_ipv6_host_is_written_in_brackets(tmp_path: Path) -> None:
    spec = resolve("ssh://root@[fe80::1]:22", folders=[tmp_path])
    assert (spec.host, spec.url) == ("fe80::1", "ssh://root@[fe80::1]:22")
    assert "brackets" in refusal("ssh://root@fe80::1", tmp_path)


def test_an_adb_serial_may_be_a_host_and_port(tmp_path: Path) -> None:
    assert resolve("adb://10.0.0.7:5555", folders=[tmp_path]).serial == "10.0.0.7:5555"


def test_local_needs_nothing(tmp_path: Path) -> None:
    assert resolve("local", folders=[tmp_path]).kind == "local"


@pytest.mark.parametrize(
    "text",
    [
        *("ssh://", "ssh://-oProxyCommand=x", "ssh://a b", "ssh://h:0", "ssh://h:70000"),
        *("ssh://h:x", "ssh://@h", "ssh://-l@h", "ssh://h/path", "adb://", "adb://-s", "adb://a b"),
    ],
)
def test_nonsense_is_refused_and_never_becomes_an_option(text: str, tmp_path: Path) -> None:
    assert refusal(text, tmp_path)


@pytest.mark.parametrize("text", ["ssh://pi:hunter2@host", "ssh://pi:hun@ter2@host"])
def test_a_password_in_an_address_is_refused_and_not_echoed(text: str, tmp_path: Path) -> None:
    said = refusal(text, tmp_path)
    assert "password" in said and "hun" not in said


def test_an_unknown_scheme_is_answered_with_the_likely_one(tmp_path: Path) -> None:
    assert "Did you mean ssh://" in refusal("shh://pi@host", tmp_path)


def test_a_user_at_host_is_answered_with_its_address(tmp_path: Path) -> None:
    assert "ssh://pi@10.0.0.5" in refusal("pi@10.0.0.5", tmp_path)


def test_names_come_from_the_first_folder_that_has_them(tmp_path: Path) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    for folder, text in ((near, GOOD), (far, GOOD.replace("10.0.0.5", "10.9.9.9"))):
        folder.mkdir()
        (folder / "devices.toml").write_text(text)
    spec = resolve("bench-pi", folders=[near, far])
    assert (spec.host, spec.port, spec.tags) == ("10.0.0.5", 2222, ("lab", "a76"))
    assert spec.key_file == near / "keys/bench"
    assert spec.cache_limit_bytes == 100_000_000
    assert [d.name for d in list_devices([near, far])] == ["bench-pi", "phone"]


def test_an_unknown_name_is_answered_with_the_likely_one(tmp_path: Path) -> None:
    (tmp_path / "devices.toml").write_text(GOOD)
    assert "Did you mean bench-pi?" in refusal("benchpi", tmp_path)


def test_an_unknown_key_is_refused_with_its_line_and_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "devices.toml").write_text(GOOD.replace("python =", "pyton ="))
    said = refusal("phone", tmp_path)
    assert "devices.toml:6" in said and "Did you mean python?" in said


def test_a_password_key_anywhere_is_refused_and_not_echoed(tmp_path: Path) -> None:
    (tmp_path / "devices.toml").write_text(GOOD + 'password = "hunter2"\n')
    said = refusal("bench-pi", tmp_path)
    assert "devices.toml:15" in said and "hunter2" not in said


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("schema = 1", "schema = 2"),
        ("schema = 1", "schema = "),
        ("schema = 1", "schema = 1\n[devcies.x]"),
        ('url = "adb://R5CT1"', ""),
        ('url = "adb://R5CT1"', "url = 5"),
        ('url = "adb://R5CT1"', 'url = "nowhere"'),
        ("cache_mb = 100", 'cache_mb = 100\nkey = "~nobody-has-this-login/id"'),
        ("cache_mb = 100", "cache_mb = true"),
        ("cache_mb = 100", "cache_mb = -1"),
        ('tags = ["lab", "a76"]', "tags = [1]"),
        ("[devices.phone]", "[devices.local]"),
    ],
)
def test_a_malformed_devices_toml_is_refused_by_name(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "devices.toml").write_text(GOOD.replace(old, new))
    assert "devices.toml" in refusal("phone", tmp_path)


def test_devices_toml_in_latin1_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "devices.toml").write_bytes(b"schema = 1 # \xe9\n")
    assert "cannot be read" in refusal("x", tmp_path)


def test_the_targets_settings_fill_gaps_and_beat_nothing(tmp_path: Path) -> None:
    defaults = {"kind": "ssh", "user": "pi", "port": None, "runtime": "litert"}
    spec = resolve("ssh://root@h", folders=[tmp_path], defaults=defaults)
    assert (spec.user, spec.runtime, spec.port) == ("root", "litert", None)
    assert resolve("ssh://h", folders=[tmp_path], defaults=defaults).user == "pi"
    assert resolve("local", folders=[tmp_path], defaults=defaults).user is None


@pytest.mark.parametrize("workdir", ["/", "~", "~/", ".", ".."])
def test_a_home_or_root_is_no_work_folder(tmp_path: Path, workdir: str) -> None:
    text = f'schema = 1\n[devices.b]\nurl = "ssh://h"\nworkdir = "{workdir}"\n'
    (tmp_path / "devices.toml").write_text(text)
    assert "work folder" in refusal("b", tmp_path)
