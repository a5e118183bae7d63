"""Turns: processes in which several models took turns, so that what slowed one slowed all."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeopt.errors import InputError

__all__ = ["TurnProcess", "Turns"]

_MOST = 10**16  # nanoseconds: 115 days
_MOST_PROCESSES = 200


@dataclass(frozen=True, kw_only=True)
class TurnProcess:
    """`medians_ns` has a row a cycle, with the median of each model's turn in it, in the order of
    `Turns.names`; `runs` is how many timed runs each model made in all, `loaded` the places of the
    models in the order in which they were loaded."""

    medians_ns: tuple[tuple[int, ...], ...]
    runs: tuple[int, ...]
    loaded: tuple[int, ...]
    invalid_reasons: tuple[str, ...] = ()
    conditions: Mapping[str, Any] = field(default_factory=dict)

    def log_ratio(self, old: int, new: int) -> float:
        """Log of new / old, the models at these places: the median over the cycles, so neither a
        disturbed turn nor a level that lasts for some of them moves it."""
        return statistics.median(math.log(row[new] / row[old]) for row in self.medians_ns)

    def to_json(self) -> dict[str, Any]:
        return {
            "medians_ns": [list(row) for row in self.medians_ns],
            "runs": list(self.runs),
            "loaded": list(self.loaded),
            "valid": not self.invalid_reasons,
            "invalid_reasons": list(self.invalid_reasons),
            "conditions": dict(self.conditions),
        }


@dataclass(frozen=True, kw_only=True)
class Turns:
    """`note` says why there are none, or fewer than were wanted. `judged` as in Measurement."""

    names: tuple[str, ...]
    processes: tuple[TurnProcess, ...] = ()
    judged: bool = True
    note: str = ""

    def log_ratios(self, old: str, new: str) -> tuple[float, ...]:
        """Of each process that counts, log of new / old; empty where one of them took no part."""
        if old not in self.names or new not in self.names:
            return ()
        places = self.names.index(old), self.names.index(new)
        return tuple(process.log_ratio(*places) for process in self.counted)

    @property
    def counted(self) -> tuple[TurnProcess, ...]:
        """The processes that count: undisturbed ones, or all where disturbances are but told."""
        return tuple(p for p in self.processes if not (self.judged and p.invalid_reasons))

    def __str__(self) -> str:
        """How many there were, and why there were no more; empty where nobody wanted any."""
        total, counted = len(self.processes), len(self.counted)
        disturbed = sum(bool(p.invalid_reasons) for p in self.processes)
        told = f"{total} processes in which they took turns" if total else ""
        if counted < total:
            told += f", {counted} of them undisturbed"
        elif disturbed:
            told += f", {disturbed} of them disturbed and used all the same (--conditions report)"
        note = f"no {'more ' * bool(total)}turns: {self.note}" if self.note else ""
        return "; ".join(part for part in (told, note) if part)

    def to_json(self) -> dict[str, Any]:
        return {
            "names": list(self.names),
            "processes": [process.to_json() for process in self.processes],
            "judged": self.judged,
            "note": self.note,
        }

    @classmethod
    def from_json(cls, document: object) -> Turns:
        """The turns of a report, none where it has none. Raises InputError for what is not one."""
        if document is None:
            return cls(names=())
        try:
            if not isinstance(document, Mapping):
                raise TypeError("no object")
            names = tuple(map(str, document["names"]))
            rows = document["processes"]
            if len(rows) > _MOST_PROCESSES:
                raise ValueError("more than are ever made")
            return cls(
                names=names,
                processes=tuple(_process(row, len(names)) for row in rows),
                judged=bool(document["judged"]),
                note=str(document["note"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError("The report's turns are not ones that edgeopt wrote.") from error


def _process(row: Mapping[str, Any], models: int) -> TurnProcess:
    rows = tuple(_times(cycle, models) for cycle in row["medians_ns"])
    if not rows:
        raise ValueError("no cycle")
    return TurnProcess(
        medians_ns=rows,
        runs=_times(row["runs"], models),
        loaded=_places(row["loaded"], models),
        invalid_reasons=tuple(map(str, row["invalid_reasons"])),
        conditions=dict(row["conditions"]),
    )


def _places(values: Sequence[Any], models: int) -> tuple[int, ...]:
    found = tuple(values)
    if sorted(found) != list(range(models)):
        raise ValueError("not every model once")
    return found


def _times(values: Sequence[Any], models: int) -> tuple[int, ...]:
    found = tuple(values)
    if len(found) != models or not all(type(v) is int and 0 < v < _MOST for v in found):
        raise ValueError("not a number for each model")
    return found
