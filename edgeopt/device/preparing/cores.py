"""Which cores a run is pinned to. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeopt.errors import InputError

__all__ = ["Core", "choose", "core_list", "mask", "pinned"]

_MOST = 4096


@dataclass(frozen=True, kw_only=True)
class Core:
    """`capacity` is the kernel's, 1024 for the fastest; `siblings` are halves of the same core."""

    number: int
    capacity: int | None = None
    max_khz: int | None = None
    siblings: tuple[int, ...] = ()


def core_list(text: str) -> tuple[int, ...]:
    """The kernel's way to list cores: `0-3,6`. Raises InputError for anything else."""
    found: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        ends = (low, high) if dash else (low, low)
        if not all(e.isascii() and e.isdigit() and len(e) < 5 for e in ends):
            raise InputError(f"{text!r} is no list of cores.", "Write it as 2-3 or 0,4,5.")
        if int(ends[1]) >= _MOST:
            raise InputError(f"{text!r} is no list of cores.", f"They count from 0 to {_MOST - 1}.")
        if int(ends[0]) > int(ends[1]):
            raise InputError(
                f"{text!r} is no list of cores.",
                f"Write it as {ends[1]}-{ends[0]}, the lower first.",
            )
        found |= set(range(int(ends[0]), int(ends[1]) + 1))
    return tuple(sorted(found))


def mask(cores: Sequence[int]) -> str:
    """What every taskset takes, toybox's too: a hexadecimal mask."""
    return f"{sum(1 << core for core in set(cores)):x}"


def pinned(argv: Sequence[str], cores: Sequence[int]) -> list[str]:
    """The words that run `argv` on these cores alone; as they are where there are none."""
    return ["taskset", mask(cores), *argv] if cores else [*argv]


def choose(
    cores: Sequence[Core], threads: int, *, isolated: Sequence[int] = ()
) -> tuple[tuple[int, ...], str]:
    """As many of the fastest cores as there are threads, and why these.

    Fastest by capacity, where the cores differ in it, else by highest frequency; when the fastest
    are too few, the next ones too. Isolated cores (kernel parameter isolcpus) go before all others.
    Halves of one core are taken last, and core 0 after its equals: interrupts are handled there.
    """
    if not cores:
        return (), ""
    apart = [core for core in cores if core.number in set(isolated)]
    pool = apart if len(apart) >= threads else list(cores)
    speed, by = _speeds(pool)
    ranked = sorted(pool, key=lambda c: (speed[c.number], c.number), reverse=True)
    taken: list[Core] = []
    while ranked and len(taken) < threads:
        fastest = [c for c in ranked if speed[c.number] == speed[ranked[0].number]]
        busy = {half for core in taken for half in core.siblings}
        free = [c for c in fastest if c.number not in busy]
        taken.append((free or fastest)[0])
        ranked.remove(taken[-1])
    why = "isolated by the kernel" if pool is apart else by
    return tuple(sorted(core.number for core in taken)), why


def _speeds(cores: Sequence[Core]) -> tuple[Mapping[int, int], str]:
    kinds = (("capacity", "of the highest capacity"), ("max_khz", "of the highest clock"))
    for key, words in kinds:
        values = {core.number: getattr(core, key) for core in cores}
        if all(v is not None for v in values.values()) and len(set(values.values())) > 1:
            return values, words
    return {core.number: 0 for core in cores}, "all cores are alike"
