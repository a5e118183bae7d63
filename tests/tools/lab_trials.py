"""One try of one fault, judged: in time, right exit code, said what happened, clean, kept."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from tools.lab import Ended, Lab
from tools.lab_faults import Fault

__all__ = ["COLUMNS", "Trial", "lost", "tried"]

COLUMNS = ("in time", "exit code", "said", "clean", "kept")


@dataclass(frozen=True)
class Trial:
    """What came of one try: the columns in which it failed, each with what was wrong."""

    name: str
    kind: str
    ended: Ended | None
    wrong: dict[str, str] = field(default_factory=dict)


def tried(fault: Fault, lab: Lab) -> Trial:
    """Do it once. The board is as it was afterwards. Raises AssertionError when the moment of the
    fault was not reached, Unsupported and NoLimit when this machine cannot do it."""
    report = lab.folder / "report.json"
    report.unlink(missing_ok=True)
    if wrong := lab.next_run("--report", report):
        raise AssertionError(f"the board was not fit before: {wrong}")
    earlier = report.read_bytes()
    try:
        ended = fault.act(lab)
    finally:
        lab.restored()
    wrong = {}
    if ended.seconds > fault.within_s:
        wrong["in time"] = f"{ended.seconds:.0f} s instead of {fault.within_s:.0f} s"
    code = 130 if ended.code == -2 else ended.code  # a shell says the same of both
    if code != fault.code:
        wrong["exit code"] = f"{ended.code} instead of {fault.code}: {ended.message}"
    if not fault.judged(ended):
        wrong["said"] = f"{ended.message!r}, hint {ended.hint!r}"
    unclean = [] if lab.quiet() or fault.swept else [f"ran on: {_words(lab)}"]
    unclean += lab.next_run()
    if unclean:
        wrong["clean"] = "; ".join(unclean)
    kept = lost(ended, finished=fault.keeps) if fault.code >= 0 else ""
    if report.read_bytes() != earlier:
        kept = "an earlier report was changed"
    if kept:
        wrong["kept"] = kept
    return Trial(fault.name, fault.kind, ended, wrong)


def lost(ended: Ended, *, finished: bool) -> str:
    """What is wrong with the document of a run that failed, "" when nothing is."""
    if not ended.document:
        return "no JSON document"
    if ended.message.startswith("HALF"):
        return "half a JSON document"
    measured = ended.document.get("measurement") or {}
    processes = measured.get("processes") or []
    if finished and not any(p.get("median_ns") or p.get("runs") for p in processes):
        return "what had been measured is not in the document"
    return ""


def whole(report: Path) -> str:
    """What is wrong with a report file after its writer was killed; it may not be there."""
    if not report.exists():
        return ""
    try:
        document = json.loads(report.read_text())
    except ValueError:
        return "half a report"
    return "" if str(document.get("schema", "")).startswith("edgeopt.") else "no report"


def _words(lab: Lab) -> str:
    return "; ".join(words[:80] for words in lab.running(watcher=False))
