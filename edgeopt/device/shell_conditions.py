"""The state of a board without Python, read by one sh script: clocks, heat, battery.

The keys are those of the on-device agent, so that one rule judges both; Android's own thermal
status and battery are added. What a board does not tell is None or left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeopt.device.agent.watch import difference
from edgeopt.device.printable import clean_text
from edgeopt.device.transport import Transport

__all__ = ["BETWEEN", "parse_between", "parse_conditions", "read_conditions"]

_TIMEOUT_S = 30.0
_TICKS = 100  # USER_HZ, the same in every Linux for ARM and x86
_MOST_ROWS = 600  # ten minutes
_ASLEEP_MILLIC = -40_000  # a PCIe Edge TPU that sleeps answers with less
_GET = r"""get() { [ -r "$1" ] && read -r v 2>/dev/null <"$1" && echo "$2=$v"; }
"""
_QUICK = r"""for c in /sys/devices/system/cpu/cpu[0-9]*; do
  n=${c##*/cpu}; f=$c/cpufreq
  get $f/scaling_governor "governor $n"; get $f/scaling_cur_freq "frequency_khz $n"
  get $f/cpuinfo_max_freq "max_frequency_khz $n"; get $f/scaling_max_freq "limit_frequency_khz $n"
done
for z in /sys/class/thermal/thermal_zone*; do get $z/type "zone ${z##*zone}"
  get $z/temp "millic ${z##*zone}"; done
for z in /sys/class/thermal/cooling_device*; do get $z/type "cooler ${z##*device}"
  get $z/cur_state "cooling ${z##*device}"; done
get /sys/devices/platform/soc/soc:firmware/get_throttled throttled
for a in /sys/class/apex/apex_*; do get $a/temp "apex ${a##*_}"
  get $a/trip_point0_temp "trip ${a##*_}"; done
for p in /sys/class/power_supply/*; do for k in type online status capacity; do
  get "$p/$k" "power ${p##*/} $k"; done; done
"""
_STATUS = r"""dumpsys thermalservice 2>/dev/null | while read -r l; do case $l in
    'Thermal Status:'*) echo "thermal_status=${l#*: }"; break;; esac; done
"""
# $1 the model, '' for none.
_SCRIPT = (
    _GET
    + _QUICK
    + """if command -v dumpsys >/dev/null 2>&1; then
  """
    + _STATUS
    + r"""  dumpsys battery 2>/dev/null | while read -r l; do case $l in
    level:*|temperature:*|'AC powered:'*|'USB powered:'*) echo "battery ${l%%:*}=${l#*: }";;
  esac; done
fi
[ ! -r /proc/uptime ] || { read -r u x </proc/uptime
  echo "monotonic=$u"; echo "time=$(date +%s)"; }
