"""What a board said of its conditions, in the shape that all readers of it rely on. Pure.

A board may be broken, or hostile: what has not the kind of value that its key has is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeopt.device.printable import clean_text

__all__ = ["plain", "told"]

_LISTS = (
    "governor",
    "frequency_khz",
    "limit_frequency_khz",
    "throttle_count",
    "max_frequency_khz",
)
_TABLES = ("temperature_c", "cooling", "passive_trip_c", "battery")  # of numbers, flags and texts
_DEPTH = 6


def plain(value: Any, depth: int) -> Any:
    """Plain JSON with its text made safe; what is larger or deeper than we ever send is dropped."""
    if isinstance(value, str):
        return clean_text(value, 500)
    if isinstance(value, list):
        return [plain(v, depth - 1) for v in value[:4096]] if depth else None
    if isinstance(value, dict):
        pairs = list(value.items())[:4096]
        return {clean_text(k, 100): plain(v, depth - 1) for k, v in pairs} if depth else None
    if isinstance(value, (int, float)) and not abs(value) < 1 << 63:  # nor inf, which 1e999 is
        return None
    return value


def told(conditions: Any) -> dict[str, Any]:
    """`before`, `after` and `during` of a run, and what else is beside them; {} for no table."""
    found = plain(conditions, _DEPTH)
    if not isinstance(found, dict):
        return {}
    for when in ("before", "after"):
        if when in found:
            found[when] = _reading(found[when])
    if "during" in found:
        found["during"] = _during(found["during"])
    return found


def _during(value: Any) -> dict[str, Any]:
    during = _table(value)
    if "usage" in during:
        during["usage"] = _scalars(during["usage"])
    if "readings" in during:
        rows = during["readings"] if isinstance(during["readings"], list) else []
        during["readings"] = [_reading(row) for row in rows if isinstance(row, dict)]
    return during


def _reading(value: Any) -> dict[str, Any]:
    row = _table(value)
    for key, said in row.items():
        if key in _LISTS:
            values = said if isinstance(said, list) else []
            row[key] = [v if _is_scalar(v) else None for v in values]
        elif key in _TABLES:
            row[key] = _scalars(said) if isinstance(said, dict) else None
        elif key == "power_supply":
            row[key] = {name: _scalars(v) for name, v in _table(said).items()}
        elif not _is_scalar(said):
            row[key] = None
    return row


def _scalars(value: Any) -> dict[str, Any]:
    return {key: v if _is_scalar(v) else None for key, v in _table(value).items()}


def _table(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))
