"""Holds files and results to account: constraints, placement, parity. Nothing is changed here."""

from __future__ import annotations

from edgeopt.verify.constraints import check
from edgeopt.verify.operations import requirement
from edgeopt.verify.placement import predict

__all__ = ["check", "predict", "requirement"]
