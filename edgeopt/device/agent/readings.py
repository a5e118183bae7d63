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
PI_BITS = "/sys/devices/platform/soc/soc:firmware/get_throttled"  # Raspberry Pi's own kernel
BATTERY = ("type", "online", "status", "capacity")


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


def cpu_folders() -> list[str]:
    found = glob.glob(SYS_CPU + "/cpu[0-9]*")
    return sorted(found, key=lambda p: int(p[len(SYS_CPU) + 4 :]))


def readings() -> dict[str, Any]:
    """What a fair measurement depends on, now. Every value may be None or missing."""
    cpus = cpu_folders()
    found = quick_readings(cpus)
    bits = found.pop("throttled_bits", None)
    found.update(
        {
            "max_frequency_khz": [number(c + "/cpufreq/cpuinfo_max_freq") for c in cpus],
            "throttled_bits": vcgencmd() if bits is None else bits,
            "passive_trip_c": passive_trips(),
            "apex_trip_millic": min(apex("trip_point0_temp"), default=None),
            "load_1min": load_1min(),
            "memory_available_kb": meminfo("MemAvailable"),
            "swap_free_kb": meminfo("SwapFree"),
        }
    )
    return found


def quick_readings(cpus: list[str]) -> dict[str, Any]:
    """The part that a few small files tell: also between runs. `cpus` are folders of SYS_CPU."""
    return {
        "time": time.time(),
        "monotonic": time.monotonic(),
        "governor": [read(c + "/cpufreq/scaling_governor") for c in cpus],
        "frequency_khz": [number(c + "/cpufreq/scaling_cur_freq") for c in cpus],
        "limit_frequency_khz": [number(c + "/cpufreq/scaling_max_freq") for c in cpus],
        "throttle_count": [number(c + "/thermal_throttle/core_throttle_count") for c in cpus],
        "temperature_c": {k: v / 1000.0 for k, v in kinds("thermal_zone*", "temp").items()},
        "cooling": kinds("cooling_device*", "cur_state"),
        "throttled_bits": firmware_bits(),
        "undervoltage": max(hwmon("rpi_volt", "in0_lcrit_alarm"), default=None),
        "apex_temperature_millic": max(apex("temp"), default=None),
        "power_supply": power_supply(),
    }


def apex(name: str) -> list[int]:
    """An attribute of every PCIe Edge TPU; one that sleeps answers with less than -40 degC."""
    found = [number(path) for path in glob.glob("/sys/class/apex/apex_*/" + name)]
    return [value for value in found if value is not None and value > -40000]


def hwmon(kind: str, name: str) -> list[int]:
    folders = [os.path.dirname(p) for p in glob.glob("/sys/class/hwmon/hwmon*/" + name)]
    found = [number(f + "/" + name) for f in folders if read(f + "/name") == kind]
    return [value for value in found if value is not None]


def kinds(pattern: str, value: str) -> dict[str, Any]:
    """`{folder and its type: value}` of thermal zones or cooling devices that answer."""
    found = {}
    for folder in sorted(glob.glob("/sys/class/thermal/" + pattern)):
        state = number(folder + "/" + value)
        if state is not None:
            found[os.path.basename(folder) + " " + (read(folder + "/type") or "")] = state
    return found


def passive_trips() -> dict[str, float]:
    """`{zone and its type: degC}`: from where on the kernel slows something down to cool it."""
    found = {}
    for folder in sorted(glob.glob("/sys/class/thermal/thermal_zone*")):
        kinds_of = glob.glob(folder + "/trip_point_*_type")
        trips = [number(p[: -len("type")] + "temp") for p in kinds_of if read(p) == "passive"]
        known = [trip for trip in trips if trip is not None]
        if known:
            found[os.path.basename(folder) + " " + (read(folder + "/type") or "")] = (
                min(known) / 1000.0
            )
    return found


def power_supply() -> dict[str, Any]:
    """`{name: {type, online, status, capacity}}` of batteries and mains; what answers."""
    found = {}
    for folder in sorted(glob.glob("/sys/class/power_supply/*")):
        said = {name: read(folder + "/" + name) for name in BATTERY}
        found[os.path.basename(folder)] = {k: v for k, v in said.items() if v is not None}
    return found


def firmware_bits() -> Any:
    """Raspberry Pi: bits 0 to 3 are now, 16 to 19 since boot. Hexadecimal without 0x."""
    try:
        return int(read(PI_BITS) or "", 16)
    except ValueError:
        return None


def vcgencmd() -> Any:
    """The same bits, from the program of Raspberry Pi OS."""
    try:
        argv = ["vcgencmd", "get_throttled"]
        answer = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5)
        return int(answer.stdout.decode("ascii", "replace").partition("=")[2].strip(), 16)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def load_1min() -> Any:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # not a Unix, or one that hides it
        return None


def meminfo(key: str) -> Any:
    """A row of /proc/meminfo, in kB."""
    for row in (read("/proc/meminfo") or "").splitlines():
        words = row.split()
        if words and words[0] == key + ":" and words[1].isdigit():
            return int(words[1])
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
