"""What benchmark_model printed, as values: durations in nanoseconds, memory in bytes. Pure.

It prints microseconds, sometimes in exponent form, with or without a level before each line, and
one `count=` line each for the warm-up and the measured runs, but no single run. Its statistics are
tensorflow/core/util/stats_calculator.h, with the deviation of the population (divided by n).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgeopt.device.printable import clean_text
from edgeopt.errors import DeviceError

__all__ = ["BenchmarkOutput", "parse_output"]

_NUMBER = r"[-+]?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][-+]?[0-9]{1,3})?"
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: ({_NUMBER}), First inference: ({_NUMBER}),"
    rf" Warmup \(avg\): ({_NUMBER}), Inference \(avg\): ({_NUMBER})$"
)
_COUNT = re.compile(r"count=[0-9]{1,12}(?: |$|\b)")
_PAIR = re.compile(rf"([a-z0-9]{{1,8}})=({_NUMBER})")
_PEAK = re.compile(rf"Overall peak memory footprint \(MB\)[^:]{{0,60}}: ({_NUMBER})$")
_UNCONSUMED = re.compile(r"Unconsumed cmdline flags: (.*)$")
_LEVEL = re.compile(r"^(?:(?:INFO|WARN|WARNING|ERROR|VERBOSE): ?)?")
_LINE_CHARS = 4096
_LONGEST_US = 1e12  # eleven days: beyond it a line is garbage
_LARGEST_MB = 1e7
# What its six printed digits may differ by.
_PRINTED = 1e-4
_NAMES = {"avg": "mean", "curr": "last", "std": "stdev"}
_KEPT = ("count", "mean", "min", "max", "stdev", "first", "last", "median", "p5", "p95")


@dataclass(frozen=True, kw_only=True)
class BenchmarkOutput:
    """`measured_ns` has "mean" and what else its `count=` line had. None is "not printed"."""

    init_ns: int
    first_ns: int | None
    warmup_mean_ns: int | None
    measured_ns: Mapping[str, float]
    peak_bytes: int | None
    unconsumed_flags: tuple[str, ...]


def parse_output(log: str) -> BenchmarkOutput:
    """Raises DeviceError when there is no complete, consistent result in `log`."""
    lines = [_bare(line) for line in log.splitlines() if len(line) <= _LINE_CHARS]
    ends = [(n, found) for n, line in enumerate(lines) if (found := _TIMINGS.search(line))]
    if len(ends) != 1:
        seen = "no result line" if not ends else f"{len(ends)} result lines where one is expected"
        raise _unreadable(f"its output holds {seen}", lines)
    position, end = ends[0]
    init, first, warmup, mean = (_duration(text, lines) for text in end.groups())
    if mean <= 0:
        raise _unreadable("it reports an inference time of 0", lines)
    measured = _measured(lines[:position], mean)
    return BenchmarkOutput(
        init_ns=_ns(init),
        # 0 is how it says "there was no warm-up": the first run is then the first measured one.
        first_ns=_ns(first) if first > 0 else _whole(measured.get("first")),
        warmup_mean_ns=_ns(warmup) if warmup > 0 else None,
        measured_ns=MappingProxyType(measured),
        peak_bytes=_peak(lines),
        unconsumed_flags=_unconsumed(lines),
    )


def _bare(line: str) -> str:
    return _LEVEL.sub("", clean_text(line, _LINE_CHARS).strip())


def _measured(lines: list[str], mean_us: float) -> dict[str, float]:
    """The statistics of the measured runs: the last `count=` line, when its mean is the result's.

    After a cut or garbled log that last line may be the warm-up's; then only the mean is sure.
    """
    rows = [row for line in lines if _COUNT.match(line) and (row := _row(line))]
    for row in rows[-1:]:
        if abs(row["mean"] - mean_us) <= _PRINTED * mean_us:
            return {k: v if k == "count" else round(v * 1000, 3) for k, v in row.items()}
    return {"mean": round(mean_us * 1000, 3)}


def _row(line: str) -> dict[str, float] | None:
    """One `count=` line in microseconds; None when it is empty or contradicts itself."""
    pairs = {_NAMES.get(key, key): float(value) for key, value in _PAIR.findall(line)}
    row = {key: value for key, value in pairs.items() if key in _KEPT}
    if "last" in row and "mean" not in row:  # a single run, or `(all same)`
        row |= dict.fromkeys(("mean", "min", "max", "first"), row["last"]) | {"stdev": 0.0}
    if row.get("count", 0) < 1 or "mean" not in row:
        return None
    times = [value for key, value in row.items() if key not in ("count", "stdev")]
    if not all(0 < value <= _LONGEST_US for value in times):
        return None
    slack = _PRINTED * row["mean"]
    low, high = row.get("min", row["mean"]), row.get("max", row["mean"])
    inside = low - slack <= row["mean"] <= high + slack
    return row if inside and 0 <= row.get("stdev", 0) <= _LONGEST_US else None


def _duration(text: str, lines: list[str]) -> float:
    value = float(text)
    if not 0 <= value <= _LONGEST_US:
        raise _unreadable(f"it reports a duration of {text} us", lines)
    return value


def _peak(lines: list[str]) -> int | None:
    """Bytes; its MB are 1024 * 1024. A negative number is how it says "not supported"."""
    for line in reversed(lines):
        if found := _PEAK.search(line):
            megabytes = float(found[1])
            return round(megabytes * 2**20) if 0 < megabytes <= _LARGEST_MB else None
    return None


def _unconsumed(lines: list[str]) -> tuple[str, ...]:
    words = [w for line in lines if (f := _UNCONSUMED.search(line)) for w in f[1].split()]
    return tuple(word.lstrip("-").partition("=")[0] for word in words[:100])


def _ns(microseconds: float) -> int:
    return round(microseconds * 1000)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _unreadable(what: str, lines: list[str]) -> DeviceError:
    last = "; ".join([line for line in lines if line][-3:])[-300:]
    return DeviceError(
        f"benchmark_model gave no usable result: {what}"
        + (f" (last lines: {last})." if last else " (it printed nothing)."),
        "Give another benchmark_model with --benchmark-binary, or try again.",
    )
