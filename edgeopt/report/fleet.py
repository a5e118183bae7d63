"""Several devices: a row each, with everything that a single report has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeopt import __version__
from edgeopt.errors import (
    DeviceError,
    EdgeoptError,
    InputError,
    ModelError,
    ResultError,
    ToolError,
)

__all__ = ["DeviceRow", "FleetReport", "error_of_all", "worst"]

_STOPPED = 128  # and above: the work was ended by a signal
_KINDS: dict[int, type[EdgeoptError]] = {
    kind.exit_code: kind for kind in (InputError, ModelError, ToolError, DeviceError, ResultError)
}


@dataclass(frozen=True, kw_only=True)
class DeviceRow:
    """What became of one device. `reached` is the Report, or the fields of the verb's document,
    as far as it came; `error` the error object of what ended it, None when all is well."""

    name: str
    url: str
    kind: str
    tags: tuple[str, ...] = ()
    reached: Any = None
    error: Mapping[str, Any] | None = None
    seconds: float | None = None  # of its own work; None: it never began

    @property
    def exit_code(self) -> int:
        """What a run for this device alone would have ended with."""
        return int(self.error["exit_code"]) if self.error else 0

    def content(self) -> dict[str, Any]:
        """The fields of the single document, as far as it came."""
        reached = self.reached.to_json() if hasattr(self.reached, "to_json") else self.reached
        return dict(reached or {})

    def to_json(self) -> dict[str, Any]:
        return {
            **self.content(),
            "name": self.name,
            "url": self.url,
            "kind": self.kind,
            "tags": list(self.tags),
            "status": "failed" if self.error else "ok",
            "exit_code": self.exit_code,
            "error": dict(self.error) if self.error else None,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
        }


@dataclass(frozen=True, kw_only=True)
class FleetReport:
    """The rows that are known, in the order of the devices asked for; `pending` are the names of
    those that are still at work."""

    rows: tuple[DeviceRow, ...]
    pending: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[DeviceRow, ...]:
        return tuple(row for row in self.rows if row.error)

    @property
    def exit_code(self) -> int:
        return worst(row.exit_code for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        return {
            "edgeopt": __version__,
            "devices": [row.to_json() for row in self.rows],
            "exit_code": self.exit_code,
            "error": self._error(),
            "complete": not self.pending,
            "pending": list(self.pending),
            "notes": list(self.notes),
        }

    def failure(self) -> EdgeoptError | None:
        """The error of the whole, None when every row is well."""
        failed = [(row.name, row.error) for row in self.rows if row.error]
        of = len(self.rows) + len(self.pending)
        return error_of_all("device", failed, of=of, reached=self)

    def _error(self) -> dict[str, Any] | None:
        """A file of a run that was stopped says so itself: nobody adds it there."""
        if self.exit_code < _STOPPED:
            failure = self.failure()
            return failure.to_json() if failure else None
        many = sum(row.exit_code >= _STOPPED for row in self.rows)
        of = len(self.rows) + len(self.pending)
        return {
            "kind": "interrupted",
            "message": f"Stopped before the end on {many} of {of} device{'s' * (of > 1)}.",
            "hint": "",
            "exit_code": self.exit_code,
            "details": {},
        }


def error_of_all(
    what: str, failed: Sequence[tuple[str, Mapping[str, Any]]], *, of: int, reached: Any
) -> EdgeoptError | None:
    """One error of the worst kind for several rows that failed, named with their error objects."""
    if not failed:
        return None
    codes = {name: int(error["exit_code"]) for name, error in failed}
    shown = ", ".join(f"{name} (exit {code})" for name, code in codes.items())
    exit_code = worst(codes.values())
    kind, many = _KINDS.get(exit_code, EdgeoptError), len(failed)
    return kind(
        f"{many} of {of} {what}{'s' * (of > 1)} failed: {shown}.",
        str(failed[0][1]["hint"]) if many == 1 else "Each has its own reason and hint in its row.",
        details={"failed": [{"name": name, "exit_code": code} for name, code in codes.items()]},
        reached=reached,
    )


def worst(codes: Iterable[int]) -> int:
    """The exit code of several: 0 when all are 0, 130 when one was stopped, else the smallest.

    A smaller code is who must act first: a bug (1), the call (2), the model (3) or a tool (4)
    fails again on every retry; a device (5) or a measurement (6) may not.
    """
    failed = [code for code in codes if code]
    stopped = [code for code in failed if code >= _STOPPED]
    return max(stopped, default=min(failed, default=0))
