"""`devices show`, `doctor` and `clean`: what is done with one device, and with several at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli import output
from edgeopt.cli.fleet_options import Devices, folders, tags_beside
from edgeopt.errors import DeviceError, InputError

if TYPE_CHECKING:
    from edgeopt.cli.perform_all import Told
    from edgeopt.device import DeviceSpec
    from edgeopt.progress import Progress, Several
    from edgeopt.report.fleet import FleetReport

__all__ = ["chosen", "clean", "doctor", "each", "show"]

Examine = Callable[["DeviceSpec"], dict[str, Any]]


def chosen(words: tuple[str, ...], tags: tuple[str, ...], jobs: int | None) -> Devices | DeviceSpec:
    """One device where one is named, else several. Raises InputError for what names none."""
    from edgeopt.device import resolve
    from edgeopt.device.selection import is_plural, select

    text, tags = ",".join(words) or None, tags_beside(words, tags)
    if is_plural(text, tags):
        return Devices(selection=select(text, tags, folders=folders()), jobs=jobs)
    if text is None:
        raise InputError("No device is named.", "Name it, or give all, or --tag TAG.")
    return resolve(text, folders=folders())


def each(devices: Devices, examine: Examine, *, as_json: bool) -> None:
    """The same for every device at once: a row each, and the worst exit code of all."""
    from edgeopt.cli.perform_all import perform_all
    from edgeopt.pipeline.fleet import Fleet

    def work(show: Several, told: Told) -> FleetReport:
        with Fleet(devices.selection, show, jobs=devices.jobs, disturbed=False) as fleet:
            for one in devices.selection.devices:
                fleet.start(one, partial(_one, examine, one.spec))
            return fleet.finish()

    perform_all("devices", work, devices, as_json=as_json)


def _one(examine: Examine, spec: DeviceSpec, progress: Progress) -> dict[str, Any]:
    progress.stage("Asking it")
    return examine(spec)


def show(spec: DeviceSpec) -> dict[str, Any]:
    """`facts` of a device that answers."""
    from edgeopt.device import reached

    with reached(spec) as connected:
        return {**_who(spec), "facts": dict(connected.facts())}


def doctor(spec: DeviceSpec) -> dict[str, Any]:
    """`checks` of a device. Raises DeviceError, which has them too, when one of them fails."""
    from edgeopt.device import reached
    from edgeopt.device.doctor import doctor as examine

    with reached(spec) as connected:
        checks = examine(connected)
    content = {**_who(spec), "checks": [check.to_json() for check in checks]}
    if failed := [check for check in checks if not check.ok]:
        raise DeviceError(
            f"{spec.name}: {len(failed)} of {len(checks)} checks failed ({failed[0].name}).",
            failed[0].hint,
            reached=content,
        )
    return content


def clean(spec: DeviceSpec) -> dict[str, Any]:
    """`freed_bytes` of what edgeopt left there."""
    from edgeopt.device import clean as empty
    from edgeopt.device import held

    try:
        with held(spec, purpose="devices clean", wait_s=0) as connected:
            return {"name": spec.name, "freed_bytes": empty(connected)}
    except DeviceError as error:
        if "full" not in error.details:
            raise
    return _clean_full(spec)


def _clean_full(spec: DeviceSpec) -> dict[str, Any]:
    """No space is left for a lease, so nobody else can take one now: it is enough that none has."""
    from edgeopt.device import clean as empty
    from edgeopt.device import reached
    from edgeopt.device.leasing.holding import board_of

    with reached(spec) as connected:
        board_of(connected).refuse_others()
        return {"name": spec.name, "freed_bytes": empty(connected)}


def _who(spec: DeviceSpec) -> dict[str, Any]:
    return {"name": spec.name, "kind": spec.kind, "url": spec.url}


def say_facts(found: dict[str, Any]) -> None:
    console = output.stdout()
    console.print(f"[bold cyan]{found['name']}[/]  {found['url']}")
    for key, value in sorted(found["facts"].items()):
        console.print(f"  {key:<18} {'-' if value is None else value}", markup=False)


def devices_argument(function: Callable[..., None]) -> Callable[..., None]:
    """DEVICE..., --tag and --jobs."""
    from edgeopt.cli.fleet_options import several

    return click.argument("device", metavar="DEVICE...", nargs=-1)(several(function))
