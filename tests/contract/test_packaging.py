"""Targets and profiles are found from a clone, an editable install, a wheel and an sdist."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edgeopt

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = {"cpu", "android-gpu", "edgetpu", "raspberry-pi-4", "raspberry-pi-5", "coral-dev-board",
         "coral-usb", "android-arm64"}  # fmt: skip
SCRIPT = """
import edgeopt, pathlib
from edgeopt.paths import demo_dir
from edgeopt.target import list_targets
assert (demo_dir() / 'fashion.tflite').is_file()
print(pathlib.Path(edgeopt.__file__).parent)
print(' '.join(t.name for t in list_targets() if t.profile))
"""


def _targets(python_path: Path | None, cwd: Path) -> tuple[Path, set[str]]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    if python_path is not None:
        environment["PYTHONPATH"] = str(python_path)
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr
    where, names = done.stdout.splitlines()
    return Path(where), set(names.split())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel built from it."""
    out = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        str(out),
        str(REPOSITORY),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_from_a_clone(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    clone = tmp_path / "clone"
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "edgeopt", "targets", "hardware_profiles"],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    if tracked.returncode != 0 or not tracked.stdout:
        pytest.skip("not in a git checkout")
    for name in filter(None, tracked.stdout.split("\0")):
        target = clone / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((REPOSITORY / name).read_bytes())
    where, names = _targets(clone, tmp_path)
    assert where == clone / "edgeopt" and names >= NAMES


def test_from_this_environments_install(tmp_path: Path) -> None:
    where, names = _targets(None, tmp_path)
    assert where.name == "edgeopt" and names >= NAMES


def test_from_a_wheel(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "elsewhere" / "targets").mkdir(parents=True)  # a user's own must not shadow
    where, names = _targets(tmp_path / "site", tmp_path / "elsewhere")
    assert where == tmp_path / "site" / "edgeopt" and names >= NAMES


def test_from_an_unpacked_sdist(built: Path, tmp_path: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    subprocess.run(["tar", "-xf", sdist, "-C", tmp_path], check=True)
    (folder,) = (p for p in tmp_path.iterdir() if p.is_dir())
    where, names = _targets(folder, tmp_path)
    assert where == folder / "edgeopt" and names >= NAMES


def test_the_wheel_holds_what_it_should_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {n.split("/")[0] for n in names if ".dist-info" not in n}
    assert tops == {"edgeopt", f"edgeopt-{edgeopt.__version__}.data"}
    assert any(n.endswith("fashion.tflite") for n in names)
    assert any("LICENSE" in n for n in names)


def _version(command: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command, "--version"], capture_output=True, text=True, cwd="/", env=environment
    )


def test_the_installed_command_runs_in_a_folder_with_spaces_and_through_a_link(
    built: Path, tmp_path: Path
) -> None:
    place = tmp_path / "a folder with spaces"
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    install = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", *built.glob("*.whl")]
    subprocess.run([place / "bin" / "python", *install], check=True)
    link = tmp_path / "linked"
    link.symlink_to(place / "bin" / "edgeopt")
    for command in (place / "bin" / "edgeopt", link):
        done = _version(command, PATH="/usr/bin:/bin")
        assert (done.returncode, done.stdout) == (0, f"edgeopt {edgeopt.__version__}\n"), done


def test_the_installed_command_finds_its_python_outside_of_a_venv(
    built: Path, tmp_path: Path
) -> None:
    """As after `pip install --user`: programs in one place, the Python in another."""
    install = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", tmp_path]
    subprocess.run([sys.executable, *install, *built.glob("*.whl")], check=True)
    pythons = tmp_path / "pythons"
    pythons.mkdir()
    (pythons / "python3").write_text("#!/bin/sh\necho 'No module named edgeopt' >&2; exit 1\n")
    (pythons / "python3").chmod(0o755)  # a double of a Python without edgeopt
    (pythons / "python3.10").symlink_to(sys.executable)
    path = f"{pythons}:/usr/bin:/bin"
    done = _version(tmp_path / "bin" / "edgeopt", PATH=path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, f"edgeopt {edgeopt.__version__}\n"), done


def test_a_command_without_its_package_says_so(tmp_path: Path) -> None:
    command = tmp_path / "edgeopt"
    command.write_bytes((REPOSITORY / "edgeopt" / "cli" / "edgeopt").read_bytes())
    command.chmod(0o755)
    done = _version(command, PATH="/usr/bin:/bin")
    assert done.returncode == 127 and "install it again" in done.stderr
