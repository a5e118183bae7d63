"""Several devices at once, as a user runs it: real sshds in namespaces, one of which is broken."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tools.boards import Board, boards, inventory, why_no_sshd

from edgeopt.paths import demo_dir

pytestmark = pytest.mark.device
MODEL = demo_dir() / "fashion.tflite"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[list[Board]]:
    """Three boards, named in the devices.toml of the working folder."""
    if reason := why_no_sshd():
        pytest.skip(reason)
    with boards(3, tmp_path / "lab") as running:
        (tmp_path / "devices.toml").write_text(inventory(running, tags=["rpi"]))
        yield running


def started(cwd: Path, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgeopt", *map(str, words)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd
    )


def edgeopt(cwd: Path, *words: object) -> dict[str, Any]:
    """The JSON document, with the exit code and the log added."""
    process = started(cwd, *words, "--json")
    stdout, stderr = process.communicate(timeout=120)
    return {**json.loads(stdout), "code": process.returncode, "log": stderr}


def test_a_model_is_made_once_and_measured_on_each_though_one_board_is_dead(
    lab: list[Board], tmp_path: Path
) -> None:
    lab[1].kill_server()
    words = ["deploy", MODEL, "--device", "all", "--tag", "rpi", "--target", "cpu", "--runs", 10]
    report = edgeopt(tmp_path, *words, "--report", "r.md")
    rows = report["devices"]
    assert report["code"] == report["exit_code"] == report["error"]["exit_code"] == 5
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert [row["exit_code"] for row in rows] == [0, 5, 0]
    assert "refuses connections" in rows[1]["error"]["message"]
    for row in (rows[0], rows[2]):
        assert row["parity"]["passed"] and _runs(row) == 10
        assert row["device"]["sent_bytes"] > 0
    assert len({row["artifacts"][-1]["sha256"] for row in rows}) == 1
    assert report["log"].count("Quantizing") == 1
    assert "edgeopt: board0: Connecting to board0" in report["log"]
    table = (tmp_path / "r.md").read_text()
    assert "| board0 | ok |" in table and "| board1 | exit 5 |" in table


def test_devices_of_two_targets_get_each_its_own_file(lab: list[Board], tmp_path: Path) -> None:
    file = tmp_path / "devices.toml"
    head, _, rest = file.read_text().partition("[devices.board1]")
    head = head.replace("tags =", 'target = "raspberry-pi-4"\ntags =')
    file.write_text(f"{head}[devices.board1]{rest}")
    report = edgeopt(
        tmp_path, "deploy", MODEL, "--device", "board0,board1", "--runs", 5, "-o", "out"
    )
    assert report["code"] == 0, report["error"]
    first, second = report["devices"]
    assert (first["target"]["name"], second["target"]["name"]) == ("raspberry-pi-4", "cpu")
    assert "/raspberry-pi-4/" in first["artifacts"][-1]["path"]
    assert (tmp_path / second["artifacts"][-1]["path"]).is_file()


def _runs(row: dict[str, Any]) -> int:
    """The measured runs of a device, with those that were moved to the warm-up afterwards."""
    return sum(part["runs"] + part["moved_runs"] for part in row["measurement"]["processes"])


def test_ctrl_c_leaves_the_finished_rows_and_nothing_on_the_boards(
    lab: list[Board], tmp_path: Path
) -> None:
    words = ["benchmark", MODEL, "--device", "all", "--jobs", 1, "--runs", 20_000, "--no-keep"]
    process = started(tmp_path, *words, "--report", "r.json", "--json")
    assert process.stderr
    finished = False
    for line in process.stderr:
        finished = finished or ": ok: " in line
        if finished and ": Run on" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    for content in (json.loads(stdout), json.loads((tmp_path / "r.json").read_text())):
        codes = sorted(row["exit_code"] for row in content["devices"])
        assert codes == [0, 130, 130] and content["complete"]
        done = next(row for row in content["devices"] if row["exit_code"] == 0)
        assert _runs(done) == 20_000
    for board in lab:
        assert not board.running("edgeopt"), board.processes()
        assert not list(board.home.rglob("*.tflite"))


def test_devices_are_examined_and_cleaned_together(lab: list[Board], tmp_path: Path) -> None:
    found = edgeopt(tmp_path, "devices", "doctor", "all")
    assert found["code"] == 0 and all(row["checks"] for row in found["devices"])
    cleaned = edgeopt(tmp_path, "devices", "clean", "board0", "board2")
    assert [row["name"] for row in cleaned["devices"]] == ["board0", "board2"]
    assert all(row["freed_bytes"] > 0 for row in cleaned["devices"])


def test_each_device_is_asked_for_its_own_accuracy(lab: list[Board], tmp_path: Path) -> None:
    data = f"{demo_dir() / 'samples.npz'}:x,y"
    words = ["evaluate", MODEL, "--eval-data", data, "--preprocess", "scale=1/255"]
    words += ["--samples", 64, "--device", "board0,board1"]
    refused = edgeopt(tmp_path, *words)
    assert refused["code"] == 2 and "--on-device" in refused["error"]["hint"]
    report = edgeopt(tmp_path, *words, "--on-device")
    assert report["code"] == 0, report["error"]
    found = [row["accuracy"]["optimized"] for row in report["devices"]]
    told = [row["accuracy"]["device"]["name"] for row in report["devices"]]
    assert found[0] == found[1] and told == ["board0", "board1"]


def test_the_environment_and_edgeopt_toml_name_several_devices_too(
    lab: list[Board], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "edgeopt.toml").write_text('device = "board0,board1"\n')
    words = ["deploy", MODEL, "--dry-run", "--target", "cpu"]
    names = [row["name"] for row in edgeopt(tmp_path, *words)["devices"]]
    assert names == ["board0", "board1"]
    monkeypatch.setenv("EDGEOPT_DEVICE", "board2,board1")
    assert [row["name"] for row in edgeopt(tmp_path, *words)["devices"]] == ["board2", "board1"]
    assert [row["name"] for row in edgeopt(tmp_path, *words, "--tag", "rpi")["devices"]] == [
        "board0", "board1", "board2",
    ]  # fmt: skip
    assert "devices" not in edgeopt(tmp_path, *words, "--device", "board0")
