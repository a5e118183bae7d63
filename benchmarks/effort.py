"""What the default effort costs and reaches, on models of several speeds.

Each model is benchmarked in turn, `--rounds` times; a row is the median over its rounds. `spread`
is how far the rounds' medians lie apart (largest over smallest): what an interval as wide as
`reached` promises to hold. Run it where nothing else runs: disturbed processes count too.

    .venv/bin/python benchmarks/effort.py [MODEL.tflite ...] [--device DEVICE] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeopt import pipeline
from edgeopt.effort import Effort
from edgeopt.job import Job
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent
from edgeopt.store import Store

COLUMNS = (
    "model",
    "median us",
    "spread",
    "seconds",
    "runs",
    "processes",
    "disturbed",
    "reached %",
    "met",
)


def one(job: Job, store: Store) -> dict[str, Any]:
    """The figures of one benchmark; disturbed processes are counted."""
    began = time.monotonic()
    report = pipeline.benchmark(job, store, Silent())
    measured = report.measurement
    assert measured is not None
    return {
        "median us": (measured.stats.median_ns or 0) / 1e3,
        "seconds": time.monotonic() - began,
        "runs": measured.runs,
        "processes": len(measured.pooled),
        "disturbed": sum(not process.valid for process in measured.processes),
        "reached %": 100 * (measured.reached or float("nan")),
        "met": float(bool(measured.details["precision"]["met"])),
    }


def row(model: Path, rounds: list[dict[str, Any]]) -> list[str]:
    medians = [found["median us"] for found in rounds]
    middle = {key: statistics.median(found[key] for found in rounds) for key in rounds[0]}
    met = sum(found["met"] for found in rounds)
    return [
        model.stem, f"{middle['median us']:.1f}", f"{max(medians) / min(medians):.4f}",
        f"{middle['seconds']:.1f}", f"{middle['runs']:.0f}", f"{middle['processes']:.0f}",
        f"{middle['disturbed']:.0f}", f"{middle['reached %']:.2f}", f"{met:.0f} of {len(rounds)}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--device", default="local")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-time", type=float, default=30.0)
    arguments = parser.parse_args()
    models = arguments.models or [demo_dir() / "fashion.tflite"]
    # Reported and not judged: on a shared machine there are figures too.
    effort = Effort(max_time_s=arguments.max_time)
    job = Job(model=models[0], device=arguments.device, effort=effort, conditions="report")
    found: dict[Path, list[dict[str, Any]]] = {model: [] for model in models}
    for number in range(arguments.rounds):
        for model in models:
            found[model].append(one(replace(job, model=model), Store()))
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
    rows = [list(COLUMNS), *(row(model, rounds) for model, rounds in found.items())]
    widths = [max(len(cells[place]) for cells in rows) for place in range(len(COLUMNS))]
    for cells in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)))


if __name__ == "__main__":
    main()
