"""Every error that edgeopt raises on purpose; the class says who must act, and the exit code.

EdgeoptError(message, hint)
|- InputError   2  bad arguments, profile, target, configuration, plug-in or data set
|- ModelError   3  unreadable model, constraint violations, placement, parity, accuracy
|- ToolError    4  a tool that is missing or that failed (argv, return code, log kept)
|- DeviceError  5  unreachable, host key, transfer, command, agent, busy
|- ResultError  6  measurement invalid, regression

0 is success, 1 a bug of ours, 130 Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

__all__ = ["DeviceError", "EdgeoptError", "InputError", "ModelError", "ResultError", "ToolError"]


class EdgeoptError(Exception):
    """What happened to what (`message`), and what to do next (`hint`).

    `details` is added to the JSON error document: plain JSON values only. `reached` is what the
    work had come to before it failed: a report, or fields for the verb's JSON document.
    """

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "error"

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        details: dict[str, Any] | None = None,
        reached: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details: dict[str, Any] = details or {}
        self.reached = reached

    def to_json(self) -> dict[str, Any]:
        """The `error` object of the JSON document."""
        return {
            "kind": self.kind,
            "message": self.message,
            "hint": self.hint,
            "exit_code": self.exit_code,
            "details": self.details,
        }

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InputError(EdgeoptError):
    """The user's arguments, profile, target, configuration, plug-in or data set are wrong."""

    exit_code = 2
    kind = "input"


class ModelError(EdgeoptError):
    """The model cannot be read, or breaks a rule of the target."""

    exit_code = 3
    kind = "model"


class ToolError(EdgeoptError):
    """An outside tool is missing or failed."""

    exit_code = 4
    kind = "tool"

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        argv: Sequence[str] = (),
        returncode: int | None = None,
        log: Path | None = None,
        details: dict[str, Any] | None = None,
        reached: Any = None,
    ) -> None:
        super().__init__(message, hint, details=details, reached=reached)
        self.argv = tuple(argv)
        self.returncode = returncode
        self.log = log
        self.details.setdefault("argv", list(self.argv))
        self.details.setdefault("returncode", returncode)
        self.details.setdefault("log", str(log) if log else None)


class DeviceError(EdgeoptError):
    """The device cannot be reached, trusted, written to, or did not do what it was told."""

    exit_code = 5
    kind = "device"


class ResultError(EdgeoptError):
    """A measurement that must not be believed, or a regression."""

    exit_code = 6
    kind = "result"
