"""The flags that name several devices, and which devices they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli.options_base import option, stack

if TYPE_CHECKING:
    from edgeopt.device.selection import Selection

__all__ = ["Devices", "DeviceWords", "devices_of", "folders", "several", "tag", "tags_beside"]


def _joined(ctx: click.Context, param: click.Parameter, words: Sequence[str]) -> str | None:
    return ",".join(words) if words else None


class DeviceWords(click.Option):
    """An option that may be repeated; its value is one text, the words joined by commas."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings |= {"multiple": True, "callback": _joined}
        super().__init__(*args, **settings)

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        return super().type_cast_value(ctx, (value,) if isinstance(value, str) else value)

    def value_from_envvar(self, ctx: click.Context) -> Any:
        return self.resolve_envvar_value(ctx)  # not split at blanks: commas separate


tag = option(
    "--tag",
    "tags",
    env="TAG",
    multiple=True,
    metavar="TAG",
    help="Of all devices those with this tag (repeatable: with all of them).",
)
several = stack(
    tag,
    option(
        "--jobs",
        env="JOBS",
        type=click.IntRange(1),
        metavar="N",
        help="Devices at work at a time.  [default: all]",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Devices:
    """The devices that were asked for together, and how many may work at a time."""

    selection: Selection
    jobs: int | None


def folders() -> tuple[Path, ...]:
    """Where devices.toml is looked for."""
    from edgeopt.paths import config_dir

    return Path.cwd(), config_dir()


def devices_of(flags: dict[str, Any]) -> Devices | None:
    """Takes tags and jobs out of `flags`; None where one device, or none, is named.

    Then `device` stays in the flags; else it is taken out too. What is said nearer to the command
    wins: --tag over a device of the environment or edgeopt.toml, and --device over tags of theirs.
    Raises InputError for devices and tags that there are not.
    """
    from edgeopt.device.selection import is_plural, select

    tags, jobs = tuple(flags.pop("tags", ())), flags.pop("jobs", None)
    text = flags.get("device")
    if tags and text is not None:
        nearness = _nearness("device"), _nearness("tags")
        if nearness[0] < nearness[1]:
            text = None
        elif nearness[0] > nearness[1]:
            tags = ()
    if not is_plural(text, tags):
        return None
    flags["device"] = None
    return Devices(selection=select(text, tags, folders=folders()), jobs=jobs)


def tags_beside(words: Sequence[str], tags: tuple[str, ...]) -> tuple[str, ...]:
    """The tags that hold where devices are named on the command line: not those of a default."""
    near = click.core.ParameterSource.COMMANDLINE
    said = click.get_current_context().get_parameter_source("tags") is near
    return tags if said or not words else ()


def _nearness(name: str) -> int:
    sources = click.core.ParameterSource
    order = (sources.DEFAULT, sources.DEFAULT_MAP, sources.ENVIRONMENT, sources.COMMANDLINE)
    source = click.get_current_context().get_parameter_source(name)
    return order.index(source) if source in order else len(order)
