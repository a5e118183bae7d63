"""The flags of what is measured besides the latency: a profile, and a load."""

from __future__ import annotations

from typing import Any

import click

from edgeopt.cli.options_base import option, stack

__all__ = ["extra_request", "loading", "profiling"]

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
loading = stack(
    option(
        "--concurrency",
        env="CONCURRENCY",
        type=click.IntRange(1, 256),
        metavar="N",
        help="Also put a load on it: N requests at a time, each with its own interpreter.",
    ),
    option(
        "--batch",
        "load_batch",
        env="LOAD_BATCH",
        type=click.IntRange(1),
        metavar="B",
        help="Also with B samples a request, where the model leaves its batch open.",
    ),
    option(
        "--rate",
        env="RATE",
        type=click.FloatRange(0, min_open=True),
        metavar="QPS",
        help="Also with so many requests a second, at random times, and not as fast as it can.",
    ),
    option(
        "--load-time",
        env="LOAD_TIME",
        type=click.FloatRange(0, min_open=True),
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="How long the load lasts.",
    ),
)


def extra_request(flags: dict[str, Any]) -> dict[str, Any]:
    """The fields of a Job that these flags come to, which it takes out of `flags`."""
    asked: dict[str, Any] = {}
    if flags.pop("profiled", False):
        asked["profile"] = _AS_MEASURED
    load = {
        "concurrency": flags.pop("concurrency", None),
        "batch": flags.pop("load_batch", None),
        "rate": flags.pop("rate", None),
    }
    time_s = flags.pop("load_time", None)
    given = {key: value for key, value in load.items() if value is not None}
    if given:
        from edgeopt.load import Load

        asked["load"] = Load(**given, time_s=time_s)
    return asked
