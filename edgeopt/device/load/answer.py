"""A load as the agent sent it, each field checked: when each request began and how long it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeopt.device.printable import clean_text
from edgeopt.device.profiling.answer import refuse, whole_numbers
from edgeopt.device.told import plain, told
from edgeopt.load import Load

__all__ = ["Phase", "RawLoad", "checked_load"]

_MAX_NS = 10**16
_MAX_BYTES = 1 << 50


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Nanoseconds since the phase began. `threads` holds (start, latency) of each request of each
    thread, in order; a start may lie before the thread was free, in an open loop. `offered` is how
    many requests were drawn, None in a closed loop. `usage`: see agent/watch.py."""

    name: str
    wall_ns: int
    cpu_ns: int
    cores: int | None
    offered: int | None
    threads: tuple[tuple[tuple[int, int], ...], ...]
    usage: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RawLoad:
    """`memory_bytes` is what the process used before the first interpreter and after each."""

    runtime: str
    runtime_version: str | None
    phases: tuple[Phase, ...]
    memory_bytes: tuple[int, ...] | None
    peak_rss_bytes: int | None
    conditions: Mapping[str, Any]
    facts: Mapping[str, Any]


def checked_load(message: Mapping[str, Any], *, device: str, load: Load) -> RawLoad:
    """Raises DeviceError naming the first field that is not as asked for."""
    found = message.get("phases")
    names = ["load"] if load.concurrency == 1 and not load.rate else ["alone", "load", "alone"]
    if not isinstance(found, list) or len(found) != len(names):
        refuse(device, "phases", found)
    phases = []
    for name, row in zip(names, found, strict=True):
        threads = load.concurrency if name == "load" else 1
        rate = load.rate if name == "load" else 0.0
        phases.append(_phase(device, row, name, threads, rate))
    memory = message.get("memory")
    memory = memory if isinstance(memory, dict) else {}
    return RawLoad(
        runtime=clean_text(str(message.get("runtime")), 100),
        runtime_version=clean_text(str(message.get("runtime_version")), 100),
        phases=tuple(phases),
        memory_bytes=_memory(device, memory, load.concurrency),
        peak_rss_bytes=_size(memory.get("peak_rss_bytes")),
        conditions=told(message.get("conditions")),
        facts=_table(message.get("facts")),
    )


def _phase(device: str, row: Any, name: str, threads: int, rate: float) -> Phase:
    row = row if isinstance(row, dict) else {}
    if row.get("name") != name:
        refuse(device, "phases", row.get("name"))
    wall, cpu = whole_numbers(
        device, "wall_ns", [row.get("wall_ns"), row.get("cpu_ns")], 0, _MAX_NS
    )
    users = row.get("threads")
    if not isinstance(users, list) or len(users) != threads:
        refuse(device, "threads", users)
    times = tuple(_user(device, user, wall) for user in users)
    count = sum(map(len, times))
    offered = row.get("offered") if rate else None
    if rate and (not isinstance(offered, int) or isinstance(offered, bool) or offered != count):
        refuse(device, "offered", offered)
    if not rate and not all(times):
        refuse(device, "threads", "without a request")
    cores = row.get("cores")
    return Phase(
        name=name,
        wall_ns=max(1, wall),
        cpu_ns=cpu,
        cores=cores if isinstance(cores, int) and 0 < cores < 1 << 20 else None,
        offered=offered,
        threads=times,
        usage=_table(row.get("usage")),
    )


def _user(device: str, user: Any, wall: int) -> tuple[tuple[int, int], ...]:
    user = user if isinstance(user, dict) else {}
    starts = whole_numbers(device, "start_ns", user.get("start_ns"), 0, wall)
    took = whole_numbers(device, "latency_ns", user.get("latency_ns"), 1, wall)
    if len(starts) != len(took):
        refuse(device, "latency_ns", f"{len(took)} for {len(starts)} requests")
    return tuple(zip(starts, took, strict=True))


def _memory(device: str, memory: Mapping[str, Any], count: int) -> tuple[int, ...] | None:
    after = memory.get("after")
    values = [memory.get("base"), *(after if isinstance(after, list) else [])]
    if None in values:  # a system that does not say
        return None
    found = whole_numbers(device, "memory", values, 1, _MAX_BYTES)
    return found if len(found) == count + 1 else None


def _size(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 < value < _MAX_BYTES else None


def _table(value: Any) -> dict[str, Any]:
    found = plain(value, 6)
    return found if isinstance(found, dict) else {}
