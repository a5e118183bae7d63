"""edgeopt itself is killed at random moments, again and again; the board must not notice."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tools.lab import Ended, Lab, stop
from tools.lab_trials import Trial, whole

__all__ = ["kills"]

_CODES = {signal.SIGKILL: -9, signal.SIGINT: 130}
_ENDS_S = 15.0  # it may have to tell the board, and to wait for an answer


def kills(lab: Lab, count: int) -> Iterator[Trial]:
    """`count` times kill -9 or Ctrl-C, spread over a run from its start to its end."""
    report = lab.folder / "killed.json"
    began = time.monotonic()
    wrong = lab.next_run("--report", report)
    whole_s = time.monotonic() - began
    if wrong:
        raise AssertionError(f"the board was not fit before: {wrong}")
    for number in range(count):
        how = lab.random.choice(list(_CODES))
        if number % 8 == 0:  # now and then all has to be sent again
            lab.emptied()
        yield _kill(lab, how, lab.random.uniform(0.1, whole_s), report)


def _kill(lab: Lab, how: signal.Signals, after_s: float, report: Path) -> Trial:
    before = report.read_bytes() if report.exists() else b""
    session = lab.start("--runs", 400, "--warmup", 2, "--report", report)
    time.sleep(after_s)
    stop(session, how)
    ended = session.end()
    name = "kill -9 of edgeopt" if how is signal.SIGKILL else "Ctrl-C"
    wrong = {}
    if ended.seconds > _ENDS_S:
        wrong["in time"] = f"{ended.seconds:.0f} s"
    if ended.code not in (_CODES[how], -int(how), 0):  # Python not yet begun; or over before
        wrong["exit code"] = f"{ended.code} after {after_s:.2f} s: {ended.message}"
    if how is signal.SIGINT and ended.code == 130 and "Stopped" not in ended.stderr:
        wrong["said"] = ended.stderr[-200:]
    unclean = [] if lab.quiet() else [f"ran on: {list(lab.board.strays().values())}"]
    unclean += lab.next_run()
    if unclean:
        wrong["clean"] = f"after {after_s:.2f} s: " + "; ".join(unclean)
    if found := _report(report, before, ended):
        wrong["kept"] = found
    return Trial(name, lab.kind, ended, wrong)


def _report(report: Path, before: bytes, ended: Ended) -> str:
    """The report is the earlier one or a whole new one, and nothing half-written lies beside it."""
    if before and not report.exists():
        return "the earlier report is gone"
    if found := whole(report):
        return found
    if ended.code == 0 and report.read_bytes() == before:
        return "a finished run was not reported"
    parts = [p.name for p in report.parent.glob("*killed.json*") if p != report]
    return f"half-written: {parts}" if parts else ""
