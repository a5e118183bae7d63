"""Recorded turns for benchmarks/compare.py, and the verdicts on them. No benchmark by itself."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edgeopt.measurement.comparison import CONFIDENCE, THRESHOLD, judge
from edgeopt.measurement.ranks import centre, centre_interval
from edgeopt.measurement.turns import Turns

__all__ = ["TURNS", "keep", "recorded", "turn_verdicts"]

TURNS = Path(__file__).with_name("compare_turns.json")
_LEAST = 8


def keep(reports: Sequence[Path], out: Path) -> None:
    """From reports of --real: of each process that counted, the log of copy / a."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in reports]
    logs = [log for d in documents for log in Turns.from_json(d["turns"]).log_ratios("a", "copy")]
    if len(logs) < _LEAST:
        raise SystemExit("The models took no turns in these reports: nothing to keep.")
    facts = documents[0]["variants"][0]["device"]["facts"]
    machine = f"{facts.get('model') or facts.get('cpu')}, {facts.get('cores')} cores"
    content = {"machine": machine, "log_ratios": [round(log, 6) for log in logs]}
    out.write_text(json.dumps(content, indent=0).replace(",\n", ", ") + "\n", encoding="utf-8")


def recorded(path: Path = TURNS) -> tuple[str, list[float]]:
    """The machine, and the log ratios of equal models in the order in which they were measured."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return document["machine"], document["log_ratios"]


def turn_verdicts(
    logs: Sequence[float], *, slowdown: float, repeats: int, seed: int
) -> Counter[str]:
    """How often processes that follow each other in the recording, from a random one on, get which
    verdict: eight, and more until the interval is as narrow as the product wants it, or half of the
    recording is used up. `slowdown` is added to each."""
    source, found = random.Random(seed), Counter[str]()
    for _ in range(repeats):
        start = source.randrange(len(logs))
        taken = [log + math.log1p(slowdown) for log in [*logs[start:], *logs[:start]]]
        for size in range(_LEAST, max(_LEAST, len(logs) // 2) + 1):
            ends = centre_interval(taken[:size], CONFIDENCE)
            if ends is not None and math.expm1(ends[1] - ends[0]) <= THRESHOLD:
                break
        if ends is None:
            raise ValueError("The recording is too short.")
        interval = math.exp(ends[0]), math.exp(ends[1])
        found[judge(math.exp(centre(taken[:size])), interval, THRESHOLD)] += 1
    return found
