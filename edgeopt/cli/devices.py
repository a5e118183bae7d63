"""`edgeopt devices`: which boards there are, and what state they are in."""

from __future__ import annotations

import click

from edgeopt.cli import devices_each, leases, options, output
from edgeopt.cli.fleet_options import Devices, folders
from edgeopt.errors import DeviceError

__all__ = ["devices"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def devices() -> None:
    """List, examine, clean, reserve and trust devices.

    Devices are named in devices.toml (working folder, then the user's configuration folder), or
    written as ssh://user@host[:port], adb://SERIAL or local.
    """


for _command in (leases.leases, leases.reserve, leases.release):
    devices.add_command(_command)


@devices.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """Every device of devices.toml, and this machine."""
    from edgeopt.device import list_devices, resolve

    found = [*list_devices(folders()), resolve("local", folders=())]
    if as_json:
        rows = [
            {"name": d.name, "kind": d.kind, "url": d.url, "target": d.target, "tags": list(d.tags)}
            for d in found
        ]
        output.emit("devices", {"devices": rows})
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("device", "kind", "address", "target", "tags"):
        table.add_column(name, overflow="fold")
    for d in found:
        table.add_row(d.name, d.kind, d.url, d.target or "", ", ".join(d.tags))
    output.stdout().print(table)


@devices.command("show")
@devices_each.devices_argument
@options.as_json
def show(device: tuple[str, ...], tags: tuple[str, ...], jobs: int | None, as_json: bool) -> None:
    """Connect to DEVICE and show what it is. Several (a b, a,b or all) are asked at once."""
    one = devices_each.chosen(device, tags, jobs)
    if isinstance(one, Devices):
        return devices_each.each(one, devices_each.show, as_json=as_json)
    found = devices_each.show(one)
    return output.emit("devices", found) if as_json else devices_each.say_facts(found)


@devices.command("doctor")
@devices_each.devices_argument
@options.as_json
def doctor(device: tuple[str, ...], tags: tuple[str, ...], jobs: int | None, as_json: bool) -> None:
    """Check that DEVICE can be reached, written to and can run models (exit 5 when not).

    Several (a b, a,b or all) are examined at once.
    """
    one = devices_each.chosen(device, tags, jobs)
    if isinstance(one, Devices):
        return devices_each.each(one, devices_each.doctor, as_json=as_json)
    try:
        found = devices_each.doctor(one)
    except DeviceError as error:
        if error.reached and not as_json:
            output.checks(error.reached["checks"])
        raise
    return output.emit("devices", found) if as_json else output.checks(found["checks"])


@devices.command("clean")
@devices_each.devices_argument
@options.as_json
def clean(device: tuple[str, ...], tags: tuple[str, ...], jobs: int | None, as_json: bool) -> None:
    """Remove everything that edgeopt left on DEVICE, or on each of several (a b, a,b or all)."""
    from edgeopt.report.units import bytes_text

    one = devices_each.chosen(device, tags, jobs)
    if isinstance(one, Devices):
        return devices_each.each(one, devices_each.clean, as_json=as_json)
    found = devices_each.clean(one)
    if as_json:
        return output.emit("devices", found)
    text = f"{found['name']}: {bytes_text(found['freed_bytes'])} freed"
    return output.stdout().print(text, markup=False)


@devices.command("pin")
@click.argument("device")
@click.option(
    "--fingerprint", required=True, metavar="SHA256:...", help="As read on the device itself."
)
@options.as_json
def pin(device: str, fingerprint: str, as_json: bool) -> None:
    """Trust DEVICE's SSH host key when its fingerprint is the one given."""
    from edgeopt.device import resolve
    from edgeopt.device.ssh.host_keys import pin as trust

    spec = resolve(device, folders=folders())
    trust(spec, fingerprint)
    if as_json:
        output.emit("devices", {"name": spec.name, "pinned": fingerprint})
    else:
        output.stdout().print(f"{spec.name}: {fingerprint} is trusted from now on", markup=False)
