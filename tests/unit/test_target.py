"""Targets: a board is one TOML file, and a wrong one is refused at its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeopt import paths
from edgeopt.errors import InputError
from edgeopt.target import Target, list_targets, load_target

PI = """
schema = 1
description = "Raspberry Pi 5, 4 x Cortex-A76"
profile = "cpu-int8"
compiler = "passthrough"
runtime = "litert"
[transport]
kind = "ssh"
user = "pi"
"""


def _file(tmp_path: Path, text: str, name: str = "board.toml") -> Path:
    file = tmp_path / name
    file.write_text(text.lstrip("\n"))
    return file


def test_the_three_classes_and_the_boards_ship() -> None:
    names = {target.name for target in list_targets()}
    assert {"cpu", "android-gpu", "edgetpu"} <= names
    assert {
        "raspberry-pi-4",
        "raspberry-pi-5",
        "coral-dev-board",
        "coral-usb",
        "android-arm64",
    } <= names


def test_the_edge_tpu_target_names_its_parts() -> None:
    target = load_target("edgetpu")
    parts = (target.profile.name, target.compiler, target.runtime, target.accelerator)
    assert parts == ("edgetpu-v1", "edgetpu", "edgetpu", "edgetpu")


def test_a_board_is_one_toml_file(tmp_path: Path) -> None:
    target = load_target(str(_file(tmp_path, PI)))
    assert (target.name, target.accelerator) == ("board", "cpu")
    assert target.transport == {"kind": "ssh", "user": "pi"}


def test_a_board_in_the_users_folder_is_found_by_name() -> None:
    folder = paths.config_dir() / "targets"
    folder.mkdir(parents=True)
    _file(folder, PI, "my-board.toml")
    assert load_target("my-board").description.startswith("Raspberry")
    assert "my-board" in {target.name for target in list_targets()}


def test_the_profile_may_stand_beside_the_target(tmp_path: Path) -> None:
    text = (paths.data_dir("hardware_profiles") / "cpu-int8.toml").read_text()
    _file(tmp_path, text.replace('name = "cpu-int8"', 'name = "mine"'), "mine.toml")
    file = _file(tmp_path, PI.replace('"cpu-int8"', '"mine.toml"'))
    assert load_target(str(file)).profile.name == "mine"


def test_targets_are_plain_json() -> None:
    for target in list_targets():
        assert json.loads(json.dumps({**target.to_json(), "rules": target.profile.to_json()}))


def test_an_unknown_target_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean edgetpu"):
        load_target("edgetup")


@pytest.mark.parametrize(
    ("old", "new", "line", "expected"),
    [
        ("compiler =", "compilre =", 4, "Did you mean compiler?"),
        ('"passthrough"', '"edgetpux"', 4, "Did you mean edgetpu?"),
        ('"litert"', '"litrt"', 5, "Did you mean litert?"),
        ('"cpu-int8"', '"cpu-int9"', 3, "Did you mean cpu-int8?"),
        ('"cpu-int8"', '"absent.toml"', 3, "there is no file"),
        ('"passthrough"', '"edgetpu"', 4, "is not a compiled profile"),
        ('kind = "ssh"', 'kind = "shs"', 7, "Did you mean ssh?"),
        ('user = "pi"', "port = 70000", 8, "is not a port"),
        ('user = "pi"', "usr = 1", 8, "Did you mean user?"),
        ("schema = 1", "schema = 9", 1, "reads schema 1"),
    ],
)
def test_a_mistake_is_refused_at_its_line(
    tmp_path: Path, old: str, new: str, line: int, expected: str
) -> None:
    file = _file(tmp_path, PI.replace(old, new))
    with pytest.raises(InputError) as caught:
        load_target(str(file))
    assert f"{file}:{line}:" in str(caught.value) and expected in str(caught.value)


def test_an_accelerator_that_the_profile_lacks_is_refused(tmp_path: Path) -> None:
    file = _file(tmp_path, PI.replace("[transport]", 'accelerator = "gpu"\n[transport]'))
    with pytest.raises(InputError, match="places operations on cpu"):
        load_target(str(file))


def test_a_plugged_target_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _file(tmp_path, PI)
    monkeypatch.setattr(
        "edgeopt.target.names",
        lambda group: ["plugged"] if group == "targets" else ["passthrough", "litert", "ssh"],
    )
    monkeypatch.setattr("edgeopt.target.load_plugin", lambda group, name: str(file))
    assert isinstance(load_target("plugged"), Target)
