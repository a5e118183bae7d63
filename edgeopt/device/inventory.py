"""Which device a word means: an address, or a name from devices.toml.

schema = 1
[devices.bench-pi]
url = "ssh://pi@10.0.0.5"
key = "~/.ssh/bench"
target = "raspberry-pi-5"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from edgeopt import registry
from edgeopt.device.address import Address, parse, redacted
from edgeopt.device.devices_toml import FILE_NAME, Entry, read_entries
from edgeopt.device.edgetpu.options import delegate_options
from edgeopt.errors import InputError

__all__ = ["DEFAULT_CACHE_BYTES", "DeviceSpec", "list_devices", "resolve"]

DEFAULT_CACHE_BYTES = 512 << 20  # enough for a dozen large models, small beside any SD card


@dataclass(frozen=True, kw_only=True)
class DeviceSpec:
    """A device before it is connected: everything the user and the target said about it.

    `python` and `workdir` are on the device, `key_file` and `benchmark_binary` on this machine.
    None means "the transport's default".
    """

    name: str
    kind: str  # "local", "ssh", "adb" or a plug-in's
    host: str | None = None
    port: int | None = None
    user: str | None = None
    serial: str | None = None
    key_file: Path | None = None
    python: str | None = None
    workdir: str | None = None
    cache_limit_bytes: int = DEFAULT_CACHE_BYTES
    benchmark_binary: Path | None = None
    runtime: str | None = None
    target: str | None = None
    tags: tuple[str, ...] = ()
    labgrid: str | None = None  # a place, whose lock is taken and whose address may be used
    labgrid_coordinator: str | None = None  # HOST[:PORT]; None: labgrid's own default
    lease_dir: str | None = None  # on the device, for several logins; None: the work folder
    edgetpu_device: str | None = None  # "", "usb", "pci", ":N", "usb:N", "pci:N"
    prepare_command: tuple[str, ...] = ()  # before what writes to /sys there, e.g. sudo -n
    edgetpu_performance: str | None = None  # "Low", "Medium", "High", "Max"

    def __post_init__(self) -> None:
        if self.kind == "ssh" and not self.host and not self.labgrid:
            raise InputError(f"{self.name} has no host.", "Write ssh://user@host[:port].")
        if self.kind == "adb" and not self.serial:
            raise InputError(f"{self.name} has no serial.", "Write adb://SERIAL.")
        delegate_options(self.edgetpu_device or "", self.edgetpu_performance or "")
        text = self.workdir or ""
        other_home = text.startswith("~") and not text.startswith("~/")
        if self.workdir is not None and (other_home or not self.workdir.strip("/ ~.")):
            raise InputError(
                f"{self.workdir!r} cannot be the work folder of {self.name}.",
                "Name a folder of its own, such as ~/.cache/edgeopt.",
            )

    @property
    def url(self) -> str:
        """How this device is written: `ssh://pi@[::1]:2222`, `adb://SERIAL`, `local`."""
        if self.kind == "local":
            return "local"
        if self.labgrid and not self.host:
            return f"labgrid:{self.labgrid}"
        if self.kind != "ssh":
            return f"{self.kind}://{self.serial or self.host}"
        host = f"[{self.host}]" if ":" in (self.host or "") else self.host
        user = f"{self.user}@" if self.user else ""
        return f"ssh://{user}{host}" + (f":{self.port}" if self.port else "")


def resolve(
    text: str, *, folders: Sequence[Path], defaults: Mapping[str, Any] | None = None
) -> DeviceSpec:
    """The device that `text` means.

    `folders` are searched for devices.toml, first one wins. `defaults` are the target's transport
    settings, named like DeviceSpec's fields; what the address or devices.toml says beats them.
    Raises InputError for unknown names, bad addresses, bad files and passwords.
    """
    text = text.strip()
    if text == "local" or "://" in text:
        return _with_defaults(_from_address(text, parse(text)), defaults or {})
    if "," in text or text == "all":
        raise InputError(
            f"{redacted(text)} names several devices, and one is needed here.",
            "Several are for deploy, benchmark, evaluate --on-device, and for devices show, doctor,"
            " clean and leases: name one.",
        )
    entries = _entries(folders)
    for entry in entries:
        if entry.name == text:
            return _with_defaults(_from_entry(entry), defaults or {})
    raise _unknown(text, [entry.name for entry in entries])


def list_devices(folders: Sequence[Path]) -> list[DeviceSpec]:
    """Every device named in the folders' devices.toml, each name once, in file order."""
    found: dict[str, DeviceSpec] = {}
    for entry in _entries(folders):
        found.setdefault(entry.name, _from_entry(entry))
    return list(found.values())


def _entries(folders: Sequence[Path]) -> list[Entry]:
    return [entry for folder in folders for entry in read_entries(Path(folder) / FILE_NAME)]


def _unknown(text: str, known: list[str]) -> InputError:
    shown = redacted(text)
    near = get_close_matches(text, [*known, "local"], 1)
    if "@" in text or text.count(".") == 3:
        return InputError(f"There is no device named {shown!r}.", f"Did you mean ssh://{shown}?")
    if near:
        return InputError(f"There is no device named {shown!r}.", f"Did you mean {near[0]}?")
    return InputError(
        f"There is no device named {shown!r}.",
        f"Known: {', '.join([*known, 'local'])}. Or write ssh://user@host, adb://SERIAL.",
    )


def _from_address(text: str, address: Address) -> DeviceSpec:
    known = registry.names("transports")
    if address.scheme not in known:
        near = get_close_matches(address.scheme, known, 1)
        raise InputError(
            f"{redacted(text)}: there is no transport named {address.scheme!r}.",
            f"Did you mean {near[0]}://?" if near else f"Known: {', '.join(known)}.",
        )
    return DeviceSpec(
        name=text,
        kind=address.scheme,
        host=address.host,
        port=address.port,
        user=address.user,
        serial=address.serial or address.rest or None,
    )


def _from_entry(entry: Entry) -> DeviceSpec:
    if not entry.url:  # labgrid knows the address
        return DeviceSpec(name=entry.name, kind="ssh", **entry.settings)
    return replace(_from_address(entry.url, parse(entry.url)), name=entry.name, **entry.settings)


def _with_defaults(spec: DeviceSpec, defaults: Mapping[str, Any]) -> DeviceSpec:
    """Fill what is still None; settings of another kind of transport do not apply."""
    if defaults.get("kind") not in (None, spec.kind):
        defaults = {k: v for k, v in defaults.items() if k in ("runtime", "target")}
    gaps = {
        key: value
        for key, value in defaults.items()
        if value is not None and key not in ("name", "kind") and hasattr(spec, key)
        if getattr(spec, key) is None
    }
    for key in ("key_file", "benchmark_binary"):
        if key in gaps:
            gaps[key] = Path(str(gaps[key])).expanduser()
    return replace(spec, **gaps)
