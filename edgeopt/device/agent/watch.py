"""What happens on the board while it is timed: read between runs, never inside one.

`begin` and `end` bracket the timed section: what the program itself used and waited for, and what
the rest of the machine did meanwhile, from counters of the kernel. In between, at most twice a
second, the clocks, temperatures and throttle flags. Everything may be absent.
"""

from __future__ import annotations

import glob
import os
import time
from typing import Any

from .readings import SYS_CPU, cpu_folders, quick_readings, read

INTERVAL_S = 0.5
SHARE = 0.01  # of the time, at most, goes into readings: some boards take milliseconds for a file
MAX_CORES = 8  # whose clocks are read between runs
MAX_KEPT = 128  # then every other one is dropped and the interval doubled


class Watch:
    """`begin()`, `between()` after each run, `end()`: the answer's `conditions["during"]`."""

    def __init__(self) -> None:
        usable = usable_cores()
        all_cpus = cpu_folders()
        chosen = [c for c in all_cpus if usable is None or core_number(c) in usable]
        self.cpus = chosen[:MAX_CORES]
        self.cores = with_siblings(usable)
        self.interval = INTERVAL_S
        self.due = float("inf")
        self.kept: list[dict[str, Any]] = []
        self.at_begin: dict[str, Any] = {}

    def begin(self) -> None:
        self.at_begin = usage(self.cores)
        self.due = time.monotonic() + INTERVAL_S

    def between(self) -> None:
        if time.monotonic() >= self.due:
            self.look()

    def look(self) -> None:
        start = time.monotonic()
        found = quick_readings(self.cpus)
        found["core"] = current_core()
        self.kept.append(found)
        if len(self.kept) >= MAX_KEPT:
            del self.kept[1::2]
            self.interval *= 2
        end = time.monotonic()
        self.due = end + max(self.interval, (end - start) / SHARE)

    def end(self) -> dict[str, Any]:
        """Also one last look, so that a short run has one too."""
        after = usage(self.cores)
        if self.at_begin:
            self.look()
        return {
            "cores": [core_number(c) for c in self.cpus],
            "readings": self.kept,
            "usage": difference(self.at_begin, after) if self.at_begin else {},
        }


def core_number(folder: str) -> int:
    return int(folder[len(SYS_CPU) + 4 :])


def usable_cores() -> Any:
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def with_siblings(cores: Any) -> Any:
    """The cores, and those that are other halves of the same: they share its units and caches."""
    found = set(cores or ())
    for core in sorted(found):
        text = read("{}/cpu{}/topology/thread_siblings_list".format(SYS_CPU, core))
        found |= set(numbers_in(text or ""))
    return found


def numbers_in(text: str) -> list[int]:
    """A kernel list such as 0-3,8: at most 4096 numbers."""
    found: list[int] = []
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        if low.isdigit() and (not high or high.isdigit()):
            found += range(int(low), min(int(high or low), int(low) + 4096) + 1)
    return found[:4096]


def current_core() -> Any:
    """Field 39 of proc(5)'s stat, counted behind the name, which may hold anything."""
    words = (read("/proc/self/stat") or "").rpartition(")")[2].split()
    return int(words[36]) if len(words) > 36 and words[36].isdigit() else None


def usage(cores: Any) -> dict[str, Any]:
    """Counters since the boot or the process's start: seconds, pages, switches."""
    found: dict[str, Any] = {"wall_s": time.monotonic(), "own_cpu_s": own_cpu_s()}
    for part in (of_machine(cores), of_threads(), of_faults(), of_pressure(), of_quota()):
        found.update(part)
    return found


def own_cpu_s() -> float:
    """Of all our threads, and of children that ended (vcgencmd)."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def of_machine(cores: Any) -> dict[str, Any]:
    """What the cores that we may use were busy with (proc(5), /proc/stat; in clock ticks)."""
    if not hasattr(os, "sysconf"):
        return {}
    tick, busy, steal, seen = os.sysconf("SC_CLK_TCK"), 0, 0, 0
    for row in (read("/proc/stat") or "").splitlines():
        name, *words = row.split()
        if not (name.startswith("cpu") and name[3:].isdigit() and len(words) >= 8):
            continue
        if cores and int(name[3:]) not in cores:
            continue
        user, nice, system, _, _, irq, softirq, stolen = map(int, words[:8])
        busy += user + nice + system + irq + softirq
        steal += stolen
        seen += 1
    return {"busy_s": busy / tick, "steal_s": steal / tick, "seen_cores": seen} if seen else {}


def of_threads() -> dict[str, Any]:
    """Waited for a core, and was put off one, all threads (Linux's sched-stats; proc(5))."""
    waited, switches, known = 0, [0, 0], False
    for folder in glob.glob("/proc/self/task/*"):
        words = (read(folder + "/schedstat") or "").split()
        if len(words) == 3:
            waited, known = waited + int(words[1]), True
        for row in (read(folder + "/status") or "").splitlines():
            if row.startswith("voluntary_ctxt_switches:"):
                switches[0] += int(row.split()[1])
            elif row.startswith("nonvoluntary_ctxt_switches:"):
                switches[1] += int(row.split()[1])
    if not known:
        return {}
    return {
        "waited_s": waited / 1e9,
        "voluntary_switches": switches[0],
        "involuntary_switches": switches[1],
    }


def of_faults() -> dict[str, Any]:
    """Pages that had to come from storage: ours, and the swap's of the whole machine."""
    found: dict[str, Any] = {}
    words = (read("/proc/self/stat") or "").rpartition(")")[2].split()
    if len(words) > 10 and words[9].isdigit():
        found["major_faults"] = int(words[9])
    for row in (read("/proc/vmstat") or "").splitlines():
        if row.startswith("pswpin "):
            found["swapped_in_pages"] = int(row.split()[1])
    return found


def of_pressure() -> dict[str, Any]:
    """Time in which some task waited for it (pressure stall information; microseconds)."""
    found = {}
    for what in ("cpu", "memory", "io"):
        first = (read("/proc/pressure/" + what) or "").partition("\n")[0]
        total = first.rpartition("total=")[2]
        if total.isdigit():
            found["pressure_{}_s".format(what)] = int(total) / 1e6
    return found


def of_quota() -> dict[str, Any]:
    """How long a container's CPU quota held us back (cgroup v2 in us, v1 in ns)."""
    for row in (read("/proc/self/cgroup") or "").splitlines():
        _, kinds, path = (row.split(":", 2) + ["", ""])[:3]
        if kinds and "cpu" not in kinds.split(","):
            continue
        base = "/sys/fs/cgroup" + ("/cpu" if kinds else "")
        for line in (read(base + path.rstrip("/") + "/cpu.stat") or "").splitlines():
            name, _, value = line.partition(" ")
            if value.isdigit() and name in ("throttled_usec", "throttled_time"):
                return {"quota_s": int(value) / (1e6 if name == "throttled_usec" else 1e9)}
    return {}


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What was added between two; `others_cpu_s` is what is left of the machine's without ours.

    A thread that ended takes its counters along: nothing is ever counted below zero.
    """
    found = {k: max(0, after[k] - v) for k, v in before.items() if k in after and k != "seen_cores"}
    if "busy_s" in found:
        found["seen_cores"] = after["seen_cores"]
        found["others_cpu_s"] = max(0.0, found["busy_s"] - found["own_cpu_s"])
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in found.items()}
