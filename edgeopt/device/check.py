"""One line of a device's doctor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Check"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """What does not apply or cannot be told is no failure: `ok` is True, `found` says so.

    `warning` marks what works and could be better; `details` are for programs, plain JSON.
    """

    name: str
    ok: bool
    found: str
    hint: str = ""
    warning: bool = False
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))
