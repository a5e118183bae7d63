"""A Coral board behind a real sshd: its /sys, /dev and libedgetpu are fakes and say so."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tools.fake_coral import FakeBoard, build_library, mount_into, why_no_library
from tools.sshd import Sshd, why_no_sshd

from edgeopt.model import read
from edgeopt.paths import demo_dir

pytestmark = pytest.mark.device
TESTS = Path(__file__).resolve().parents[1]


def boot(folder: Path, tree: FakeBoard, *, mode: str = "works") -> Sshd:
    """A board whose sessions find the fake library, which behaves as `mode` says."""
    if reason := why_no_sshd() or why_no_library():
        pytest.skip(reason)
    library = build_library(folder / "library").parent
    environment = f"SetEnv LD_LIBRARY_PATH={library} EDGEOPT_FAKE_CORAL={mode}\n"
    return Sshd(folder / "board", extra=environment)


@pytest.fixture
def tree(tmp_path: Path) -> FakeBoard:
    return FakeBoard(tmp_path / "fake-board")


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The demo model in the structure of a compiled one."""
    monkeypatch.syspath_prepend(str(TESTS / "unit"))
    from compiled_models import compiled_double

    source = demo_dir() / "fashion.tflite"
    model = tmp_path / "fashion_edgetpu.tflite"
    whole = {i for i, _ in enumerate(read(source).operators())}
    model.write_bytes(compiled_double(source.read_bytes(), [whole]))
    yield model


def edgeopt(sshd: Sshd, folder: Path, *words: object) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON document."""
    sshd.trust()
    (folder / "devices.toml").write_text(
        f'schema = 1\n[devices.coral]\nurl = "{sshd.url}"\nkey = "{sshd.key}"\n'
        f'python = "{sys.executable}"\nedgetpu_device = "pci:0"\n'
    )
    command = [sys.executable, "-m", "edgeopt", *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)
    return done.returncode, json.loads(done.stdout)


def test_the_doctor_reads_a_board_over_ssh(tmp_path: Path, tree: FakeBoard) -> None:
    tree.pci(temp=82_000)
    with boot(tmp_path, tree) as sshd:
        mount_into(sshd, tree)
        code, found = edgeopt(sshd, tmp_path, "devices", "doctor", "coral")
    assert code == 0, found["error"]
    rows = {row["name"]: row for row in found["checks"]}
    assert "apex 1.2" in rows["apex driver"]["found"]
    assert rows["edge tpu heat"]["warning"] and "82.0 degC" in rows["edge tpu heat"]["found"]
    assert rows["libedgetpu"]["warning"] and "STAND-IN" in rows["libedgetpu"]["found"]
    assert rows["edge tpu"]["details"]["is_double"] is True


def test_a_deploy_runs_the_compiled_part_and_never_passes_a_stand_in_for_a_chip(
    tmp_path: Path, tree: FakeBoard, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEOPT_CONDITIONS", "judge")
    tree.pci(temp=86_000)
    words = ["deploy", compiled, "--target", "coral-dev-board", "--device", "coral", "--runs", 5]
    with boot(tmp_path, tree) as sshd:
        mount_into(sshd, tree)
        code, report = edgeopt(sshd, tmp_path, *words)
    assert code == 6, report["error"]
    measured = report["measurement"]
    [process, *_] = measured["processes"]
    assert process["runs"] + process["moved_runs"] == 5 and not measured["valid"]
    assert measured["conditions"]["after"]["apex_temperature_millic"] == 86_000
    reasons = " ".join(measured["invalid_reasons"])
    assert "stand-in" in reasons and "steps its clock down from 85" in reasons
    assert report["device"]["accelerator"] == "edgetpu"
    assert report["device"]["facts"]["edgetpu"]["is_double"] is True
    assert report["device"]["facts"]["edgetpu"]["options"] == {"device": "pci:0"}


def test_who_holds_the_chip_is_told_when_it_does_not_open(
    tmp_path: Path, tree: FakeBoard, compiled: Path
) -> None:
    tree.pci()
    words = ["deploy", compiled, "--target", "coral-dev-board", "--device", "coral", "--runs", 5]
    with boot(tmp_path, tree, mode="no-device") as sshd:
        mount_into(sshd, tree)
        holder = sshd.inside("sh", "-c", "exec 9</dev/apex_0; exec sleep 60")
        try:
            time.sleep(0.2)
            code, report = edgeopt(sshd, tmp_path, *words)
        finally:
            holder.kill()
            holder.wait()
    assert code == 5
    assert report["error"]["details"]["reason"] == "busy"
    assert f"sleep ({holder.pid}) has /dev/apex_0 open" in report["error"]["message"]
