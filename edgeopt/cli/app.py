"""The verbs, and the one place where errors become words and exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from types import FrameType
from typing import Any

import click

from edgeopt import __version__
from edgeopt.cli import output
from edgeopt.cli.settings import default_map
from edgeopt.errors import EdgeoptError

__all__ = ["VERBS", "app", "run"]

# verb: module (command object of the same name in it). In the order of the work.
VERBS = {
    "deploy": "edgeopt.cli.deploy",
    "inspect": "edgeopt.cli.inspect",
    "plan": "edgeopt.cli.plan",
    "convert": "edgeopt.cli.convert",
    "fix": "edgeopt.cli.fix",
    "compile": "edgeopt.cli.compile",
    "tune": "edgeopt.cli.tune",
    "evaluate": "edgeopt.cli.evaluate",
    "benchmark": "edgeopt.cli.benchmark",
    "profile": "edgeopt.cli.profile",
    "table": "edgeopt.cli.table",
    "compare": "edgeopt.cli.compare",
    "targets": "edgeopt.cli.targets",
    "devices": "edgeopt.cli.devices",
    "compiler": "edgeopt.cli.compiler",
    "doctor": "edgeopt.cli.doctor",
}


class _Verbs(click.Group):
    """Loads a verb's module only when it is called, or when help lists them all."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = getattr(import_module(VERBS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in VERBS and not args[0].startswith("-"):
            near = get_close_matches(args[0], VERBS, 1)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"There is no verb {args[0]!r}.{guess}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
    epilog="Exit codes: 0 success, 2 your input, 3 the model, 4 a missing or failed tool, "
    "5 the device, 6 a result that must not be believed.",
)
@click.version_option(__version__, prog_name="edgeopt", message="%(prog)s %(version)s")
def app() -> None:
    """Take a trained model to real edge hardware, and prove what it does there."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; everything that ends early is told here."""
    verb = next((a for a in arguments if a in VERBS), "edgeopt")
    reporter = output.ErrorReporter(verb=verb, as_json="--json" in arguments)
    try:
        with _terminated_as_interrupt():
            settings = default_map()
            app.main(
                list(arguments),
                prog_name="edgeopt",
                standalone_mode=False,
                default_map=dict.fromkeys(VERBS, settings),
            )
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        return reporter.usage(error)
    except EdgeoptError as error:
        return reporter.ours(error)
    except (KeyboardInterrupt, click.Abort) as stop:
        ended = isinstance(stop, _Terminated) or isinstance(stop.__cause__, _Terminated)
        cause = stop if isinstance(stop, KeyboardInterrupt) else stop.__cause__
        return reporter.interrupted(143 if ended else 130, getattr(cause, "reached", None))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or error.filename is not None:
            return reporter.bug(error, traceback.format_exc())
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return reporter.full()
    except Exception as error:  # noqa: BLE001 - the command line ends here
        return reporter.bug(error, traceback.format_exc())
    return 0


class _Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: cleaned up like Ctrl-C."""


@contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    def handler(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    previous: dict[int, Any] = {}
    ends: tuple[int, ...] = (signal.SIGTERM, signal.SIGHUP)
    for number in ends:
        try:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                previous[number] = signal.signal(number, handler)
        except ValueError:  # not the main thread: called as a library
            break
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
