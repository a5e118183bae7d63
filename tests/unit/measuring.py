"""Processes of seeded noise, for the tests of measurements."""

from __future__ import annotations

import math
import random
from typing import Any

from edgeopt.measurement import Measurement, ProcessRun, measure

SUMMARY = {"count": 10, "mean": 105163000.0, "min": 84396000.0, "max": 136035000.0, "stdev": 1.6e7}


def noisy(
    centre_ns: float, count: int, seed: int, spread: float = 0.01, alike: float = 0.0
) -> list[int]:
    """Run times with a relative spread; `alike` is their correlation of first order."""
    source, last, times = random.Random(seed), 0.0, []
    for _ in range(count):
        last = alike * last + math.sqrt(1 - alike**2) * source.gauss(0, 1)
        times.append(max(1, round(centre_ns * (1 + spread * last))))
    return times


def process(centre_ns: float = 1e6, seed: int = 0, runs: int = 60, **others: Any) -> ProcessRun:
    values: dict[str, Any] = {"samples_ns": noisy(centre_ns, runs, seed, 0.005)}
    return ProcessRun(**{**values, **others})


def several(
    centre_ns: float, seed: int, processes: int = 5, between: float = 0.002, **others: Any
) -> Measurement:
    """Processes that differ by a relative deviation of `between`."""
    source = random.Random(seed)
    return measure(
        processes=[
            process(centre_ns * math.exp(source.gauss(0, between)), seed * 1000 + number)
            for number in range(processes)
        ],
        **others,
    )
