"""edgeopt itself is killed at random moments of every stage, again and again; the board must not
notice."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tools.lab import Ended, Lab, Session, stop
from tools.lab_trials import Trial, whole

__all__ = ["STAGES", "kills"]

STAGES = ("start", "connect", "push", "run", "collect")
_SIGNALS = {signal.SIGKILL: "kill -9", signal.SIGINT: "Ctrl-C"}
_ENDS_S = 15.0  # it may have to tell the board, and to wait for an answer
_WORDS = {"connect": "Connecting", "push": "Send", "run": {"ssh": "Run on", "adb": "Timing"}}
_UP_TO_S = {"start": 0.8, "connect": 0.4, "push": 0.6, "run": 1.5, "collect": 0.3}
_SLOW_BITS = 2e6  # so that a push lasts


def kills(lab: Lab, count: int) -> Iterator[Trial]:
    """`count` times kill -9 or Ctrl-C: every stage alike often, at a random moment of it."""
    if wrong := lab.next_run("--report", _report(lab)):
        raise AssertionError(f"the board was not fit before: {wrong}")
    acts = [(stage, number) for stage in STAGES for number in _SIGNALS]
    lab.random.shuffle(acts)
    todo = [acts[n % len(acts)] for n in range(count)]
    lab.random.shuffle(todo)
    for stage, number in todo:
        prepare = ["--prepare"] if lab.random.random() < 0.5 else []
        yield _kill(lab, stage, number, lab.random.uniform(0, _UP_TO_S[stage]), prepare)


def _report(lab: Lab) -> Path:
    return lab.folder / "killed.json"


def _kill(lab: Lab, stage: str, how: signal.Signals, after_s: float, words: list[str]) -> Trial:
    report = _report(lab)
    before = report.read_bytes() if report.exists() else b""
    ended = _killed(lab, stage, how, after_s, words)
    wrong, name = {}, f"{_SIGNALS[how]}: {stage}"
    if ended.seconds > _ENDS_S:
        wrong["in time"] = f"{ended.seconds:.0f} s"
    if not _right(how, ended):
        wrong["exit code"] = f"{ended.code} after {after_s:.2f} s: {ended.stderr[-300:]}"
    begun = "edgeopt:" in ended.stderr  # before, it is as if it had not been called
    if how is signal.SIGINT and ended.code == 130 and begun and "Stopped" not in ended.stderr:
        wrong["said"] = ended.stderr[-200:]
    unclean = [] if lab.quiet() else [f"ran on: {lab.running(watcher=False)}"]
    unclean += lab.next_run()
    if unclean:
        wrong["clean"] = f"after {after_s:.2f} s: " + "; ".join(unclean)
    if found := _lost(report, before, ended):
        wrong["kept"] = found
    return Trial(name, lab.kind, ended, wrong)


def _killed(lab: Lab, stage: str, how: signal.Signals, after_s: float, words: list[str]) -> Ended:
    if stage == "push":
        lab.emptied()
        lab.board.slow(_SLOW_BITS)
    runs = 3_000_000 if stage == "run" else 20
    session = lab.start("--runs", runs, "--warmup", 1, "--report", _report(lab), *words)
    try:
        _await(lab, session, stage)
        time.sleep(after_s)
        stop(session, how)
        return session.end()
    finally:
        lab.restored()


def _await(lab: Lab, session: Session, stage: str) -> None:
    """Return as soon as that stage has begun, or all is over."""
    if stage == "start":
        return
    words = _WORDS.get(stage, _WORDS["run"])
    phrase = words if isinstance(words, str) else words[lab.kind]
    session.reach(phrase, 90)
    if stage == "collect":
        session.ended_or(lambda: lab.busy() or "Comparing" in session.said, 90)
        session.ended_or(lambda: not lab.busy(), 90)


def _right(how: signal.Signals, ended: Ended) -> bool:
    """Its own code; or that of a Python that has not begun to read edgeopt; or it was over."""
    if ended.code in ({signal.SIGKILL: -9, signal.SIGINT: 130}[how], -int(how), 0):
        return True
    return how is signal.SIGINT and "Fatal Python error: init_import_site" in ended.stderr


def _lost(report: Path, before: bytes, ended: Ended) -> str:
    """The report is the earlier one or a whole new one, and nothing half-written lies beside it."""
    if ended.message.startswith("HALF") and ended.code != -9:
        return "half a JSON document"
    if before and not report.exists():
        return "the earlier report is gone"
    if found := whole(report):
        return found
    if ended.code == 0 and report.read_bytes() == before:
        return "a finished run was not reported"
    parts = [p.name for p in report.parent.glob("*killed.json*") if p != report]
    return f"half-written: {parts}" if parts else ""
