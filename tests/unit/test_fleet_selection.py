"""Which devices --device and --tag mean, and which of their names are one board."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeopt.device.inventory import resolve
from edgeopt.device.selection import is_plural, select
from edgeopt.errors import InputError

TOML = """schema = 1
[devices.pi-4]
url = "ssh://pi@10.0.0.4"
tags = ["rpi", "a72"]
[devices.pi-5]
url = "ssh://pi@10.0.0.5"
tags = ["rpi", "a76"]
[devices.phone]
url = "adb://SERIAL"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "devices.toml").write_text(TOML)
    return tmp_path


def names(text: str | None, folder: Path, *tags: str) -> list[str]:
    return [d.spec.name for d in select(text, tags, folders=[folder]).devices]


def test_names_separated_by_commas_are_devices_in_that_order(folder: Path) -> None:
    assert names("phone, pi-4,local", folder) == ["phone", "pi-4", "local"]


def test_all_is_every_device_of_the_file_and_not_this_machine(folder: Path) -> None:
    assert names("all", folder) == ["pi-4", "pi-5", "phone"]
    assert names("all,local", folder) == ["pi-4", "pi-5", "phone", "local"]


def test_tags_choose_among_all_and_several_must_all_be_there(folder: Path) -> None:
    assert names("all", folder, "rpi") == ["pi-4", "pi-5"]
    assert names(None, folder, "rpi", "a76") == ["pi-5"]


@pytest.mark.parametrize(
    ("text", "tags", "said"),
    [
        (None, ("rpy",), "Did you mean rpi? Tags: a72, a76, rpi."),
        ("all", ("a72", "a76"), "pi-4 has rpi, a72; pi-5 has rpi, a76; phone has none"),
        ("pi-4", ("rpi",), "--device names pi-4"),
        ("pi-4,,pi-5", (), "empty name"),
        ("pi-4,pj-5", (), "Did you mean pi-5?"),
    ],
)
def test_what_names_no_device_is_refused_with_what_there_is(
    folder: Path, text: str | None, tags: tuple[str, ...], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        select(text, tags, folders=[folder])
    assert said in str(caught.value)


def test_all_of_no_devices_says_where_they_are_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no devices\.toml that names a device") as caught:
        select("all", (), folders=[tmp_path])
    assert str(tmp_path / "devices.toml") in caught.value.hint


def test_a_device_named_twice_runs_once(folder: Path) -> None:
    assert names("pi-4,pi-4,all", folder) == ["pi-4", "pi-5", "phone"]


def test_two_names_of_one_board_are_told_and_never_run_at_once(folder: Path) -> None:
    with (folder / "devices.toml").open("a") as file:
        file.write('[devices.pi-four]\nurl = "ssh://pi@10.0.0.4:22"\n')
        file.write('[devices.coral]\nurl = "ssh://root@10.0.0.4"\nedgetpu_device = "usb"\n')
        file.write('[devices.again]\nurl = "ssh://pi@10.0.0.4"\n')
    found = select("all", (), folders=[folder])
    assert [d.spec.name for d in found.devices] == ["pi-4", "pi-5", "phone", "pi-four", "coral"]
    board = {d.address for d in found.devices if d.spec.name in ("pi-4", "pi-four", "coral")}
    assert board == {"ssh 10.0.0.4 22"}
    assert "again is pi-4 under another name: it runs once." in found.notes
    assert "pi-4 and coral are at one address: one after the other." in found.notes


def test_one_name_is_one_device_and_all_is_several_even_when_it_finds_one() -> None:
    assert not is_plural("pi-4", ()) and not is_plural(None, ())
    assert is_plural("all", ()) and is_plural("a,b", ()) and is_plural(None, ("rpi",))


@pytest.mark.parametrize("text", ["pi-4,pi-5", "all"])
def test_where_one_device_is_needed_several_are_refused(folder: Path, text: str) -> None:
    with pytest.raises(InputError, match="names several devices"):
        resolve(text, folders=[folder])


def test_no_device_may_be_named_all(tmp_path: Path) -> None:
    (tmp_path / "devices.toml").write_text('schema = 1\n[devices.all]\nurl = "ssh://h"\n')
    with pytest.raises(InputError, match="not local or all"):
        select("all", (), folders=[tmp_path])


def test_a_device_that_is_named_beats_a_tag_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgeopt.cli.app import run

    monkeypatch.setenv("EDGEOPT_CONFIG", str(tmp_path))
    monkeypatch.setenv("EDGEOPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGEOPT_TAG", "rpi")
    (tmp_path / "devices.toml").write_text('schema = 1\n[devices.here]\nurl = "local"\n')
    assert run(["devices", "leases", "here"]) == 0
    assert run(["devices", "leases"]) == 2 and "rpi" in capsys.readouterr().err
