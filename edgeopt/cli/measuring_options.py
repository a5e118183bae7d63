"""The flags of measuring, and how they become an Effort."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli.options_base import fraction, option, stack

if TYPE_CHECKING:
    from edgeopt.effort import Effort

__all__ = ["device_python", "effort_request", "measuring", "running", "timeout", "wait"]


Callback = Callable[[click.Context, click.Parameter, Any], Any]


def _count(word: str, least: int) -> Callback:
    """A whole number, or the word that leaves it to edgeopt (None)."""

    def convert(ctx: click.Context, param: click.Parameter, value: Any) -> int | None:
        text = str(value).strip()
        if text == word:
            return None
        if not text.isdecimal() or int(text) < least:
            raise click.BadParameter(f"{value!r} is neither {word!r} nor a number from {least}.")
        return int(text)

    return convert


timeout = option(
    "--timeout",
    "timeout_s",
    env="TIMEOUT",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Deadline of the compiler, and of each process on the device.",
)
device_python = option(
    "--device-python",
    env="DEVICE_PYTHON",
    metavar="PATH",
    help="The device's Python that has the runtime, such as ~/venv/bin/python.",
)
_counts = stack(
    option(
        "--runs",
        env="RUNS",
        metavar="N",
        callback=_count("adaptive", 1),
        default="adaptive",
        show_default=True,
        help="Timed runs in all; adaptive: as many as --precision needs.",
    ),
    option(
        "--warmup",
        env="WARMUP",
        metavar="N",
        callback=_count("settled", 0),
        default="settled",
        show_default=True,
        help="Untimed runs first in each process; settled: until the times are steady.",
    ),
    option(
        "--precision",
        env="PRECISION",
        metavar="X",
        callback=fraction,
        default="1%",
        show_default=True,
        help="Full width of the median's 95% interval at which measuring ends.",
    ),
    option(
        "--processes",
        env="PROCESSES",
        metavar="N",
        type=click.IntRange(1, 1000),
        default=5,
        show_default=True,
        help="Processes on the device, one after the other.",
    ),
)
_times = stack(
    option(
        "--max-time",
        "max_time_s",
        env="MAX_TIME",
        metavar="SECONDS",
        type=click.FloatRange(0, min_open=True),
        default=30.0,
        show_default=True,
        help="Look for the precision so long for each model.",
    ),
    option(
        "--min-time",
        "min_time_s",
        env="MIN_TIME",
        metavar="SECONDS",
        type=click.FloatRange(0),
        help="At least so many seconds of timed runs, whatever --max-time says.",
    ),
    option(
        "--min-runs",
        env="MIN_RUNS",
        metavar="N",
        type=click.IntRange(1),
        help="At least so many timed runs, whatever --max-time says.",
    ),
    option(
        "--mlperf",
        env="MLPERF",
        is_flag=True,
        help="The least of MLPerf's single stream: 1024 runs and 60 s.",
    ),
    option(
        "--order-seed",
        env="ORDER_SEED",
        metavar="N",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Of the order in which processes are started.",
    ),
)
wait = option(
    "--wait",
    "wait_s",
    env="WAIT",
    type=click.FloatRange(0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a device that another has; 0: fail at once (exit 5).",
)
conditions = option(
    "--conditions",
    env="CONDITIONS",
    type=click.Choice(["judge", "report"]),
    default="judge",
    show_default=True,
    help="What makes a measurement invalid (throttled, shared cores, ...): fail, or only say so.",
)
preparing = stack(
    option(
        "--prepare",
        env="PREPARE",
        is_flag=True,
        help="Pin to the fastest cores and set the governor to performance; all is put back.",
    ),
    option(
        "--cores",
        env="CORES",
        metavar="LIST",
        help="Pin to these cores, such as 2-3,6; without --prepare nothing else is done.",
    ),
    option(
        "--retries",
        env="RETRIES",
        metavar="N",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Repeat an invalid measurement up to N times, after a cool-down.",
    ),
    option(
        "--cool-down",
        "cool_down_s",
        env="COOL_DOWN",
        metavar="SECONDS",
        type=click.FloatRange(0),
        default=60.0,
        show_default=True,
        help="Wait at most so long for a board to be as cool as it was.",
    ),
)
threads = option(
    "--threads",
    env="THREADS",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="CPU threads.",
)
programs = stack(
    option(
        "--benchmark-binary",
        env="BENCHMARK_BINARY",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="benchmark_model (a file, or a folder with its libraries) for devices without Python.",
    ),
    device_python,
    option(
        "--runtime",
        env="RUNTIME",
        metavar="NAME",
        help="litert, native (a small C program, no Python in the times) or benchmark_model."
        "  [default: the target's]",
    ),
    option(
        "--native-library",
        env="NATIVE_LIBRARY",
        type=click.Path(path_type=Path),
        metavar="WHEEL",
        help="An ai-edge-litert wheel for --runtime native on devices without Python.",
    ),
    option("--offline", env="OFFLINE", is_flag=True, help="Download nothing."),
)
running = stack(threads, timeout, wait, programs)  # of one run, however its effort is chosen
measuring = stack(
    _counts,
    _times,
    threads,
    timeout,
    wait,
    conditions,
    preparing,
    option(
        "--tolerance",
        type=click.FloatRange(min=0),
        metavar="X",
        help="Accepted difference from the host, in units of the output.",
    ),
    programs,
)
_EFFORT = ("runs", "warmup", "precision", "max_time_s", "processes")


def _given(name: str) -> bool:
    """Whether a flag stands on the command line itself."""
    context = click.get_current_context(silent=True)
    source = click.core.ParameterSource.COMMANDLINE
    return context is not None and context.get_parameter_source(name) is source


def effort_request(flags: dict[str, Any]) -> Effort:
    """The Effort of click's values, which it takes out of `flags`. Raises InputError."""
    from edgeopt.effort import MLPERF_RUNS, MLPERF_TIME_S, Effort
    from edgeopt.errors import InputError

    if flags.get("runs") is not None and _given("precision"):
        raise InputError(
            f"--runs {flags['runs']} is an exact number: --precision would have no say in it.",
            "Leave out one of them.",
        )
    asked = {key: flags.pop(key) for key in _EFFORT if key in flags}
    mlperf = flags.pop("mlperf", False)
    least_runs, least_s = flags.pop("min_runs", None), flags.pop("min_time_s", None)
    if "order_seed" in flags:
        asked["seed"] = flags.pop("order_seed")
    return Effort(
        min_runs=max(least_runs or 1, MLPERF_RUNS if mlperf else 1),
        min_time_s=max(least_s or 0.0, MLPERF_TIME_S if mlperf else 0.0),
        **asked,
    )
