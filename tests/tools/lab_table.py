"""The work of scripts/faults: which faults, how often, and the table of what came of them."""

from __future__ import annotations

import argparse
import contextlib
import functools
import queue
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tools.lab import Lab, Unavailable, lab
from tools.lab_acts import Unsupported
from tools.lab_faults import FAULTS, Fault
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
            for (name, kind), group in sorted(rows.items(), key=_place)
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


def _place(row: tuple[tuple[str, str], Any]) -> tuple[int, str, bool]:
    """Kills last, by stage; before them the faults as they are listed."""
    name, kind = row[0]
    listed = [f.name for f in FAULTS]
    number = listed.index(name) if name in listed else len(listed)
    return number, name, kind == "adb"


def work(
    options: argparse.Namespace, folder: Path, lines: Lines
) -> tuple[list[Trial], dict[str, str]]:
    """Every fault that was asked for, and the kills, on `options.jobs` boards at a time."""
    found = _Found(lines)
    tasks = queue.SimpleQueue[Callable[[], None]]()
    for number, task in enumerate(_tasks(options, folder, found)):
        tasks.put(functools.partial(task, number))
    workers = [
        threading.Thread(target=_work, args=(tasks,), daemon=True) for _ in range(options.jobs)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return found.trials, found.skipped


def _work(tasks: queue.SimpleQueue[Callable[[], None]]) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            tasks.get_nowait()()


class _Found:
    """What came of all tries, of all boards."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.trials: list[Trial] = []
        self.skipped: dict[str, str] = {}

    def add(self, trial: Trial) -> None:
        self.trials.append(trial)
        self.lines.trial(trial)

    def skip(self, name: str, reason: object) -> None:
        self.skipped[name] = str(reason)
        self.lines.say(f"skip   {name}: {reason}")


def _tasks(
    options: argparse.Namespace, folder: Path, found: _Found
) -> Iterator[Callable[[int], None]]:
    """Each has a board of its own, and a seed that follows from the one that was given."""

    def task(kind: str, act: Callable[[Lab], None], number: int) -> None:
        try:
            with lab(kind, folder / f"{kind}{number}", options.seed * 100 + number) as here:
                act(here)
        except Unavailable as reason:
            found.skip(f"what is over {kind}", reason)
        except Exception as error:  # noqa: BLE001 - in a thread nobody else would hear of it
            found.add(Trial("the lab itself", kind, None, {"in time": repr(error)}))

    for kind in ("ssh", "adb"):
        wanted = [
            f for f in FAULTS if f.kind == kind and re.search(options.only, f"{f.name} {kind}")
        ]
        if wanted:
            yield functools.partial(task, kind, functools.partial(_faults, wanted, options, found))
    for kind, share in (("ssh", 2 / 3), ("adb", 1 / 3)):
        if re.search(options.only, f"kills {kind}"):
            for part in _parts(round(options.kills * share), options.jobs):
                yield functools.partial(task, kind, functools.partial(_killed, part, found))


def _parts(count: int, most: int) -> list[int]:
    """`count` in at most so many parts."""
    parts = [count // most + (n < count % most) for n in range(most)]
    return [part for part in parts if part]


def _faults(wanted: list[Fault], options: argparse.Namespace, found: _Found, here: Lab) -> None:
    for fault in wanted * options.times:
        try:
            found.add(tried(fault, here))
        except (Unsupported, NoLimit) as reason:
            found.skip(f"{fault.name} ({fault.kind})", reason)
        except (AssertionError, RuntimeError, OSError) as error:
            wrong = {"in time": f"the lab failed: {error}"}
            found.add(Trial(fault.name, fault.kind, None, wrong))


def _killed(count: int, found: _Found, here: Lab) -> None:
    for trial in kills(here, count):
        found.add(trial)