[ -n "$1" ] || exit 0
if command -v sha256sum >/dev/null 2>&1; then s=$(sha256sum <"$1")
elif command -v toybox >/dev/null 2>&1; then s=$(toybox sha256sum <"$1")
elif command -v shasum >/dev/null 2>&1; then s=$(shasum -a 256 <"$1"); fi
echo "sha256=${s%% *}"
exit 0
"""
)
# $1 a process, which is looked at each second until it has ended, and more often at first: of one
# that ends sooner two looks are needed too. What Android says of heat is read each fifth time,
# because it costs a tenth of a second. Nothing is counted here: mksh has 32 bits.
BETWEEN = (
    _GET
    + r"""i=0; early=xxx; while kill -0 "$1" 2>/dev/null; do
  echo look; read -r u x </proc/uptime && echo "uptime=$u"; get "/proc/$1/stat" own
  while read -r k v; do case $k in cpu[0-9]*) echo "machine ${k#cpu}=$v";; intr) break;; esac
  done </proc/stat
  for t in /proc/$1/task/*; do get $t/schedstat "waited ${t##*/}"; done
  """
    + _QUICK
    + r"""  i=$((i + 1)); if [ $i -ge 5 ] && command -v dumpsys >/dev/null 2>&1; then i=0
  """
    + _STATUS
    + r"""  fi
  echo whole
  if [ -n "$early" ]; then early=${early#x}; sleep 0.3 || sleep 1; else sleep 1; fi
done 2>/dev/null"""
)
_PER_CPU = ("governor", "frequency_khz", "max_frequency_khz", "limit_frequency_khz")


def read_conditions(transport: Transport, model: str = "") -> tuple[dict[str, Any], str]:
    """The state now, and the sha256 of `model` as the device reads it ("" when it cannot, or when
    none is named)."""
    answer = transport.run(["sh", "-c", _SCRIPT, "edgeopt", model], timeout_s=_TIMEOUT_S)
    return parse_conditions(answer.stdout.decode(errors="replace"))


def parse_conditions(text: str) -> tuple[dict[str, Any], str]:
    """The script's `key=value` lines; hostile or broken lines are dropped."""
    said = _said(text)
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
    for key in ("time", "monotonic"):
        if (value := _decimal(said.get(key, {}).get("", ""))) is not None:
            found[key] = value
    return found, said.get("sha256", {}).get("", "")


def parse_between(text: str, cores: Sequence[int] = ()) -> dict[str, Any]:
    """What BETWEEN printed, as agent/watch.py says it: `readings` and `usage`.

    Others' use is that of `cores`, of all where none are named. The last look is left out where it
    is unfinished; the process's own use is known from its first look to its last.
    """
    looks = f"\n{text}".split("\nlook\n")[1:]
    if looks and "\nwhole\n" not in f"{looks[-1]}\n":
        looks.pop()
    blocks = [_said(look) for look in looks]
    rows = [parse_conditions(look)[0] for look in looks]
    counters = [found for block in blocks if (found := _counters(block, cores))]
    usage = difference(counters[0], counters[-1]) if len(counters) > 1 else {}
    return {"readings": rows[-_MOST_ROWS:], "usage": usage}


def _counters(said: Mapping[str, Mapping[str, str]], cores: Sequence[int]) -> dict[str, Any]:
    """proc(5): fields 14 and 15 of stat are the process's own ticks, /proc/stat has the machine's,
    and the second of schedstat is the time waited for a core, in nanoseconds."""
    wall = _decimal(said.get("uptime", {}).get("", ""))
    own = said.get("own", {}).get("", "").rpartition(")")[2].split()
    rows = [
        [_number(word) or 0 for word in text.split()]
        for core, text in said.get("machine", {}).items()
        if not cores or _number(core) in cores
    ]
    if wall is None or len(own) < 13 or not rows or any(len(row) < 8 for row in rows):
        return {}
    waited = [text.split() for text in said.get("waited", {}).values()]
    return {
        "wall_s": wall,
        "own_cpu_s": ((_number(own[11]) or 0) + (_number(own[12]) or 0)) / _TICKS,
        "busy_s": sum(sum(r[:3]) + r[5] + r[6] for r in rows) / _TICKS,
        "steal_s": sum(r[7] for r in rows) / _TICKS,
        "waited_s": sum(_number(w[1]) or 0 for w in waited if len(w) == 3) / 1e9,
        "seen_cores": len(rows),
    }


def _said(text: str) -> dict[str, dict[str, str]]:
    said: dict[str, dict[str, str]] = {}
    for line in clean_text(text, 200_000).splitlines():
        key, _, value = line.partition("=")
        name, _, index = key.partition(" ")
        said.setdefault(name, {}).setdefault(index, value.strip()[:300])
    return said


def _decimal(text: str) -> float | None:
    whole, _, part = text.partition(".")
    good = whole.isascii() and whole.isdigit() and len(whole) < 16
    return float(text) if good and (not part or (part.isascii() and part.isdigit())) else None


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
