"""How often the statistics of a measurement are wrong, on noise whose truth is known.

Part of benchmarks/compare.py (--coverage).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edgeopt.measurement import ProcessRun, measure
from edgeopt.measurement.comparison import CONFIDENCE, THRESHOLD
from edgeopt.measurement.comparison import judge as judge_ratio
from edgeopt.measurement.interval import of_one_process, of_processes
from edgeopt.measurement.modes import modes
from edgeopt.measurement.ranks import shift, shift_interval
from edgeopt.measurement.steady import judge

__all__ = ["coverage"]

_MEDIAN_NS = 1e6


def _runs(random: np.random.Generator, count: int, alike: float, spread: float) -> list[int]:
    """An autoregression of first order around the median, in log time."""
    noise = random.standard_normal(count + 300) * np.sqrt(1 - alike**2)
    for i in range(1, len(noise)):
        noise[i] += alike * noise[i - 1]
    return [int(t) for t in np.rint(_MEDIAN_NS * np.exp(spread * noise[300:]))]


def coverage(repeats: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """Rows: what, under what noise, how often."""
    source = np.random.default_rng(seed)
    for alike in (0.0, 0.5, 0.9, 0.97):
        for count in (50, 200, 1000):
            yield _one_process(source, repeats, alike, count)
    for name, draw in _BETWEEN.items():
        yield _processes(source, repeats, name, draw)
        yield _stopped(source, repeats, name, draw)
    yield _whole(source, repeats)
    for name, draw in _BETWEEN.items():
        for slowdown in (0.0, 0.03):
            yield _verdicts(source, repeats, name, draw, slowdown)
    for alike in (0.0, 0.5, 0.9):
        for count in (30, 200, 1000):
            traces = [_runs(source, count, alike, 0.03) for _ in range(repeats)]
            wrong = sum(judge(trace).settled is False for trace in traces)
            yield (
                "steady: false alarms",
                f"flat, alike {alike}, {count} runs",
                _share(wrong, repeats),
            )
    for name, shape in _MOVES.items():
        traces = [
            [round(t * shape(i / 200)) for i, t in enumerate(_runs(source, 200, 0.3, 0.01))]
            for _ in range(repeats)
        ]
        seen = sum(judge(trace).settled is False for trace in traces)
        yield "steady: found", name, _share(seen, repeats)
    for name, one_mode in _SHAPES.items():
        found = sum(bool(modes(one_mode(source))) for _ in range(repeats))
        yield "two modes: false alarms", name, _share(found, repeats)
    for name, two_modes in _TWO.items():
        found = sum(bool(modes(two_modes(source))) for _ in range(repeats))
        yield "two modes: found", name, _share(found, repeats)


def _share(count: int, of: int) -> str:
    return f"{100 * count / of:.1f}%"


def _one_process(
    source: np.random.Generator, repeats: int, alike: float, count: int
) -> tuple[str, str, str]:
    wrong = none = 0
    for _ in range(repeats):
        ends = of_one_process(_runs(source, count, alike, 0.01))
        none += ends is None
        wrong += ends is not None and not ends[0] <= _MEDIAN_NS <= ends[1]
    under = f"alike {alike}, {count} runs"
    return (
        "one process: 95% interval wrong (not given)",
        under,
        (f"{_share(wrong, repeats)} ({_share(none, repeats)})"),
    )


_Draw = Callable[[np.random.Generator, int], "np.ndarray[tuple[int], np.dtype[np.float64]]"]
# The log of a process's median, around a typical process at 0.
_BETWEEN: dict[str, _Draw] = {
    "normal, 0.2%": lambda r, n: 0.002 * r.standard_normal(n),
    "normal, 0.5%": lambda r, n: 0.005 * r.standard_normal(n),
    "normal, 1%": lambda r, n: 0.01 * r.standard_normal(n),
    "Student's t of 3, 0.5%": lambda r, n: 0.005 * r.standard_t(3, n),
    "1 in 10 is 20% slower, normal, 0.3%": lambda r, n: (
        0.003 * r.standard_normal(n) + 0.18 * (r.random(n) < 0.1)
    ),
    "two layouts 2% apart, even": lambda r, n: 0.01 * (2.0 * r.integers(0, 2, n) - 1),
}


def _processes(
    source: np.random.Generator, repeats: int, name: str, draw: _Draw
) -> tuple[str, str, str]:
    wrong = 0
    for _ in range(repeats):
        low, high = of_processes(list(np.exp(draw(source, 5)))) or (0, 0)
        wrong += not low <= 1 <= high
    return "five processes: 95% interval wrong", name, _share(wrong, repeats)


def _stopped(
    source: np.random.Generator, repeats: int, name: str, draw: _Draw
) -> tuple[str, str, str]:
    """Processes are added until the interval is 1% wide, or there are twenty."""
    wrong = 0
    for _ in range(repeats):
        low, high = of_processes(list(_until_narrow(np.exp(draw(source, 20))))) or (0, 0)
        wrong += not low <= 1 <= high
    return "until 1% wide: 95% interval wrong", name, _share(wrong, repeats)


def _verdicts(
    source: np.random.Generator, repeats: int, name: str, draw: _Draw, slowdown: float
) -> tuple[str, str, str]:
    """Two measurements, each with processes until its interval is 1% wide or there are twenty."""
    wanted = ("slower",) if slowdown else ("slower", "faster")
    hits = 0
    for _ in range(repeats):
        sides = [np.log(_until_narrow(np.exp(draw(source, 20)))) for _ in range(2)]
        new = list(sides[1] + np.log1p(slowdown))
        ends = shift_interval(list(sides[0]), new, CONFIDENCE) or (-1.0, 1.0)
        ratio, low, high = (float(np.exp(v)) for v in (shift(list(sides[0]), new), *ends))
        hits += judge_ratio(ratio, (low, high), THRESHOLD) in wanted
    what = "compare: 3% slower is found" if slowdown else "compare: equal builds differ"
    return what, name, _share(hits, repeats)


def _until_narrow(medians: Any) -> Any:
    for count in range(5, len(medians) + 1):
        low, high = of_processes(list(medians[:count])) or (0, 0)
        if high - low <= 0.01 * float(np.median(medians[:count])):
            return medians[:count]
    return medians


_MOVES: dict[str, Callable[[float], float]] = {
    "10% slower in the last fifth": lambda at: 1.1 if at > 0.8 else 1.0,
    "5% slower in the last half": lambda at: 1.05 if at > 0.55 else 1.0,
    "swings by 10%, four times": lambda at: 1.1 if int(at * 8) % 2 else 1.0,
    "drifts by 8%": lambda at: 1 + 0.08 * at,
}
_SHAPES: dict[str, Callable[[np.random.Generator], list[int]]] = {
    "normal, 200 runs": lambda r: _runs(r, 200, 0.0, 0.05),
    "normal, alike 0.5, 1000 runs": lambda r: _runs(r, 1000, 0.5, 0.05),
    "normal, alike 0.9, 1000 runs": lambda r: _runs(r, 1000, 0.9, 0.05),
    "uniform over 20%, 200 runs": lambda r: [int(t) for t in 1e6 * (1 + 0.2 * r.random(200))],
    "exponential tail, 200 runs": lambda r: [
        int(t) for t in 1e6 * (1 + 0.1 * r.exponential(1, 200))
    ],
    "normal, clock of 1 us at 20 us": lambda r: [
        1000 * max(1, round(t)) for t in 20 * (1 + 0.03 * r.standard_normal(300))
    ],
}
_TWO: dict[str, Callable[[np.random.Generator], list[int]]] = {
    "half 10% slower, noise 2%, 200 runs": lambda r: _mixed(r, 200, 0.5, 1.10),
    "a fifth 20% slower, noise 2%, 200 runs": lambda r: _mixed(r, 200, 0.2, 1.20),
}


def _mixed(source: np.random.Generator, count: int, share: float, factor: float) -> list[int]:
    slow = np.where(source.random(count) < share, factor, 1.0)
    return [int(t) for t in 1e6 * slow * (1 + 0.02 * source.standard_normal(count))]


def _whole(source: np.random.Generator, repeats: int) -> tuple[str, str, str]:
    """Runs and processes vary, and all goes the way of a measurement."""
    wrong = 0
    for _ in range(repeats):
        levels = np.exp(0.003 * source.standard_normal(5))
        processes = [
            ProcessRun(samples_ns=tuple(round(t * at) for t in _runs(source, 120, 0.5, 0.02)))
            for at in levels
        ]
        ends = measure(processes=processes).stats.ci95_ns
        wrong += ends is None or not ends[0] <= _MEDIAN_NS <= ends[1]
    under = "processes 0.3%, runs 2% alike 0.5"
    return "a whole measurement: 95% interval wrong", under, _share(wrong, repeats)
