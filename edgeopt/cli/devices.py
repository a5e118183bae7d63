"""`edgeopt devices`: which boards there are, and what state they are in."""

from __future__ import annotations

from pathlib import Path

import click

from edgeopt.cli import leases, options, output
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


def _folders() -> tuple[Path, ...]:
    from edgeopt.paths import config_dir

    return Path.cwd(), config_dir()


@devices.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """Every device of devices.toml, and this machine."""
    from edgeopt.device import list_devices, resolve

    found = [*list_devices(_folders()), resolve("local", folders=())]
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
@click.argument("device")
@options.as_json
def show(device: str, as_json: bool) -> None:
    """Connect to DEVICE and show what it is."""
    from edgeopt.device import reached, resolve

    spec = resolve(device, folders=_folders())
    with reached(spec) as connected:
        facts = dict(connected.facts())
    if as_json:
        output.emit(
            "devices", {"name": spec.name, "kind": spec.kind, "url": spec.url, "facts": facts}
        )
        return
    console = output.stdout()
    console.print(f"[bold cyan]{spec.name}[/]  {spec.url}")
    for key, value in sorted(facts.items()):
        console.print(f"  {key:<18} {'-' if value is None else value}", markup=False)


@devices.command("doctor")
@click.argument("device")
@options.as_json
def doctor(device: str, as_json: bool) -> None:
    """Check that DEVICE can be reached, written to and can run models (exit 5 when not)."""
    from edgeopt.device import reached, resolve
    from edgeopt.device.doctor import doctor as examine

    spec = resolve(device, folders=_folders())
    with reached(spec) as connected:
        checks = examine(connected)
    failed = [c for c in checks if not c.ok]
    rows = [c.to_json() for c in checks]
    content = {"name": spec.name, "kind": spec.kind, "url": spec.url, "checks": rows}
    if not as_json:
        output.checks(rows)
    if failed:
        raise DeviceError(
            f"{spec.name}: {len(failed)} of {len(checks)} checks failed ({failed[0].name}).",
            failed[0].hint,
            reached=content,
        )
    if as_json:
        output.emit("devices", content)


@devices.command("clean")
@click.argument("device")
@options.as_json
def clean(device: str, as_json: bool) -> None:
    """Remove everything that edgeopt left on DEVICE."""
    from edgeopt.device import clean as empty
    from edgeopt.device import held, resolve
    from edgeopt.report.units import bytes_text

    spec = resolve(device, folders=_folders())
    with held(spec, purpose="devices clean", wait_s=0) as connected:
        freed = empty(connected)
    if as_json:
        output.emit("devices", {"name": spec.name, "freed_bytes": freed})
    else:
        output.stdout().print(f"{spec.name}: {bytes_text(freed)} freed", markup=False)


@devices.command("pin")
@click.argument("device")
@click.option(
    "--fingerprint", required=True, metavar="SHA256:...", help="As read on the device itself."
)
@options.as_json
def pin(device: str, fingerprint: str, as_json: bool) -> None:
    """Trust DEVICE's SSH host key when its fingerprint is the one given."""
    from edgeopt.device import resolve
    from edgeopt.device.host_keys import pin as trust

    spec = resolve(device, folders=_folders())
    trust(spec, fingerprint)
    if as_json:
        output.emit("devices", {"name": spec.name, "pinned": fingerprint})
    else:
        output.stdout().print(f"{spec.name}: {fingerprint} is trusted from now on", markup=False)
