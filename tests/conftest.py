"""Fixtures that several test folders share. Shared material is used when it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests that are not about how much is measured start one process and search for 2 s; those that are
# not about conditions only report them: they run beside others. Set here, because fixtures of a
# whole module are made before those of a test.
os.environ |= {
    "EDGEOPT_PROCESSES": "1",
    "EDGEOPT_MAX_TIME": "2",
    "EDGEOPT_CONDITIONS": "report",
}
REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("EDGEOPT_SHARED", REPOSITORY.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and data beside the repository; skips where it is not."""
    if not (SHARED / "DATA.md").is_file():
        pytest.skip("the shared models and data are not beside this clone")
    return SHARED


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own cache, configuration or state."""
    base = tmp_path_factory.mktemp("home")
    for name in ("CACHE", "CONFIG", "STATE"):
        monkeypatch.setenv(f"EDGEOPT_{name}", str(base / name.lower()))
