"""Which devices several words mean: `a,b`, `all`, `all` with tags; and which are one board."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from edgeopt.device.inventory import DeviceSpec, list_devices, resolve
from edgeopt.errors import EdgeoptError, InputError

__all__ = ["ALL", "Chosen", "Selection", "is_plural", "select"]

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """One device, and the `address` that it shares with no other board as far as names tell."""

    spec: DeviceSpec
    address: str


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Every device once, in the order asked for; `notes` say what was left out or must wait."""

    devices: tuple[Chosen, ...]
    notes: tuple[str, ...] = ()


def is_plural(text: str | None, tags: Sequence[str]) -> bool:
    """Whether several devices are asked for, even where only one is found."""
    return bool(tags) or (text is not None and ("," in text or text.strip() == ALL))


def select(text: str | None, tags: Sequence[str], *, folders: Sequence[Path]) -> Selection:
    """The devices that `text` names (`all`: those of devices.toml), with all of the `tags`.

    Raises InputError for what names none, and for tags beside names.
    """
    words = [word.strip() for word in (ALL if text is None else text).split(",")]
    if not all(words):
        raise InputError(f"--device {text} has an empty name.", "Write --device a,b,c.")
    if tags and ALL not in words:
        raise InputError(
            f"--tag chooses among all devices, and --device names {', '.join(words)}.",
            "Give --device all --tag NAME, or leave one of the two out.",
        )
    found: list[DeviceSpec] = []
    for word in words:
        found += _all(tags, folders) if word == ALL else [resolve(word, folders=folders)]
    return _once(found)


def _all(tags: Sequence[str], folders: Sequence[Path]) -> list[DeviceSpec]:
    known = list_devices(folders)
    if not known:
        places = " or ".join(str(folder / "devices.toml") for folder in folders)
        raise InputError(
            "--device all: there is no devices.toml that names a device.",
            f"Write [devices.NAME] with its url into {places}.",
        )
    named = sorted({tag for spec in known for tag in spec.tags})
    for tag in tags:
        if tag not in named:
            near = get_close_matches(tag, named, 1)
            guess = f"Did you mean {near[0]}? " if near else ""
            have = f"Tags: {', '.join(named)}." if named else "No device has a tag."
            raise InputError(f"No device of devices.toml has the tag {tag!r}.", f"{guess}{have}")
    found = [spec for spec in known if set(tags) <= set(spec.tags)]
    if not found:
        rows = "; ".join(f"{s.name} has {', '.join(s.tags) or 'none'}" for s in known)
        raise InputError(f"No device has all of the tags {', '.join(tags)}.", f"{rows}.")
    return found


def _once(found: Iterable[DeviceSpec]) -> Selection:
    chosen: list[Chosen] = []
    notes: list[str] = []
    for spec in found:
        if any(spec.name == c.spec.name for c in chosen):
            continue  # `all,a` and `a,a` name it twice, and mean it once
        address = _address(spec)
        same = next((c.spec for c in chosen if c.address == address), None)
        if same is not None and replace(same, name=spec.name, tags=spec.tags) == spec:
            notes.append(f"{spec.name} is {same.name} under another name: it runs once.")
            continue
        if same is not None:
            notes.append(f"{same.name} and {spec.name} are at one address: one after the other.")
        chosen.append(Chosen(spec=spec, address=address))
    return Selection(devices=tuple(chosen), notes=tuple(notes))


def _address(spec: DeviceSpec) -> str:
    """Where it is, whoever logs in: `ssh 10.0.0.5 22`, with the names of ~/.ssh/config resolved."""
    if spec.kind != "ssh":
        return f"{spec.kind} {spec.serial or spec.host or ''}"
    from edgeopt.device.ssh.config import endpoint

    try:
        where = endpoint(spec)
    except EdgeoptError:  # what is wrong with it is told when it is connected, as its own row
        return f"ssh {(spec.host or '').lower()} {spec.port or 22}"
    return f"ssh {where.host.lower()} {where.port}"
