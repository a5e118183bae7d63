"""What the board was like while it was measured, what was set for that, and what was repeated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeopt.report.printable import plain
from edgeopt.report.units import duration_text

if TYPE_CHECKING:
    from rich.table import Table

    from edgeopt.measurement import Measurement
    from edgeopt.report.report import Report

__all__ = ["add_conditions", "conditions_text", "preparation_text"]


def add_conditions(grid: Table, report: Report) -> None:
    """The rows `conditions`, `prepared` and `tries`, as far as there is something to say."""
    if report.measurement and (text := conditions_text(report.measurement)):
        grid.add_row("conditions", plain(text))
    if report.preparation:
        grid.add_row("prepared", plain(preparation_text(report.preparation)))
    if report.tries:
        grid.add_row("tries", "\n".join(plain(line) for line in _tries(report.tries)))


def conditions_text(measured: Measurement) -> str:
    """Governor, clock, temperature and what the machine did beside, over the pooled processes;
    empty where the board tells nothing."""
    runs = [process.run.conditions for process in measured.pooled]
    rows = [row for run in runs for row in _readings(run)]
    parts = [_governor(rows), _clock(rows), _heat(rows), *_usage(runs)]
    return ", ".join(part for part in parts if part)


def preparation_text(done: Mapping[str, Any]) -> str:
    """What --prepare did: `pinned to core 3 (of the highest capacity), governor ...`."""
    parts, cores, before = [], done.get("cores"), done.get("governor_before") or {}
    if cores:
        many = "cores" if len(cores) > 1 else "core"
        parts.append(f"pinned to {many} {', '.join(map(str, cores))} ({done['cores_why']})")
    if before:
        was = "/".join(sorted({str(value) for value in before.values()}))
        back = {True: "put back", False: "NOT put back", None: "still set"}[done["restored"]]
        parts.append(f"governor {done['governor']} on {len(before)} cores (was {was}; {back})")
    elif done.get("governor"):
        parts.append(f"governor {done['governor']} already")
    return ", ".join(parts) or "nothing could be set"


def _tries(tries: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    for number, found in enumerate(tries, 1):
        text = f"{number}: median {duration_text(found['median_ns'])}"
        # The first says how many; which and why is in the row `valid`, and of all tries in JSON.
        text += ", valid" if found["valid"] else f", invalid: {found['invalid_reasons'][0]}"
        if cool := found.get("cool_down"):
            how = {True: "cooled", False: "still warm", None: "its temperature is unknown"}
            text += f" (then waited {cool['waited_s']:.0f} s: {how[cool['cooled']]})"
        yield text


def _readings(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = [run.get(when) for when in ("before", "during", "after")]
    return [row for row in found if isinstance(row, Mapping)]


def _governor(rows: Sequence[Mapping[str, Any]]) -> str:
    found = {str(g) for row in rows for g in row.get("governor") or () if g}
    return f"governor {'/'.join(sorted(found))}" if found else ""


def _clock(rows: Sequence[Mapping[str, Any]]) -> str:
    """Of the fastest core in each reading: others may be parked at any frequency."""
    fastest = [max(known) for row in rows if (known := _numbers(row.get("frequency_khz")))]
    if not fastest:
        return ""
    low, high = min(fastest) / 1e6, max(fastest) / 1e6
    return f"{high:.3g} GHz" if high - low < 0.005 * high else f"{low:.3g} to {high:.3g} GHz"


def _heat(rows: Sequence[Mapping[str, Any]]) -> str:
    """The hottest zone in each reading."""
    hottest = [
        max(known)
        for row in rows
        if isinstance(zones := row.get("temperature_c"), Mapping)
        if (known := [n for value in zones.values() for n in _numbers(_listed(value))])
    ]
    apex = [n / 1000 for row in rows for n in _numbers(_listed(row.get("apex_temperature_millic")))]
    parts = [
        f"{name}{min(found):.0f} to {max(found):.0f} degC"
        for name, found in (("", hottest), ("Edge TPU ", apex))
        if found
    ]
    return ", ".join(parts)


def _usage(runs: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """What others used of the machine, and how long the run waited for a core."""
    used = [
        during["usage"]
        for run in runs
        if isinstance(during := run.get("during"), Mapping) and during.get("usage")
    ]
    wall, others = _sum(used, "wall_s"), _sum(used, "others_cpu_s")
    if wall and others is not None:
        seen = {int(n) for n in _numbers([u.get("seen_cores") for u in used])}
        of = f" of {seen.pop()}" if len(seen) == 1 else ""
        yield f"others used {others / wall:.2g}{of} cores"
    own, waited = _sum(used, "own_cpu_s"), _sum(used, "waited_s")
    if own and waited is not None:
        yield f"waited {100 * waited / (own + waited):.2g}% of its time"


def _sum(used: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [u[key] for u in used if isinstance(u.get(key), (int, float))]
    return float(sum(values)) if values else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _numbers(value: Any) -> list[float]:
    return [v for v in value or () if isinstance(v, (int, float))]
