"""Numbers with units, for people. JSON keeps the raw ones."""

from __future__ import annotations

__all__ = ["bytes_text", "count_text", "duration_text", "percent_text"]


def bytes_text(size: float) -> str:
    """1536 -> "1.5 KiB" (powers of 1024)."""
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def count_text(count: int) -> str:
    """4233001 -> "4.23 M"."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return str(count)


def duration_text(nanoseconds: float | None) -> str:
    """1234567 -> "1.23 ms"; None -> "-": not measured."""
    if nanoseconds is None:
        return "-"
    for limit, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if nanoseconds >= limit:
            return f"{nanoseconds / limit:.3g} {unit}"
    return f"{nanoseconds:.0f} ns"


def percent_text(fraction: float) -> str:
    """0.0123 -> "1.23%"."""
    return f"{100 * fraction:.2f}%"
