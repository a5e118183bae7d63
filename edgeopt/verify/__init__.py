"""Holds files and results to account: constraints, placement, parity. Nothing is changed here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeopt.verify.constraints import check
    from edgeopt.verify.operations import requirement
    from edgeopt.verify.placement import predict

__all__ = ["check", "predict", "requirement"]

_WHERE = {"check": "constraints", "predict": "placement", "requirement": "operations"}


def __getattr__(name: str) -> Any:
    """Imported when first used: the process that measures accuracy needs none of it."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
