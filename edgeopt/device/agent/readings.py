"""What the board says about itself. Every value may be None or missing."""

from __future__ import annotations

import glob
import os
import platform
import subprocess
import sys
import time
from typing import Any

SYS_CPU = "/sys/devices/system/cpu"


def read(path: str) -> Any:
    """The text of a small system file, None when it is absent or unreadable."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(65536).strip("\0 \n")
    except (OSError, ValueError):
        return None


def number(path: str) -> Any:
    text = read(path)
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def readings() -> dict[str, Any]:
    """What a fair measurement depends on, now. Every value may be None or missing."""
    cpus = sorted(glob.glob(SYS_CPU + "/cpu[0-9]*"), key=lambda p: int(p[len(SYS_CPU) + 4 :]))
    return {
        "time": time.time(),
        "governor": [read(c + "/cpufreq/scaling_governor") for c in cpus],
        "frequency_khz": [number(c + "/cpufreq/scaling_cur_freq") for c in cpus],
        "max_frequency_khz": [number(c + "/cpufreq/cpuinfo_max_freq") for c in cpus],
        "limit_frequency_khz": [number(c + "/cpufreq/scaling_max_freq") for c in cpus],
        "throttle_count": [number(c + "/thermal_throttle/core_throttle_count") for c in cpus],
        "temperature_c": {k: v / 1000.0 for k, v in kinds("thermal_zone*", "temp").items()},
        "cooling": kinds("cooling_device*", "cur_state"),
        "throttled_bits": throttled_bits(),
        "apex_temperature_millic": max(apex("temp"), default=None),
        "apex_trip_millic": min(apex("trip_point0_temp"), default=None),
        "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def apex(name: str) -> list[int]:
    """An attribute of every PCIe Edge TPU; one that sleeps answers with less than -40 degC."""
    found = [number(path) for path in glob.glob("/sys/class/apex/apex_*/" + name)]
    return [value for value in found if value is not None and value > -40000]


def kinds(pattern: str, value: str) -> dict[str, Any]:
    """`{folder and its type: value}` of thermal zones or cooling devices that answer."""
    found = {}
    for folder in sorted(glob.glob("/sys/class/thermal/" + pattern)):
        state = number(folder + "/" + value)
        if state is not None:
            found[os.path.basename(folder) + " " + (read(folder + "/type") or "")] = state
    return found


def throttled_bits() -> Any:
    """Raspberry Pi: bits 0 to 3 are now, 16 to 19 since boot."""
    try:
        argv = ["vcgencmd", "get_throttled"]
        answer = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5)
        return int(answer.stdout.decode("ascii", "replace").partition("=")[2].strip(), 16)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def facts() -> dict[str, Any]:
    """What only the running Python knows; the rest of the board's facts is read without it."""
    numpy = sys.modules.get("numpy")
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "numpy": getattr(numpy, "__version__", None),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    }


def peak_rss_bytes() -> int:
    for row in (read("/proc/self/status") or "").splitlines():
        if row.startswith("VmHWM:"):
            return int(row.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes
