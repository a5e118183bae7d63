"""A few faults of the lab, one try each; all of them are behind --slow and in scripts/faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tools.lab import Lab, Unavailable, lab
from tools.lab_acts import Unsupported
from tools.lab_faults import FAULTS, Fault
from tools.lab_kills import kills
from tools.lab_memory import NoLimit
from tools.lab_trials import tried

pytestmark = pytest.mark.device
_SHORT = {("its server is killed", "ssh"), ("out of memory", "ssh"), ("noexec mount", "adb")}


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Lab | str]]:
    """A lab for each link, or the reason why there is none."""
    from contextlib import ExitStack

    found: dict[str, Lab | str] = {}
    with ExitStack() as stack:
        for kind in ("ssh", "adb"):
            try:
                folder = tmp_path_factory.mktemp(f"lab-{kind}")
                found[kind] = stack.enter_context(lab(kind, folder, 1))
            except Unavailable as reason:
                found[kind] = str(reason)
        yield found


def of(labs: dict[str, Lab | str], kind: str) -> Lab:
    found = labs[kind]
    if isinstance(found, str):
        pytest.skip(found)
    return found


def cases() -> list[object]:
    return [
        pytest.param(
            fault,
            id=f"{fault.kind} {fault.name}",
            marks=[] if (fault.name, fault.kind) in _SHORT else [pytest.mark.slow],
        )
        for fault in FAULTS
    ]


@pytest.mark.parametrize("fault", cases())
def test_a_fault_is_survived(labs: dict[str, Lab | str], fault: Fault) -> None:
    try:
        assert tried(fault, of(labs, fault.kind)).wrong == {}
    except (Unsupported, NoLimit) as reason:
        pytest.skip(str(reason))


def test_a_board_does_not_notice_that_edgeopt_is_killed(labs: dict[str, Lab | str]) -> None:
    assert [trial.wrong for trial in kills(of(labs, "ssh"), 2)] == [{}, {}]
