"""The work of scripts/faults: which faults, how often, and the table of what came of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tools.lab import Lab, Unavailable, lab
from tools.lab_acts import Unsupported
from tools.lab_faults import FAULTS
from tools.lab_kills import kills
from tools.lab_memory import NoLimit
from tools.lab_trials import COLUMNS, Trial, tried

__all__ = ["Lines", "work"]


class Lines:
    """What the terminal shows: a line a try, then the table."""

    def __init__(self, *, quiet: bool) -> None:
        self._stream = sys.stderr if quiet else sys.stdout

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def trial(self, trial: Trial) -> None:
        seconds = f"{trial.ended.seconds:5.1f} s, exit {trial.ended.code}" if trial.ended else ""
        self.say(f"{'FAILED' if trial.wrong else 'ok':6} {trial.kind} {trial.name:28} {seconds}")
        for column, wrong in trial.wrong.items():
            self.say(f"       {column}: {wrong}")

    def table(self, trials: list[Trial]) -> list[dict[str, Any]]:
        """A row for each fault and link: how many tries, and in how many each column was right."""
        rows: dict[tuple[str, str], list[Trial]] = {}
        for trial in trials:
            rows.setdefault((trial.name, trial.kind), []).append(trial)
        return [
            {
                "fault": name,
                "link": kind,
                "tried": len(group),
                **{c: sum(c not in t.wrong for t in group) for c in COLUMNS},
                "slowest_s": round(max((t.ended.seconds for t in group if t.ended), default=0), 1),
            }
            for (name, kind), group in rows.items()
        ]

    def show(
        self, rows: list[dict[str, Any]], skipped: dict[str, str], about: dict[str, Any]
    ) -> None:
        self.say("")
        head = f"{'fault':30} {'link':4} {'tried':>5}  " + " ".join(f"{c:>9}" for c in COLUMNS)
        self.say(f"{head}  slowest")
        for row in rows:
            counts = " ".join(f"{row[c]:9}" for c in COLUMNS)
            start = f"{row['fault']:30} {row['link']:4} {row['tried']:5}"
            self.say(f"{start}  {counts}  {row['slowest_s']:5.1f} s")
        for name, reason in skipped.items():
            self.say(f"skipped: {name}: {reason}")
        tries = sum(row["tried"] for row in rows)
        right = sum(all(row[c] == row["tried"] for c in COLUMNS) for row in rows)
        self.say(
            f"\n{right} of {len(rows)} rows without a failure, {tries} tries; seed {about['seed']},"
            f" {about['date']}, {about['machine']}, {about['seconds']} s"
        )


def work(
    options: argparse.Namespace, folder: Path, lines: Lines
) -> tuple[list[Trial], dict[str, str]]:
    """Every fault that was asked for, then the kills."""
    trials: list[Trial] = []
    skipped: dict[str, str] = {}
    for kind in ("ssh", "adb"):
        wanted = [f for f in FAULTS if f.kind == kind and options.only in f"{f.name} {kind}"]
        killing = options.kills and options.only in f"kill {kind}"
        if not wanted and not killing:
            continue
        try:
            with lab(kind, folder / kind, options.seed) as here:
                for fault in wanted:
                    for _ in range(options.times):
                        _try(
                            lambda f=fault: tried(f, here), fault.name, kind, trials, skipped, lines
                        )  # type: ignore[misc]
                if killing:
                    count = options.kills - options.kills // 3
                    count = count if kind == "ssh" else options.kills - count
                    _killed(here, count, trials, lines)
        except Unavailable as reason:
            skipped[f"everything over {kind}"] = str(reason)
    return trials, skipped


def _try(
    act: Any, name: str, kind: str, trials: list[Trial], skipped: dict[str, str], lines: Lines
) -> None:
    try:
        trial = act()
    except (Unsupported, NoLimit) as reason:
        skipped[f"{name} ({kind})"] = str(reason)
        lines.say(f"skip   {kind} {name}: {reason}")
        return
    except (AssertionError, RuntimeError, OSError) as error:
        trial = Trial(name, kind, None, {"in time": f"the lab failed: {error}"})
    trials.append(trial)
    lines.trial(trial)


def _killed(here: Lab, count: int, trials: list[Trial], lines: Lines) -> None:
    for trial in kills(here, count):
        trials.append(trial)
        if trial.wrong or len(trials) % 20 == 0:
            lines.trial(trial)
