"""The state of a board without Python, read by one sh script: clocks, heat, battery.

The keys are those of the on-device agent, so that one rule judges both; Android's own thermal
status and battery are added. What a board does not tell is None or left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeopt.device.printable import clean_text
from edgeopt.device.transport import Transport

__all__ = ["parse_conditions", "read_conditions"]

_TIMEOUT_S = 30.0
_ASLEEP_MILLIC = -40_000  # a PCIe Edge TPU that sleeps answers with less
_SCRIPT = r"""get() { [ -r "$1" ] && read -r v <"$1" 2>/dev/null && echo "$2=$v"; }
for c in /sys/devices/system/cpu/cpu[0-9]*; do
  n=${c##*/cpu}; f=$c/cpufreq
  get $f/scaling_governor "governor $n"; get $f/scaling_cur_freq "frequency_khz $n"
  get $f/cpuinfo_max_freq "max_frequency_khz $n"; get $f/scaling_max_freq "limit_frequency_khz $n"
done
for z in /sys/class/thermal/thermal_zone*; do get $z/type "zone ${z##*zone}"
  get $z/temp "millic ${z##*zone}"; done
for z in /sys/class/thermal/cooling_device*; do get $z/type "cooler ${z##*device}"
  get $z/cur_state "cooling ${z##*device}"; done
if command -v dumpsys >/dev/null 2>&1; then
  dumpsys thermalservice 2>/dev/null | while read -r l; do case $l in
    'Thermal Status:'*) echo "thermal_status=${l#*: }"; break;; esac; done
  dumpsys battery 2>/dev/null | while read -r l; do case $l in
    level:*|temperature:*|'AC powered:'*|'USB powered:'*) echo "battery ${l%%:*}=${l#*: }";;
  esac; done
fi
get /sys/devices/platform/soc/soc:firmware/get_throttled throttled
for a in /sys/class/apex/apex_*; do get $a/temp "apex ${a##*_}"
  get $a/trip_point0_temp "trip ${a##*_}"; done
for p in /sys/class/power_supply/*; do for k in type online status capacity; do
  get "$p/$k" "power ${p##*/} $k"; done; done
[ -n "$1" ] || exit 0
if command -v sha256sum >/dev/null 2>&1; then s=$(sha256sum <"$1")
elif command -v toybox >/dev/null 2>&1; then s=$(toybox sha256sum <"$1")
elif command -v shasum >/dev/null 2>&1; then s=$(shasum -a 256 <"$1"); fi
echo "sha256=${s%% *}"
exit 0
"""
_PER_CPU = ("governor", "frequency_khz", "max_frequency_khz", "limit_frequency_khz")


def read_conditions(transport: Transport, model: str = "") -> tuple[dict[str, Any], str]:
    """The state now, and the sha256 of `model` as the device reads it ("" when it cannot, or when
    none is named)."""
    answer = transport.run(["sh", "-c", _SCRIPT, "edgeopt", model], timeout_s=_TIMEOUT_S)
    return parse_conditions(answer.stdout.decode(errors="replace"))


def parse_conditions(text: str) -> tuple[dict[str, Any], str]:
    """The script's `key=value` lines; hostile or broken lines are dropped."""
    said: dict[str, dict[str, str]] = {}
    for line in clean_text(text, 200_000).splitlines():
        key, _, value = line.partition("=")
        name, _, index = key.partition(" ")
        said.setdefault(name, {}).setdefault(index, value.strip()[:200])
    found: dict[str, Any] = {}
    for key in _PER_CPU:
        if rows := said.get(key):
            values = [rows[n] for n in sorted(rows, key=lambda n: (len(n), n))]
            found[key] = values if key == "governor" else [_number(v) for v in values]
    found |= _heat(said)
    found["thermal_status"] = _number(said.get("thermal_status", {}).get("", ""))
    found["battery"] = _battery(said.get("battery", {}))
    found["throttled_bits"] = _hex(said.get("throttled", {}).get("", ""))
    for name, key, pick in (
        ("apex", "apex_temperature_millic", max),
        ("trip", "apex_trip_millic", min),
    ):
        millic = [v for text in said.get(name, {}).values() if (v := _number(text)) is not None]
        found[key] = pick((v for v in millic if v > _ASLEEP_MILLIC), default=None)
    found["power_supply"] = _supplies(said.get("power", {}))
    return found, said.get("sha256", {}).get("", "")


def _heat(said: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    zones, coolers = said.get("zone", {}), said.get("cooler", {})
    temperature = {
        f"thermal_zone{n} {zones.get(n, '?')}": millic / 1000.0
        for n, text in said.get("millic", {}).items()
        if (millic := _number(text)) is not None
    }
    cooling = {
        f"cooling_device{n} {coolers.get(n, '?')}": state
        for n, text in said.get("cooling", {}).items()
        if (state := _number(text)) is not None
    }
    return {"temperature_c": temperature, "cooling": cooling}


def _battery(said: Mapping[str, str]) -> dict[str, Any] | None:
    if not said:
        return None
    tenths = _number(said.get("temperature", ""))
    return {
        "level_percent": _number(said.get("level", "")),
        "temperature_c": None if tenths is None else tenths / 10,
        "powered": "true" in (said.get("AC powered"), said.get("USB powered")),
    }


def _supplies(said: Mapping[str, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for names, value in said.items():
        supply, _, key = names.rpartition(" ")
        found.setdefault(supply, {})[key] = value
    return found


def _hex(text: str) -> int | None:
    """Raspberry Pi's kernel prints its throttle bits in hexadecimal, without 0x."""
    good = 0 < len(text) < 16 and set(text) <= set("0123456789abcdef")
    return int(text, 16) if good else None


def _number(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 16 else None
