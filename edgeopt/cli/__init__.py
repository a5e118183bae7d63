"""The command line. This file answers `edgeopt --help` by itself, so that it is instant."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """The console script. Returns the exit code (the bands are in edgeopt/errors.py)."""
    arguments = sys.argv[1:]
    if arguments in ([], ["--help"], ["-h"]):
        from edgeopt.cli.help import HELP

        sys.stdout.write(HELP)
        return 0
    if arguments == ["--version"]:
        from edgeopt import __version__

        sys.stdout.write(f"edgeopt {__version__}\n")
        return 0
    try:
        from edgeopt.cli.app import run

        return run(arguments)
    except KeyboardInterrupt:  # while the verbs were being imported: nothing had begun
        return 130
