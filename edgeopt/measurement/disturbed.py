"""What was wrong with the processes of a measurement, said once for all that share it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeopt.measurement.judged import JudgedProcess

__all__ = ["Kind", "kinds", "kinds_in_full", "kinds_in_short"]

_NUMBERS = 6


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of reason: `texts` in the words of each of the processes `numbers`, from 1."""

    name: str
    numbers: tuple[int, ...]
    texts: tuple[str, ...]


def kinds(processes: Sequence[JudgedProcess]) -> list[Kind]:
    """The reasons of all processes by kind, the most frequent first.

    Two are of one kind when they are equal but for their figures, or up to their colon.
    """
    found: dict[str, list[tuple[int, str]]] = {}
    for number, process in enumerate(processes, 1):
        for reason in process.reasons:
            found.setdefault(re.sub(r"\d[\d.]*", "#", _head(reason)), []).append((number, reason))
    rows = sorted(found.values(), key=len, reverse=True)
    return [
        Kind(
            name=_head(row[0][1]).removeprefix("it "),
            numbers=tuple(n for n, _ in row),
            texts=tuple(t for _, t in row),
        )
        for row in rows
    ]


def kinds_in_short(processes: Sequence[JudgedProcess]) -> str:
    """ "shared its cores (4 of 5), never settled (1 of 5)"."""
    total = len(processes)
    return ", ".join(
        kind.name
        + (f" ({len(kind.numbers)} of {total}{_whose_figures(kind)})" if total > 1 else "")
        for kind in kinds(processes)
    )


def kinds_in_full(processes: Sequence[JudgedProcess]) -> list[str]:
    """A line a kind, with the figures of its first process."""
    return [f"{_whose(kind)}: {kind.texts[0]}" for kind in kinds(processes)]


def _whose_figures(kind: Kind) -> str:
    """The name of a kind may hold figures, and other processes others."""
    same = len({_head(text) for text in kind.texts}) == 1
    return "" if same else f", the figures of process {kind.numbers[0]}"


def _head(reason: str) -> str:
    return reason.partition(":")[0]


def _whose(kind: Kind) -> str:
    first, *others = kind.numbers
    if not others:
        return f"process {first}"
    if len(set(kind.texts)) == 1:
        return f"processes {_listed(kind.numbers)}"
    return f"process {first} (much the same in {_listed(others)})"


def _listed(numbers: Sequence[int]) -> str:
    """ "3, 4 and 5"; of many "3, 4, 5, 6, 7, 8 and 9 more"."""
    shown = [str(n) for n in numbers[:_NUMBERS]]
    more = len(numbers) - len(shown)
    last = f"{more} more" if more else shown.pop()
    return f"{', '.join(shown)} and {last}" if shown else last
