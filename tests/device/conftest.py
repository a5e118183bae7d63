"""Real devices for the device tests: a real sshd, and a real adbd where it is set up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.sshd import Sshd, why_no_sshd


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A board of its own: its own home, its own keys, a free port on loopback."""
    if reason := why_no_sshd():
        pytest.skip(reason)
    with Sshd(tmp_path / "board") as board:
        yield board
