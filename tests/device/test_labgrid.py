"""Boards of a real labgrid: its coordinator, its exporter, its client, and a real sshd."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tools.sshd import Sshd

from edgeopt.paths import demo_dir

pytestmark = pytest.mark.device
_PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


@dataclass(frozen=True)
class Lab:
    coordinator: str
    home: Path
    board: Sshd

    def client(self, *words: str, user: str = "anna") -> subprocess.CompletedProcess[str]:
        argv = ["labgrid-client", "-x", self.coordinator, "-p", "bench", *words]
        return subprocess.run(
            argv, env=self.env(user), capture_output=True, text=True, timeout=60, check=False
        )

    def env(self, user: str = "anna") -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("EDGEOPT_", "XDG_"))}
        ours = {"HOME": str(self.home), "EDGEOPT_CONDITIONS": "report", "PATH": _PATH}
        return {**kept, **ours, "LG_USERNAME": user, "LG_HOSTNAME": "desk"}

    def call(self, *words: str) -> tuple[int, dict[str, Any]]:
        argv = [sys.executable, "-m", "edgeopt", *words, "--json"]
        done = subprocess.run(argv, env=self.env(), cwd=self.home, capture_output=True, timeout=120)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def measures(self, device: str = "bench") -> tuple[int, dict[str, Any]]:
        model = str(demo_dir() / "fashion.tflite")
        words = ["--runs", "5", "--processes", "1", "--wait", "0"]
        return self.call("benchmark", model, "--device", device, *words)

    def holder(self) -> str:
        _, shown = self.call("devices", "leases", "bench")
        return str((shown["devices"][0]["lease"] or {}).get("owner", ""))


@pytest.fixture
def lab(sshd: Sshd, tmp_path: Path) -> Iterator[Lab]:
    if not shutil.which("labgrid-coordinator", path=_PATH):
        pytest.skip("labgrid is not installed (pip install 'edgeopt[dev]')")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{free.getsockname()[1]}"
    home = tmp_path / "home"
    (home / ".config/edgeopt").mkdir(parents=True)
    (home / ".config/edgeopt/devices.toml").write_text(_INVENTORY.format(where=where, board=sshd))
    with (tmp_path / "exporter.yaml").open("w") as file:
        file.write(_EXPORT.format(board=sshd))
    lab = Lab(where, home, sshd)
    served: list[subprocess.Popen[bytes]] = []

    def serve(*argv: str) -> None:
        silent = subprocess.DEVNULL
        served.append(
            subprocess.Popen(argv, cwd=tmp_path, env=lab.env(), stdout=silent, stderr=silent)
        )

    try:
        serve("labgrid-coordinator", "-l", where)
        _until(lambda: lab.client("create").returncode == 0)
        serve("labgrid-exporter", "-c", where, "-n", "rack", "exporter.yaml")
        assert lab.client("add-match", "rack/group/NetworkService").returncode == 0
        _until(lambda: "NetworkService" in lab.client("resources").stdout)
        lab.call("devices", "pin", "plain", "--fingerprint", sshd.fingerprint)
        yield lab
    finally:
        for process in served:
            process.kill()
            process.wait()


_INVENTORY = """schema = 1
[devices.bench]
labgrid = "bench"
labgrid_coordinator = "{where}"
key = "{board.key}"
python = "PYTHON"
[devices.plain]
url = "{board.url}"
""".replace("PYTHON", sys.executable)
_EXPORT = """group:
  NetworkService:
    address: "{board.host}"
    port: {board.port}
    username: root
"""


def _until(true: Any) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_the_lock_and_the_address_are_labgrids_and_given_back(lab: Lab) -> None:
    code, document = lab.measures()
    assert (code, document["error"]) == (0, None)
    assert document["device"]["lease"]["labgrid"] == "bench"
    assert "acquired: None" in lab.client("show").stdout
    assert lab.holder() == ""


def test_a_place_that_another_has_is_exit_5_with_his_name(lab: Lab) -> None:
    assert lab.client("acquire", user="otto").returncode == 0
    code, document = lab.measures()
    assert code == 5
    assert "desk/otto has it" in document["error"]["message"]
    assert lab.holder() == "desk/otto"


def test_a_place_that_was_acquired_by_hand_stays_so(lab: Lab) -> None:
    assert lab.client("acquire").returncode == 0
    assert lab.measures()[0] == 0
    assert lab.holder() == "desk/anna"


def test_a_coordinator_that_is_away_is_exit_5_and_named(lab: Lab) -> None:
    file = lab.home / ".config/edgeopt/devices.toml"
    file.write_text(file.read_text().replace(lab.coordinator, "127.0.0.1:9"))
    code, document = lab.measures()
    assert code == 5
    assert "coordinator cannot be reached" in document["error"]["message"]
