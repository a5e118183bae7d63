"""Did the run have its cores to itself? Judged by the kernel's counters, not by the times.

The limits come from a quiet 2-core cloud VM (a minute of runs of 45 to 65 us, November 2026):

- kept waiting for a core: at most 0.2% of its own time with one thread, 1 to 4% with as many
  threads as cores; one busy neighbour on the same core makes it 50%, or 33% of two threads on two
  cores, 20% of four on four.
- others' use of the cores: 0.004 to 0.11 of one core; a busy neighbour is 1.0.
- steal: at most 0.3% of one core.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["shared_cores", "tells_of_others"]

_WAITED, _LEAST_WAITED_S = 0.08, 0.02
_OTHERS_CORES, _OTHERS_SHARE, _LEAST_OTHERS_S = 0.25, 0.10, 0.1  # 0.1 s: ten ticks of the counter
_STOLEN, _LEAST_STOLEN_S = 0.02, 0.05
_QUOTA = 0.01
_MEMORY = 0.01  # of the time some task waited for memory
_SWAPPED_PAGES = 16  # a page takes 0.1 to 10 ms from a memory card
_SHORT_S = 0.2  # twenty ticks: less says nothing about others


def shared_cores(usage: Mapping[str, Any]) -> Iterator[str]:
    """Reasons from `usage` (agent/watch.py), all in seconds within the timed section."""
    wall, own = _number(usage, "wall_s"), _number(usage, "own_cpu_s")
    if not wall or own is None:
        return
    yield from _shared(usage, wall, own)
    stolen = _number(usage, "steal_s") or 0.0
    if stolen >= _LEAST_STOLEN_S and stolen > _STOLEN * (own + stolen):
        yield f"the host of this virtual machine took {_percent(stolen, own + stolen)} of its time"
    held = _number(usage, "quota_s") or 0.0
    if held > _QUOTA * wall:
        yield f"the container's CPU quota held it back for {_percent(held, wall)} of the time"
    yield from _memory(usage, wall)


def tells_of_others(usage: Mapping[str, Any]) -> bool:
    """Could `shared_cores` have seen others at work? Not in a run of a few ticks."""
    known = _number(usage, "own_cpu_s") is not None and _number(usage, "others_cpu_s") is not None
    return known and (_number(usage, "wall_s") or 0.0) >= _SHORT_S


def _shared(usage: Mapping[str, Any], wall: float, own: float) -> Iterator[str]:
    """One reason, though a busy neighbour mostly shows in both counters."""
    waited, found = _number(usage, "waited_s") or 0.0, []
    if waited >= _LEAST_WAITED_S and waited > _WAITED * (own + waited):
        share = _percent(waited, own + waited)
        found.append(f"its threads waited {share} of their time for one (limit {_WAITED:.0%})")
    others, cores = _number(usage, "others_cpu_s") or 0.0, _number(usage, "seen_cores") or 1
    limit = max(_OTHERS_CORES, _OTHERS_SHARE * cores)
    if wall >= _SHORT_S and others >= _LEAST_OTHERS_S and others > limit * wall:
        used = f"{others / wall:.2g} of its {cores:.0f}"
        found.append(f"other processes used {used} (limit {limit:.2g})")
    if found:
        yield f"it shared its cores: {' and '.join(found)}"


def _memory(usage: Mapping[str, Any], wall: float) -> Iterator[str]:
    pages, swapped = _number(usage, "major_faults") or 0, _number(usage, "swapped_in_pages") or 0
    if min(pages, swapped) >= _SWAPPED_PAGES:
        yield f"it was swapped out: {pages:.0f} of its pages had to come back from storage"
    stalled = _number(usage, "pressure_memory_s") or 0.0
    if stalled > _MEMORY * wall:
        yield f"memory was short: tasks waited for it during {_percent(stalled, wall)} of the time"


def _number(usage: Mapping[str, Any], key: str) -> float | None:
    value = usage.get(key)
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
    return value if good else None


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f}%"
