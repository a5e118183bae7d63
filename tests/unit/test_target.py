"""Targets: a board is one TOML file, and a wrong one is refused at its line."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from edgeopt import paths
from edgeopt.errors import InputError
from edgeopt.report.target_listing import target_listing
from edgeopt.target import Target, list_targets, load_target
from edgeopt.verify import requirement

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


def test_the_board_that_the_contributing_guide_shows_loads(tmp_path: Path) -> None:
    guide = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
    example = guide.read_text().split("## Add a board in one TOML file")[1].split("`edgeopt")[0]
    lines = [line[4:] for line in example.splitlines() if line.startswith("    ") or not line]
    target = load_target(str(_file(tmp_path, "\n".join(lines))))
    assert target.transport == {"kind": "ssh", "user": "radxa"}


@pytest.mark.parametrize("name", [target.name for target in list_targets()])
def test_the_readme_names_the_profile_of_every_target(name: str) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    row = next(row for row in readme.splitlines() if row.startswith("|") and f"`{name}`" in row)
    assert row.split("|")[2].strip() == load_target(name).profile.name


@pytest.mark.parametrize("name", ["cpu", "android-gpu", "edgetpu"])
def test_a_target_is_shown_in_words_with_every_rule_and_source(name: str) -> None:
    console = Console(width=100, record=True, file=StringIO())
    target = load_target(name)
    console.print(target_listing(target, requirement))
    shown = "".join(console.export_text().split())
    profile = target.profile
    wanted = [*profile.schemes, *profile.operations, *profile.remedies]
    wanted += [rule.source for rule in profile.operations.values()]
    wanted += [*profile.runtime.operations, profile.runtime.version, *profile.weight_types]
    assert [word for word in wanted if len(word) < 20 and word not in shown] == []
    assert '"' not in shown and "None" not in shown and "{" not in shown


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
