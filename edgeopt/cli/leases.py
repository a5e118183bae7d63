"""`edgeopt devices leases|reserve|release`: who has which board, and having one for longer."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli import options, output
from edgeopt.cli.fleet_options import folders, tag, tags_beside
from edgeopt.errors import EdgeoptError

if TYPE_CHECKING:
    from edgeopt.device import DeviceSpec

__all__ = ["leases", "release", "reserve"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_S = 30 * 86_400
_AT_ONCE = 16
_ANSWER_S = 10.0


def _span(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """90m, 2h, 1d or seconds, as seconds."""
    found = re.fullmatch(r"([0-9]{1,7})([smhd]?)", value.strip())
    seconds = int(found.group(1)) * _UNITS[found.group(2) or "s"] if found else 0
    if not 1 <= seconds <= _LONGEST_S:
        raise click.BadParameter(f"{value!r} is not a time such as 90m, 2h or 1d (at most 30d).")
    return seconds


def _span_text(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds} s"


@click.command("leases")
@click.argument("device", metavar="[DEVICE...]", nargs=-1)
@tag
@options.as_json
def leases(device: tuple[str, ...], tags: tuple[str, ...], as_json: bool) -> None:
    """Who has what: the lease on each DEVICE (a b, a,b or all), or on every device of devices.toml.

    It ends at the time shown unless its owner shows before that it still runs.
    """
    wanted = _wanted(",".join(device) or None, tags_beside(device, tags))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        rows = list(pool.map(_row, wanted))
    if as_json:
        output.emit("devices", {"devices": rows})
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("device", "state", "owner", "purpose", "since", "ends"):
        table.add_column(name, overflow="fold")
    for row in rows:
        lease = row["lease"] or {}
        ends = f"{_span_text(lease['expires_in_s'])} from now" if "expires_in_s" in lease else ""
        said = row["error"]["message"] if row["error"] else lease.get("purpose", "")
        cells = (row["name"], row["state"], lease.get("owner", ""), said, lease.get("since", ""))
        table.add_row(*(Text(str(cell)) for cell in (*cells, ends)))
    output.stdout().print(table)


def _wanted(text: str | None, tags: tuple[str, ...]) -> list[DeviceSpec]:
    """The devices named, else all there are, which may be none."""
    from edgeopt.device import list_devices, resolve
    from edgeopt.device.selection import is_plural, select

    where = folders()
    if is_plural(text, tags):
        return [chosen.spec for chosen in select(text, tags, folders=where).devices]
    return list_devices(where) if text is None else [resolve(text, folders=where)]


def _row(spec: DeviceSpec) -> dict[str, Any]:
    from edgeopt.device.device import connect
    from edgeopt.device.leasing import labgrid
    from edgeopt.device.leasing.holding import board_of

    row: dict[str, Any] = {"name": spec.name, "url": spec.url, "lease": None, "error": None}
    try:
        if spec.labgrid and (owner := labgrid.holder(spec)):
            return row | {"state": "held", "lease": {"owner": owner, "purpose": "labgrid"}}
        if spec.labgrid and not spec.host:
            return row | {"state": "free"}
        with connect(spec, timeout_s=_ANSWER_S) as device:
            live = [lease for lease in board_of(device).leases() if lease.live]
    except EdgeoptError as error:
        return row | {"state": "unreachable", "error": error.to_json()}
    return row | {
        "state": "held" if live else "free",
        "lease": live[0].to_json() if live else None,
    }


@click.command("reserve")
@click.argument("device")
@click.option("--for", "for_s", required=True, metavar="TIME", callback=_span, help="90m, 2h, 1d.")
@click.option("--purpose", default="", metavar="TEXT", help="What others are told.")
@click.option("--wait", "wait_s", type=click.FloatRange(0), default=0.0, metavar="SECONDS")
@options.as_json
def reserve(device: str, for_s: int, purpose: str, wait_s: float, as_json: bool) -> None:
    """Keep DEVICE for yourself: your own runs from this machine use it, others wait.

    A device of labgrid is reserved there (labgrid-client acquire).
    """
    from edgeopt.device import resolve
    from edgeopt.device.device import connect
    from edgeopt.device.leasing import holding

    spec = _own(resolve(device, folders=folders()))
    with output.progress() as progress, connect(spec) as connected:
        lease = holding.reserve(
            connected, purpose=purpose, for_s=for_s, wait_s=wait_s, progress=progress
        )
    if as_json:
        output.emit("devices", {"name": spec.name, "lease": lease.to_json()})
    else:
        ending = f"edgeopt devices release {spec.name} ends it"
        output.stdout().print(f"{spec.name}: yours for {_span_text(for_s)}; {ending}", markup=False)


@click.command("release")
@click.argument("device")
@click.option("--force", is_flag=True, help="Others' leases too: their runs count no more.")
@options.as_json
def release(device: str, force: bool, as_json: bool) -> None:
    """End your reservation of DEVICE."""
    from edgeopt.device import resolve
    from edgeopt.device.device import connect
    from edgeopt.device.leasing import holding

    spec = _own(resolve(device, folders=folders()))
    with connect(spec) as connected:
        ended = holding.release(connected, force=force)
    if as_json:
        rows = [lease.to_json() for lease in ended]
        output.emit("devices", {"name": spec.name, "released": rows})
    else:
        for lease in ended:
            output.stdout().print(f"{spec.name}: ended ({lease})", markup=False)


def _own(spec: DeviceSpec) -> DeviceSpec:
    """Raises InputError for a device whose reservations are labgrid's."""
    from edgeopt.errors import InputError

    if spec.labgrid:
        raise InputError(
            f"{spec.name} is the labgrid place {spec.labgrid!r}, which labgrid reserves.",
            f"Use labgrid-client -p {spec.labgrid} acquire and release.",
        )
    return spec
