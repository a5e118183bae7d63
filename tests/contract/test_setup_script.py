"""scripts/setup on a small project: real bash, venv and pip; no network.

The project's build backend is a stand-in of this file's own, so that nothing has to be fetched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
_BACKEND = """
import pathlib, zipfile
NAME = "small-0-py3-none-any.whl"
def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    if pathlib.Path("fail").exists():
        raise SystemExit("no network")
    info = "small-0.dist-info/"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / NAME, "w") as wheel:
        wheel.writestr("small.pth", str(pathlib.Path.cwd()))
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: small\\nVersion: 0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\n"
                       "Root-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return NAME
"""
_PROJECT = """[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "small"
version = "0"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with the real scripts/setup, in a folder whose name has spaces."""
    root = tmp_path / "a folder with spaces"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(REPOSITORY / "scripts" / "setup", root / "scripts" / "setup")
    (root / "pyproject.toml").write_text(_PROJECT)
    (root / "backend.py").write_text(_BACKEND)
    return root


def _start(project: Path, **changes: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHON": sys.executable, "PIP_NO_INDEX": "1", "CDPATH": ".."}
    environment.update(changes)
    return subprocess.Popen(
        [str(project / "scripts" / "setup")], cwd="/", env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _setup(project: Path, **changes: str) -> tuple[int, str]:
    process = _start(project, **changes)
    out, err = process.communicate(timeout=300)
    assert out == ""
    return process.returncode, err


def _python(path: Path, says: str) -> str:
    """A double of a Python: it only answers what scripts/setup asks."""
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return str(path)


def test_it_installs_once_even_when_two_start_at_the_same_time(project: Path) -> None:
    first, second = _start(project), _start(project)
    said = first.communicate(timeout=300)[1] + second.communicate(timeout=300)[1]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert said.count("Installing edgeopt") == 1 and said.count("Making .venv") == 1
    assert _setup(project) == (0, "")


def test_what_an_interruption_left_is_made_anew(project: Path) -> None:
    assert _setup(project)[0] == 0
    (project / ".venv" / "edgeopt-unfinished").touch()
    code, said = _setup(project)
    assert code == 0 and "left half-made" in said
    assert _setup(project) == (0, "")


@pytest.mark.slow
def test_a_venv_without_pip_gets_it_and_keeps_its_files(project: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", project / ".venv"], check=True)
    (project / ".venv" / "mine").touch()
    code, said = _setup(project)
    assert code == 0, said
    assert (project / ".venv" / "mine").exists()


@pytest.mark.slow
def test_a_failed_installation_is_told_and_tried_again(project: Path) -> None:
    (project / "fail").touch()
    code, said = _setup(project)
    assert code != 0 and "edgeopt is not installed" in said
    (project / "fail").unlink()
    code, said = _setup(project)
    assert code == 0 and "Making .venv" not in said


@pytest.mark.slow
def test_a_moved_folder_gets_programs_that_run(project: Path) -> None:
    assert _setup(project)[0] == 0
    moved = project.rename(project.with_name("moved"))
    code, said = _setup(moved)
    assert code == 0 and "made in another folder" in said
    assert subprocess.run([moved / ".venv" / "bin" / "pip", "--version"]).returncode == 0


@pytest.mark.parametrize("says", ["is Python 3.9", "is Python 3.14", "has no venv"])
def test_the_python_that_was_asked_for_is_used_or_refused(project: Path, says: str) -> None:
    code, said = _setup(project, PYTHON=_python(project / "old python", says))
    assert code == 1 and f"old python {says}" in said
    assert not (project / ".venv").exists()


def test_another_python_stands_in_for_an_unsuited_python3(project: Path) -> None:
    doubles = project / "bin"
    doubles.mkdir()
    _python(doubles / "python3", "is Python 3.14")
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (doubles / version).symlink_to(sys.executable)
    code, said = _setup(project, PYTHON="", PATH=f"{doubles}:/usr/bin:/bin")
    assert code == 0, said


def test_a_foreign_venv_of_another_python_is_left_alone(project: Path) -> None:
    (project / ".venv" / "bin").mkdir(parents=True)
    _python(project / ".venv" / "bin" / "python", "3.14")
    code, said = _setup(project)
    assert code == 1 and "move it away or delete it" in said
    assert (project / ".venv" / "bin" / "python").exists()
