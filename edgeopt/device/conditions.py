"""Was the board in one and the same state, and ours alone? Pure: readings in, reasons out.

`conditions` has `before` and `after` (agent/readings.py, shell_conditions.py) and, where the runner
can look between runs, `during` with `readings` and `usage` (agent/watch.py). What a board does not
tell cannot be judged and gives no reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

from edgeopt.device.shared_cores import shared_cores, tells_of_others

__all__ = ["changed_conditions", "compact", "judge", "remarks"]

_HOLD_THE_CLOCK = {"performance", "userspace"}
_CLOCK_FELL = 0.9  # turbo steps are smaller; a thermal limit of a Pi 4 or 5 is a third or more
_CLOCK_MOVED = 0.8  # where the governor follows the load: beyond the steps of turbo of busy cores
_FEW_READINGS = 3  # a governor may still be on its way up in fewer
_CLOCK_JUMP_S = 1.0  # NTP slews by 0.5 ms a second at most (adjtimex(2)): more was a step
_LOW_BATTERY_PERCENT = 15  # Android's own warning level, from which it may save power
_HOT_TRIP_C = 60.0  # phones have passive trips of 25 degC on zones that slow nothing
_SLOWED_ZONES = ("cpu", "soc", "pkg", "package")
# Raspberry Pi firmware, `vcgencmd get_throttled`: bits 0 to 3 are now, 16 to 19 since boot.
_PI_BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
# PowerManager.THERMAL_STATUS_*: from moderate (2) on Android says that performance suffers.
_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
_MODERATE = 2
_HELD = (
    ("governor", "the frequency governor changed"),
    ("limit_frequency_khz", "the frequency limit changed"),
)

Reading = Mapping[str, Any]


def judge(conditions: Mapping[str, Any]) -> tuple[str, ...]:
    """Why a run under these conditions must not be believed; empty when nothing speaks against it.

    Each reason is said once, with the first reading that shows it.
    """
    before, after = _table(conditions, "before"), _table(conditions, "after")
    during = _table(conditions, "during")
    between = [r for r in during.get("readings") or () if isinstance(r, Mapping)]
    reasons = chain(
        _states(before, between, after),
        _clock_between(between),
        _power(before, between, after),
        _jumped(before, between, after),
        shared_cores(_table(during, "usage")),
    )
    return tuple(dict.fromkeys(reasons))


def changed_conditions(before: Reading, after: Reading) -> tuple[str, ...]:
    """As `judge`, of two readings alone."""
    return judge({"before": before, "after": after})


def remarks(conditions: Mapping[str, Any]) -> tuple[str, ...]:
    """What a reader should know of conditions that leave the figures valid."""
    before = _table(conditions, "before")
    if not before:
        return ()
    heard = any(
        _known(before.get(key))
        for key in ("frequency_khz", "temperature_c", "cooling", "throttled_bits")
    )
    said = []
    if not heard and before.get("thermal_status") is None:
        said.append(
            "Conditions unknown: this board tells neither its clock, nor its temperature, nor"
            " whether it throttles."
        )
    during = _table(conditions, "during")
    if "usage" in during and not tells_of_others(_table(during, "usage")):
        said.append(
            "Whether others used its cores meanwhile is unknown: the board does not tell, or the"
            " run was too short."
        )
    slow = sorted({g for g in before.get("governor") or () if g in ("powersave", "conservative")})
    if heard and slow:
        said.append(
            f"The frequency governor is {slow[0]}: the board may be slower than it can be"
            " (--prepare sets performance where that is permitted)."
        )
    return tuple(said)


def compact(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """The same without the single readings in between: their number and each one's lowest and
    highest value, which is what a report keeps."""
    during = _table(conditions, "during")
    rows = [r for r in during.get("readings") or () if isinstance(r, Mapping)]
    if "readings" not in during:
        return dict(conditions)
    kept: dict[str, Any] = {k: v for k, v in during.items() if k != "readings"}
    kept["count"] = len(rows)
    clocks = [f for row in rows for f in _numbers(row.get("frequency_khz"))]
    kept["frequency_khz"] = _range(clocks)
    zones: dict[str, list[float]] = {}
    for row in rows:
        for zone, value in _table(row, "temperature_c").items():
            if isinstance(value, (int, float)):
                zones.setdefault(zone, []).append(value)
    kept["temperature_c"] = {zone: _range(values) for zone, values in zones.items()}
    apex = [v for row in rows if isinstance(v := row.get("apex_temperature_millic"), int)]
    kept["apex_temperature_millic"] = _range(apex)
    return {**conditions, "during": kept}


def _states(before: Reading, between: Sequence[Reading], after: Reading) -> Iterator[str]:
    """The rules of two states: each reading against the one before the run. Readings in between
    list the usable cores only, so their lists are held against the first of them."""
    yield from _apex(before, "before")
    for now in between:
        yield from _cpu(between[0], now)
        yield from _heat(before, now, "during")
    if between:
        yield from _across(before, between[0])
    yield from _cpu(before, after)
    yield from _heat(before, after, "after")


def _heat(before: Reading, now: Reading, when: str) -> Iterator[str]:
    yield from _throttled(before, now)
    yield from _cooling(before, now)
    yield from _hot(before, now)
    yield from _apex(now, when, before.get("apex_trip_millic"))
    yield from _android(before, now)


def _across(before: Reading, first: Reading) -> Iterator[str]:
    """What changed between the reading before and the first one in between, as sets."""
    for key, text in _HELD:
        old, new = _said(before.get(key)), _said(first.get(key))
        if old and new and not set(new) <= set(old):
            yield f"{text} from {_spread(old)} to {_spread(new)}"


def _throttled(before: Reading, now: Reading) -> Iterator[str]:
    old, new = before.get("throttled_bits"), now.get("throttled_bits")
    if isinstance(old, int) and isinstance(new, int):
        for bit, name in _PI_BITS.items():
            active = (new >> bit) & 1 or (old >> bit) & 1
            since = (new >> (bit + 16)) & ~(old >> (bit + 16)) & 1
            if active or since:
                yield f"the board reports: {name} (get_throttled {old:#x} before, {new:#x} after)"
                return
    if now.get("undervoltage") == 1:
        yield "the board reports: under-voltage (its power supply is too weak)"


def _cpu(before: Reading, now: Reading) -> Iterator[str]:
    for key, text in _HELD:
        old, new = before.get(key), now.get(key)
        if isinstance(old, list) and isinstance(new, list) and old != new:
            yield f"{text} from {_spread(old)} to {_spread(new)}"
    yield from _clock(before, now)
    old, new = before.get("throttle_count"), now.get("throttle_count")
    if isinstance(old, list) and isinstance(new, list) and old != new:
        yield "the processor throttled (core_throttle_count rose)"


def _clock(before: Reading, now: Reading) -> Iterator[str]:
    """A clock that the governor holds still, and that fell: something else slowed it.

    Of all cores the fastest counts: idle ones may be parked at any frequency. Under a governor that
    follows the load, two readings say nothing.
    """
    if not _holds(before):
        return
    old, new = (max(_numbers(r.get("frequency_khz")), default=0) for r in (before, now))
    if 0 < new < _CLOCK_FELL * old:
        yield f"the clock fell from {old} to {new} kHz under a governor that holds it"


def _holds(reading: Reading) -> bool:
    governors = reading.get("governor")
    return (
        isinstance(governors, list)
        and bool(governors)
        and {*map(str, governors)} <= _HOLD_THE_CLOCK
    )


def _clock_between(between: Sequence[Reading]) -> Iterator[str]:
    """The run kept its core busy throughout, so a governor that follows the load had nothing to
    follow: the clock of the fastest core should stand still."""
    if len(between) < _FEW_READINGS or _holds(between[0]):
        return
    fastest = [max(_numbers(r.get("frequency_khz")), default=0) for r in between]
    if 0 < min(fastest) < _CLOCK_MOVED * max(fastest):
        yield f"the clock moved between {min(fastest)} and {max(fastest)} kHz during the run"


def _cooling(before: Reading, now: Reading) -> Iterator[str]:
    old, new = before.get("cooling"), now.get("cooling")
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return
    for name, state in new.items():
        kind = str(name).lower()
        slows = "cpu" in kind or "processor" in kind  # a fan that spins up slows nothing
        was = old.get(name, 0)
        if slows and isinstance(state, int) and isinstance(was, int) and state > was:
            yield f"the kernel slowed the processor to cool it ({name}: {state})"
            return


def _hot(before: Reading, now: Reading) -> Iterator[str]:
    """At a passive trip point the kernel slows the processor down (thermal sysfs API)."""
    trips, zones = _table(before, "passive_trip_c"), _table(now, "temperature_c")
    for zone, trip in trips.items():
        degrees = zones.get(zone)
        known = isinstance(degrees, (int, float)) and isinstance(trip, (int, float))
        slows = known and any(word in zone.lower() for word in _SLOWED_ZONES)
        if slows and trip >= _HOT_TRIP_C and degrees >= trip:
            yield f"{zone} reached {trip:.0f} degC, where the kernel slows the processor down"
            return


def _apex(now: Reading, when: str, trip: Any = None) -> Iterator[str]:
    """The driver steps the clock down from its first trip point on (apex_driver.c).

    A chip that sleeps has no temperature before the run: then only the one after it counts.
    """
    degrees, trip = now.get("apex_temperature_millic"), now.get("apex_trip_millic", trip)
    if isinstance(degrees, int) and isinstance(trip, int) and degrees >= trip > 0:
        yield (
            f"the Edge TPU is at {degrees / 1000:.0f} degC {when} the run, and steps its clock"
            f" down from {trip / 1000:.0f} degC on"
        )


def _android(before: Reading, now: Reading) -> Iterator[str]:
    old, new = before.get("thermal_status"), now.get("thermal_status")
    if not isinstance(old, int) or not isinstance(new, int):
        return
    if old != new:
        yield f"Android's thermal status changed from {_status(old)} to {_status(new)}"
    elif new >= _MODERATE:
        yield f"Android throttles: its thermal status is {_status(new)}"


def _status(value: int) -> str:
    return f"{value} ({_STATUS[value]})" if 0 <= value < len(_STATUS) else str(value)


def _power(before: Reading, between: Sequence[Reading], after: Reading) -> Iterator[str]:
    """A board on another supply than before, or on a battery that is nearly empty."""
    was = _powered(before)
    for now in (*between, after):
        powered = _powered(now)
        if was is not None and powered is not None and powered != was:
            yield f"the power supply was {'plugged in' if powered else 'unplugged'} during the run"
            break
    level = _battery_percent(after)
    if level is not None and level < _LOW_BATTERY_PERCENT and _powered(after) is not True:
        yield f"the battery is low ({level}%), so the board may save power"


def _powered(reading: Reading) -> bool | None:
    """None where there is no battery: a board that never has another supply."""
    battery = reading.get("battery")
    if isinstance(battery, Mapping) and isinstance(battery.get("powered"), bool):
        return bool(battery["powered"])
    supplies = [s for s in _table(reading, "power_supply").values() if isinstance(s, Mapping)]
    if not any(s.get("type") == "Battery" for s in supplies):
        return None
    online = [s.get("online") for s in supplies if s.get("type") != "Battery" and "online" in s]
    if online:
        return "1" in map(str, online)
    return not any(s.get("status") == "Discharging" for s in supplies)


def _battery_percent(reading: Reading) -> int | None:
    battery = reading.get("battery")
    if isinstance(battery, Mapping) and isinstance(battery.get("level_percent"), int):
        return int(battery["level_percent"])
    for supply in _table(reading, "power_supply").values():
        if isinstance(supply, Mapping) and supply.get("type") == "Battery":
            text = str(supply.get("capacity", ""))
            if text.isascii() and text.isdigit() and len(text) < 4:
                return int(text)
    return None


def _jumped(before: Reading, between: Sequence[Reading], after: Reading) -> Iterator[str]:
    """The wall clock against the one that nobody sets."""
    rows = [r for r in (before, *between, after) if _times(r)]
    for old, new in pairwise(rows):
        jump = (new["time"] - old["time"]) - (new["monotonic"] - old["monotonic"])
        if abs(jump) > _CLOCK_JUMP_S:
            yield (
                f"the device's clock jumped by {jump:+.0f} s during the run (it was set, or the"
                " board slept)"
            )
            return


def _times(reading: Reading) -> bool:
    return all(isinstance(reading.get(k), (int, float)) for k in ("time", "monotonic"))


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}


def _numbers(value: Any) -> list[int]:
    return [v for v in value if isinstance(v, int)] if isinstance(value, list) else []


def _said(value: Any) -> list[Any]:
    return [v for v in value if v is not None] if isinstance(value, list) else []


def _known(value: Any) -> bool:
    """A device's reading that says something: not None, nor lists and tables of it."""
    return bool(_said(value)) if isinstance(value, list) else value not in (None, {}, ())


def _range(values: Sequence[float]) -> list[float] | None:
    return [min(values), max(values)] if values else None


def _spread(values: Sequence[Any]) -> str:
    return "/".join(dict.fromkeys(str(value) for value in values))
