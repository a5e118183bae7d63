"""Was the board in the same state before and after? Pure: readings in, reasons out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

__all__ = ["changed_conditions"]

_HOLD_THE_CLOCK = {"performance", "userspace"}
_CLOCK_FELL = 0.9  # turbo steps are smaller; a thermal limit of a Pi 4 or 5 is a third or more
# Raspberry Pi firmware, `vcgencmd get_throttled`: bits 0 to 3 are now, 16 to 19 since boot.
_PI_BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}


def changed_conditions(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Why a run between these readings must not be believed; empty when nothing speaks against it.

    What a board does not tell cannot be judged and gives no reason.
    """
    reasons = chain(
        _throttled(before, after),
        _cpu(before, after),
        _cooling(before, after),
        _apex(before, after),
    )
    return tuple(reasons)


def _throttled(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    old, new = before.get("throttled_bits"), after.get("throttled_bits")
    if not isinstance(old, int) or not isinstance(new, int):
        return
    for bit, name in _PI_BITS.items():
        now = (new >> bit) & 1 or (old >> bit) & 1
        since = (new >> (bit + 16)) & ~(old >> (bit + 16)) & 1
        if now or since:
            yield f"the board reports: {name} (get_throttled {old:#x} before, {new:#x} after)"


def _cpu(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key, text in (
        ("governor", "the frequency governor changed"),
        ("limit_frequency_khz", "the frequency limit changed"),
    ):
        old, new = before.get(key), after.get(key)
        if isinstance(old, list) and isinstance(new, list) and old != new:
            yield f"{text} from {_spread(old)} to {_spread(new)}"
    yield from _clock(before, after)
    old, new = before.get("throttle_count"), after.get("throttle_count")
    if isinstance(old, list) and isinstance(new, list) and old != new:
        yield "the processor throttled (core_throttle_count rose)"


def _clock(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """A clock that the governor holds still, and that fell: something else slowed it.

    Of all cores the fastest counts: idle ones may be parked at any frequency. Under a governor that
    follows the load, two readings say nothing.
    """
    governors = before.get("governor")
    if not isinstance(governors, list) or not {*map(str, governors)} <= _HOLD_THE_CLOCK:
        return
    fastest = [
        max((khz for khz in said if isinstance(khz, int)), default=0)
        for said in (r.get("frequency_khz") for r in (before, after))
        if isinstance(said, list)
    ]
    if governors and len(fastest) == 2 and 0 < fastest[1] < _CLOCK_FELL * fastest[0]:
        yield f"the clock fell from {fastest[0]} to {fastest[1]} kHz under a governor that holds it"


def _spread(values: list[Any]) -> str:
    return "/".join(dict.fromkeys(str(value) for value in values))


def _cooling(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    old, new = before.get("cooling"), after.get("cooling")
    if not isinstance(old, dict) or not isinstance(new, dict):
        return
    for name, state in new.items():
        kind = name.lower()
        slows = "cpu" in kind or "processor" in kind  # a fan that spins up slows nothing
        was = old.get(name, 0)
        if slows and isinstance(state, int) and isinstance(was, int) and state > was:
            yield f"the kernel slowed the processor to cool it ({name}: {state})"


def _apex(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """The driver steps the clock down from its first trip point on (apex_driver.c).

    A chip that sleeps has no temperature before the run: then only the one after it counts.
    """
    for when, said in (("before", before), ("after", after)):
        now, trip = said.get("apex_temperature_millic"), said.get("apex_trip_millic")
        if isinstance(now, int) and isinstance(trip, int) and now >= trip > 0:
            yield (
                f"the Edge TPU is at {now / 1000:.0f} degC {when} the run, and steps its clock down"
                f" from {trip / 1000:.0f} degC on"
            )
