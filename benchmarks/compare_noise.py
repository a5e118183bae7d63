"""Recorded noise for benchmarks/compare.py, and the verdicts on it. No benchmark by itself."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.measurement import Measurement, ProcessRun, compare
from edgeopt.measurement.comparison import SESSION
from edgeopt.measurement.judged import JudgedProcess, judge_process

__all__ = ["NOISE", "Pool", "machine_of", "pools", "record", "verdicts"]

NOISE = Path(__file__).with_name("compare_noise.json")
_RECORDED_RUNS = 600  # of each process
_KEPT_RUNS = 200  # of those, evenly spaced: the file stays small
_BLOCK_RUNS = 120
_BLOCKS = 3  # of each process: which part of it a simulated process saw


@dataclass(frozen=True)
class Pool:
    """The processes of one recorded model, each cut into overlapping blocks, judged already."""

    name: str
    machine: str
    blocks: tuple[tuple[JudgedProcess, ...], ...]
    slower: tuple[tuple[JudgedProcess, ...], ...]


def pools(path: Path, slowdown: float) -> list[Pool]:
    """The recorded models, as they are and slowed down by a fraction."""
    document = json.loads(path.read_text(encoding="utf-8"))
    found = []
    for name, processes in document["models"].items():
        disturbed = document["disturbed"].get(name, [])
        cut = [
            [
                _blocks(samples, factor, number in disturbed)
                for number, samples in enumerate(processes)
            ]
            for factor in (1.0, 1 + slowdown)
        ]
        found.append(
            Pool(
                name=name,
                machine=document["machine"],
                blocks=tuple(cut[0]),
                slower=tuple(cut[1]),
            )
        )
    return found


def machine_of(path: Path) -> str:
    return str(json.loads(path.read_text(encoding="utf-8"))["machine"])


def _blocks(samples: list[int], factor: float, disturbed: bool) -> tuple[JudgedProcess, ...]:
    """`disturbed`: the product said so when it was recorded, of the board and not of the times."""
    step = max(0, len(samples) - _BLOCK_RUNS) // max(1, _BLOCKS - 1)
    reasons = ("disturbed when recorded",) if disturbed else ()
    return tuple(
        judge_process(
            ProcessRun(
                samples_ns=tuple(round(t * factor) for t in samples[i : i + _BLOCK_RUNS]),
                invalid_reasons=reasons,
            )
        )
        for i in range(0, step * _BLOCKS or 1, step or 1)
    )


def verdicts(
    pool: Pool, *, slower: bool, apart: bool, repeats: int, seed: int, precision: float
) -> Counter[str]:
    """How often two measurements of the recorded model get which verdict.

    Each is made of recorded processes, none twice, as the product makes it: five that are valid,
    and more until the median's interval is as narrow as asked or this side's half of the recording
    is used up; disturbed ones are left out. The halves are drawn at random, as in alternation, or
    with `apart` one is what came after the other.
    """
    source, found = random.Random(seed), Counter[str]()
    for _ in range(repeats):
        order = list(range(len(pool.blocks)))
        if apart:
            start = source.randrange(len(order))
            order = order[start:] + order[:start]
        else:
            source.shuffle(order)
        half = len(order) // 2
        old = _measured(pool.blocks, order[:half], source, precision)
        new = _measured(pool.slower if slower else pool.blocks, order[half:], source, precision)
        result = compare(old, new, session=SESSION if apart else 0.0)
        found[result.verdict if old.valid and new.valid else "invalid"] += 1
    return found


def _measured(
    blocks: tuple[tuple[JudgedProcess, ...], ...],
    order: list[int],
    source: random.Random,
    precision: float,
) -> Measurement:
    taken: list[JudgedProcess] = []
    for index in order:
        taken.append(source.choice(blocks[index]))
        if sum(p.valid for p in taken) >= 5:
            measured = Measurement(processes=tuple(taken), asked=5)
            if measured.reached is not None and measured.reached <= precision:
                return measured
    return Measurement(processes=tuple(taken), asked=5)


def record(models: list[Path], out: Path, processes: int, device: str | None) -> None:
    """Record processes of each model in random alternation, through the product itself."""
    command = [sys.executable, "-m", "edgeopt", "benchmark", *map(str, models), "--json"]
    command += ["--interleave"] if len(models) > 1 else []
    command += ["--processes", str(processes), "--max-time", "3600", "--precision", "0.01%"]
    command += ["--runs", str(processes * _RECORDED_RUNS)]
    command += ["--device", device] if device else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    rows = answer["variants"] if len(models) > 1 else [{"name": models[0].stem, **answer}]
    facts = rows[0]["device"]["facts"]
    found: dict[str, Any] = {}
    disturbed: dict[str, list[int]] = {}
    for row in rows:
        runs = [p.run for p in Measurement.from_json(row["measurement"]).processes]
        found[row["name"]] = [list(_spaced(run.samples_ns or ())) for run in runs]
        disturbed[row["name"]] = [n for n, run in enumerate(runs) if run.invalid_reasons]
    machine = f"{facts.get('model') or facts.get('cpu')}, {facts.get('cores')} cores"
    document = {"machine": machine, "models": found, "disturbed": disturbed}
    text = json.dumps(document, separators=(",", ":"))
    out.write_text(text.replace("],[", "],\n[") + "\n", encoding="utf-8")


def _spaced(samples: tuple[int, ...]) -> tuple[int, ...]:
    return samples[:: max(1, len(samples) // _KEPT_RUNS)][:_KEPT_RUNS]
