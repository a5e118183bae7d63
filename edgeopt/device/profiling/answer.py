"""A profile as the agent sent it, each field checked: the events of many runs, nothing judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from edgeopt.device.printable import clean_text
from edgeopt.device.told import plain, told
from edgeopt.errors import DeviceError

__all__ = ["Event", "RawProfile", "Trace", "checked_profile", "refuse", "whole_numbers"]

_MAX_NS = 10**16
_MAX_US = 10**13
_MOST_EVENTS = 1_000_000
_MOST_NUMBERS = 4_000_000  # of all durations; the agent stops at half of it
_KINDS = range(1, 16)
_HINT = "The profile is not used. Try again; if it repeats, look for what else writes there."


@dataclass(frozen=True, kw_only=True)
class Event:
    """`kind` 1 is a part of the runtime, 2 an operator, 4 and 8 one inside a delegate. `index` is
    the operator's in its `subgraph`, or the one inside of the delegate."""

    tag: str
    kind: int
    index: int
    subgraph: int


@dataclass(frozen=True, kw_only=True)
class Trace:
    """All runs that had the same events in the same order.

    `elapsed_us[e][r]` is how long event e took in run r. `start_us` is of the first run, since its
    first event; None where the profiler gives none (inside of a delegate).
    """

    events: tuple[Event, ...]
    start_us: tuple[int | None, ...]
    elapsed_us: tuple[tuple[int, ...], ...]

    @property
    def runs(self) -> int:
        return len(self.elapsed_us[0])


@dataclass(frozen=True, kw_only=True)
class RawProfile:
    """Wall times in nanoseconds: `plain` of the interpreter, `off` and `on` of the compiled model
    with its profiler stopped and started. `same_outputs`: both computed the same bits."""

    runtime: str
    runtime_version: str | None
    kernels: str
    same_outputs: bool
    plain_ns: tuple[int, ...]
    off_ns: tuple[int, ...]
    on_ns: tuple[int, ...]
    traces: tuple[Trace, ...]
    peak_rss_bytes: int | None
    conditions: Mapping[str, Any]
    facts: Mapping[str, Any]


def checked_profile(message: Mapping[str, Any], *, device: str, kernels: str) -> RawProfile:
    """Raises DeviceError naming the first field that is not as asked for."""
    if message.get("kernels") != kernels:
        refuse(device, "kernels", message.get("kernels"))
    if not isinstance(message.get("same_outputs"), bool):
        refuse(device, "same_outputs", message.get("same_outputs"))
    times = {
        key: whole_numbers(device, key, message.get(key), 1, _MAX_NS)
        for key in ("plain_ns", "off_ns", "on_ns")
    }
    found = message.get("traces")
    if not isinstance(found, list) or not 1 <= len(found) <= 1000 or not all(times.values()):
        refuse(device, "traces", found)
    traces = tuple(_trace(device, row) for row in found)
    if sum(trace.runs for trace in traces) != len(times["on_ns"]):
        refuse(device, "traces", f"{len(traces)} of other runs than were timed")
    if sum(trace.runs * len(trace.events) for trace in traces) > _MOST_NUMBERS:
        refuse(device, "traces", "longer than any that was asked for")
    peak = message.get("peak_rss_bytes")
    return RawProfile(
        runtime=clean_text(str(message.get("runtime")), 100),
        runtime_version=clean_text(str(message.get("runtime_version")), 100),
        kernels=kernels,
        same_outputs=message["same_outputs"],
        plain_ns=times["plain_ns"],
        off_ns=times["off_ns"],
        on_ns=times["on_ns"],
        traces=traces,
        peak_rss_bytes=peak if isinstance(peak, int) and 0 < peak < 1 << 50 else None,
        conditions=told(message.get("conditions")),
        facts=_table(message.get("facts")),
    )


def _trace(device: str, row: Any) -> Trace:
    row = row if isinstance(row, dict) else {}
    events, starts, columns = (row.get(key) for key in ("events", "start_us", "elapsed_us"))
    lists = [part for part in (events, starts, columns) if isinstance(part, list)]
    if len(lists) != 3 or len({len(part) for part in lists}) != 1:
        refuse(device, "traces", row)
    if not 1 <= len(lists[0]) <= _MOST_EVENTS:
        refuse(device, "traces", f"{len(lists[0])} events")
    times = tuple(whole_numbers(device, "elapsed_us", column, 0, _MAX_US) for column in lists[2])
    if len({len(column) for column in times}) != 1 or not times[0]:
        refuse(device, "elapsed_us", "of unequal length")
    begun = [value for value in lists[1] if value is not None]
    whole_numbers(device, "start_us", begun, 0, _MAX_US)
    return Trace(
        events=tuple(_event(device, event) for event in lists[0]),
        start_us=tuple(lists[1]),
        elapsed_us=times,
    )


def _event(device: str, row: Any) -> Event:
    if not isinstance(row, list) or len(row) != 4 or not isinstance(row[0], str):
        refuse(device, "events", row)
    kind, index, subgraph = whole_numbers(device, "events", row[1:], 0, 1 << 64)
    if kind not in _KINDS:
        refuse(device, "events", row)
    return Event(tag=clean_text(row[0], 200), kind=kind, index=index, subgraph=subgraph)


def whole_numbers(device: str, key: str, values: Any, low: int, high: int) -> tuple[int, ...]:
    """A list of whole numbers from `low` to `high`. Raises DeviceError for anything else."""
    if not isinstance(values, list) or len(values) > _MOST_NUMBERS:
        refuse(device, key, values)
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            refuse(device, key, value)
    return tuple(values)


def _table(value: Any) -> dict[str, Any]:
    found = plain(value, 6)
    return found if isinstance(found, dict) else {}


def refuse(device: str, key: str, found: Any) -> NoReturn:
    raise DeviceError(
        f"{device} sent back an answer that cannot be used: {key} is"
        f" {clean_text(repr(found)[:200], 60)}.",
        _HINT,
    )
