"""The flags of what is measured besides the latency: a profile, and a load."""

from __future__ import annotations

from typing import Any

from edgeopt.cli.options_base import option, stack

__all__ = ["extra_request", "profiling"]

_AS_MEASURED = "xnnpack"

profiling = stack(
    option(
        "--profile",
        "profiled",
        is_flag=True,
        env="PROFILE",
        help="Also say where the time goes, per operation and layer (see edgeopt profile).",
    ),
)


def extra_request(flags: dict[str, Any]) -> dict[str, Any]:
    """The fields of a Job that these flags come to, which it takes out of `flags`."""
    asked: dict[str, Any] = {}
    if flags.pop("profiled", False):
        asked["profile"] = _AS_MEASURED
    return asked
