"""The flags of the Edge TPU compiler by their edgeopt names, and how they become a Job's."""

from __future__ import annotations

from typing import Any

import click

from edgeopt.cli.options_base import option, stack

__all__ = ["compiler", "compiler_place", "compiler_request"]

# flag's parameter: the compiler option that it sets (edgeopt/compile/edgetpu_flags.py)
_VALUES = {
    "min_runtime_version": "min_runtime_version",
    "num_segments": "num_segments",
    "intermediate_tensors": "intermediate_tensors",
    "delegate_search_step": "search_step",
    "attempt_timeout": "attempt_timeout_s",
}
_SWITCHES = ("search_delegate", "retry_search_delegate", "multiple_subgraphs")

compiler_place = option(
    "--compiler",
    env="COMPILER",
    metavar="WHERE",
    help="Edge TPU compiler: PATH, container:IMAGE or ssh://user@host (default: PATH search, then "
    "`edgeopt compiler install`).",
)
compiler = stack(
    compiler_place,
    option(
        "--search-delegate",
        is_flag=True,
        help="Let the Edge TPU compiler retry with ever fewer operations.",
    ),
    option(
        "--delegate-search-step",
        type=click.IntRange(1),
        metavar="N",
        help="Operations dropped per retry (means --search-delegate); the compiler's default is 1.",
    ),
    option(
        "--retry-search-delegate",
        is_flag=True,
        help="Try as it is, and with --search-delegate only after a timeout or too large "
        "activations.",
    ),
    option(
        "--min-runtime-version",
        type=click.IntRange(10, 14),
        metavar="N",
        help="Lowest Edge TPU runtime to stay compatible with (12 or newer for int8).",
    ),
    option(
        "--num-segments",
        type=click.IntRange(2),
        metavar="N",
        help="Split the model for a pipeline of N Edge TPUs.",
    ),
    option(
        "--intermediate-tensors",
        metavar="A,B",
        help="Cut the Edge TPU part at these tensors; what follows runs on the CPU.",
    ),
    option(
        "--attempt-timeout",
        type=click.IntRange(1),
        metavar="SECONDS",
        help="The compiler's own limit for each attempt or segment (its default: 180).",
    ),
    option(
        "--multiple-subgraphs",
        is_flag=True,
        help="Experimental: several Edge TPU subgraphs. May be ten times slower; measure it.",
    ),
)


def compiler_request(flags: dict[str, Any]) -> dict[str, str]:
    """Take these flags out of click's values: compiler options by name, as text."""
    found = {
        name: str(value)
        for flag, name in _VALUES.items()
        if (value := flags.pop(flag, None)) is not None
    }
    return found | {name: "true" for name in _SWITCHES if flags.pop(name, False)}
