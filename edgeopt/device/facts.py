"""What a board says about itself, read with one shell script (Android has no Python)."""

from __future__ import annotations

from typing import Any

from edgeopt.device.printable import clean_text
from edgeopt.device.transport import Transport

__all__ = ["parse_facts", "read_facts"]

_TIMEOUT_S = 20.0
_SCRIPT = r"""
say() { printf '%s=%s\n' "$1" "$2"; }
say os "$(uname -s)"; say kernel "$(uname -r)"; say arch "$(uname -m)"
say hostname "$(uname -n)"
say cores "$(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null)"
if [ -r /proc/meminfo ]; then
  while read -r k v u; do case $k in MemTotal:) say memory_kb "$v";; esac; done </proc/meminfo
fi
if [ -r /proc/cpuinfo ]; then
  while read -r l; do case $l in
    'model name'*:*|Hardware*:*|Model*:*|'CPU part'*:*|'CPU implementer'*:*) say cpuinfo "$l";;
  esac; done </proc/cpuinfo
fi
[ -r /proc/device-tree/model ] && say model "$(tr -d '\0' </proc/device-tree/model)"
if [ -r /etc/os-release ]; then
  while read -r l; do case $l in PRETTY_NAME=*) say distribution "${l#*=}";; esac; done \
    </etc/os-release
fi
if command -v getprop >/dev/null 2>&1; then
  for p in ro.product.manufacturer ro.product.model ro.soc.model ro.board.platform \
    ro.build.version.release ro.build.version.sdk; do say "$p" "$(getprop $p)"; done
fi
if command -v sysctl >/dev/null 2>&1 && [ "$(uname -s)" = Darwin ]; then
  say memory_b "$(sysctl -n hw.memsize)"; say cpu "$(sysctl -n machdep.cpu.brand_string)"
fi
exit 0
"""
# MIDR part numbers of the cores found on edge boards: Arm's technical reference manuals.
_ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xc07": "Cortex-A7",
    "0xc0f": "Cortex-A15",
    "0xd41": "Cortex-A78",
    "0xd44": "Cortex-X1",
}


def read_facts(transport: Transport) -> dict[str, Any]:
    """hostname, os, kernel, arch, cpu, cores, memory_bytes, model, distribution, android."""
    answer = transport.run(["sh", "-c", _SCRIPT], timeout_s=_TIMEOUT_S)
    return parse_facts(answer.stdout.decode(errors="replace"))


def parse_facts(text: str) -> dict[str, Any]:
    """The script's `key=value` lines as facts; None is "the device does not say"."""
    said: dict[str, str] = {}
    cpuinfo: list[str] = []
    for line in clean_text(text, 100_000).splitlines():
        key, _, value = line.partition("=")
        if key == "cpuinfo":
            cpuinfo.append(value)
        elif value.strip():
            said.setdefault(key, value.strip().strip('"'))
    kilobytes, size = _number(said.get("memory_kb")), _number(said.get("memory_b"))
    return {
        "hostname": said.get("hostname"),
        "os": said.get("os"),
        "kernel": said.get("kernel"),
        "arch": said.get("arch"),
        "cpu": said.get("cpu") or said.get("ro.soc.model") or _cpu(cpuinfo),
        "cores": _number(said.get("cores")),
        "memory_bytes": kilobytes * 1024 if kilobytes else size,
        "model": said.get("model") or _android_model(said) or _field(cpuinfo, "Model"),
        "distribution": said.get("distribution"),
        "android": said.get("ro.build.version.release"),
        "android_sdk": _number(said.get("ro.build.version.sdk")),
    }


def _android_model(said: dict[str, str]) -> str | None:
    words = [said[k] for k in ("ro.product.manufacturer", "ro.product.model") if k in said]
    return " ".join(words) or None


def _cpu(cpuinfo: list[str]) -> str | None:
    """`4 x Cortex-A53 + 4 x Cortex-A76`, or the name x86 gives, or the SoC's."""
    parts = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("CPU part")]
    if parts:
        counts = {part: parts.count(part) for part in dict.fromkeys(parts)}
        return " + ".join(f"{n} x {_ARM_PARTS.get(p.lower(), p)}" for p, n in counts.items())
    return _field(cpuinfo, "model name") or _field(cpuinfo, "Hardware")


def _field(cpuinfo: list[str], name: str) -> str | None:
    for line in cpuinfo:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip() or None
    return None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() and len(text) < 19 else None
