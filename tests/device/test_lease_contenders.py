"""Many who want one board at the same moment, each over a connection of its own."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest
from tools.sshd import Sshd, why_no_sshd

from edgeopt.device import connect
from edgeopt.device.leasing.holding import board_of
from edgeopt.device.leasing.lease import Held
from edgeopt.progress import Silent

pytestmark = pytest.mark.device


@pytest.mark.slow
def test_of_twenty_contenders_never_two_have_the_board(tmp_path: Path) -> None:
    """The witness is a folder, which only one can make."""
    if reason := why_no_sshd():
        pytest.skip(reason)
    witness, overlaps, turns = tmp_path / "somebody", [], []  # type: ignore[var-annotated]
    until = time.monotonic() + 20

    def contend(board: Sshd, number: int) -> None:
        with connect(board.spec(), timeout_s=60) as device:
            leases = board_of(device)
            while time.monotonic() < until:
                lease = leases.take(purpose=str(number), wait_s=300, progress=Silent())
                with Held(leases, lease) as keeper:
                    try:
                        witness.mkdir()
                    except FileExistsError:
                        overlaps.append(number)
                        continue
                    time.sleep(random.uniform(0.0, 0.1))
                    overlaps.extend([keeper.check()] if keeper.check() else [])
                    witness.rmdir()
                turns.append(number)

    with Sshd(tmp_path / "board", extra="MaxStartups 100\n") as board:
        board.trust()
        threads = [threading.Thread(target=contend, args=(board, n)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not list((board.home / ".cache").rglob("lease-*"))
    assert overlaps == []
    assert set(turns) == set(range(20))
