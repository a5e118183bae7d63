"""Waits until a board is as cool as it was before a measurement."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from edgeopt import stop
from edgeopt.device.device import Device
from edgeopt.device.shell_conditions import read_conditions
from edgeopt.progress import Progress

__all__ = ["cool_down", "is_cool"]

_LOOK_S = 2.0
_NEAR_C = 1.0  # sensors of boards have steps of 0.5 to 1 degC


def cool_down(
    device: Device, start: Mapping[str, Any], limit_s: float, progress: Progress
) -> dict[str, Any]:
    """Wait until the board is as at `start` (readings before a run), at most `limit_s`.

    Returns `waited_s`, and `cooled`: True, False, or None where it tells no temperature: then the
    whole time is waited. Raises DeviceError when the device does not answer.
    """
    began, cooled = time.monotonic(), None
    progress.stage(f"Wait until {device.transport.name} has cooled, at most {limit_s:g} s")
    while True:
        now, _ = read_conditions(device.transport)
        cooled = is_cool(start, now)
        left = limit_s - (time.monotonic() - began)
        if cooled or left <= 0:
            return {"waited_s": round(time.monotonic() - began, 1), "cooled": cooled}
        stop.sleep(min(_LOOK_S, left))


def is_cool(start: Mapping[str, Any], now: Mapping[str, Any]) -> bool | None:
    """No zone is warmer than it was and nothing throttles; None where no zone is known."""
    then, zones = start.get("temperature_c") or {}, now.get("temperature_c") or {}
    pairs = [
        (then[zone], value)
        for zone, value in zones.items()
        if isinstance(then.get(zone), (int, float)) and isinstance(value, (int, float))
    ]
    apex = start.get("apex_temperature_millic"), now.get("apex_temperature_millic")
    if isinstance(apex[0], int) and isinstance(apex[1], int):
        pairs.append((apex[0] / 1000, apex[1] / 1000))
    bits = now.get("throttled_bits")
    throttles = isinstance(bits, int) and bits & 0xF != 0
    if not pairs:
        return False if throttles else None
    return not throttles and all(value <= old + _NEAR_C for old, value in pairs)
