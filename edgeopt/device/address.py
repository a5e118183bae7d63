"""How a device is written on a command line: `local`, `ssh://user@host:port`, `adb://SERIAL`.

Parsing only: nothing is looked up. A password is refused wherever it stands, and is never echoed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from edgeopt.errors import InputError

__all__ = ["Address", "parse", "redacted"]

_HOST = re.compile(r"[A-Za-z0-9_.%-]+|\[[0-9A-Fa-f:.%A-Za-z0-9]+\]")
_SERIAL = re.compile(r"[A-Za-z0-9_.:%\[\]-]+")
_USER = re.compile(r"[^\s\x00-\x1f:@/-][^\s\x00-\x1f:@/]*")
_FORMS = "Write local, ssh://user@host[:port], adb://SERIAL, or a name from devices.toml."


@dataclass(frozen=True, kw_only=True)
class Address:
    """The parts of a device URL. `host` is without IPv6 brackets; `rest` is for plug-ins."""

    scheme: str
    host: str | None = None
    port: int | None = None
    user: str | None = None
    serial: str | None = None
    rest: str = ""


def redacted(text: str) -> str:
    """`text` for a message: whatever may be a password before an @ is masked, control bytes too."""
    head, at, tail = text.rpartition("@")
    if at and ":" in head.split("://")[-1]:
        scheme, sep, user = head.rpartition("://")
        text = f"{scheme}{sep}{user.split(':')[0]}:***@{tail}"
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


def parse(text: str) -> Address:
    """The address in `text`, which must hold `://` or be `local`. Raises InputError."""
    if text == "local":
        return Address(scheme="local")
    scheme, _, rest = text.partition("://")
    if scheme == "ssh":
        return _ssh(text, rest)
    if scheme == "adb":
        return _adb(text, rest)
    return Address(scheme=scheme, rest=rest)


def _ssh(text: str, rest: str) -> Address:
    userinfo, at, location = rest.rpartition("@")
    if ":" in userinfo:
        raise InputError(
            f"{redacted(text)} holds a password; edgeopt never takes one.",
            "Passwords end up in shell histories and logs. Use an SSH key: ssh-copy-id user@host.",
        )
    user = unquote(userinfo)
    if at and not _USER.fullmatch(user):
        raise InputError(f"{redacted(text)} has no usable user name before the @.", _FORMS)
    host, port = _host_and_port(text, location.removesuffix("/"))
    return Address(scheme="ssh", host=host, port=port, user=user or None)


def _host_and_port(text: str, location: str) -> tuple[str, int | None]:
    host, colon, port = location, "", ""
    if location.startswith("["):
        inside, bracket, after = location.partition("]")
        host, colon, port = inside + bracket, after[:1], after[1:]
    elif location.count(":") > 1:
        raise InputError(
            f"{redacted(text)}: an IPv6 address needs brackets.", f"Write ssh://[{location}]."
        )
    else:
        host, colon, port = location.partition(":")
    if not _HOST.fullmatch(host) or host.startswith("-") or colon not in ("", ":"):
        raise InputError(f"{redacted(text)} names no usable host.", _FORMS)
    if not colon:
        return host.strip("[]"), None
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise InputError(f"{redacted(text)}: the port must be a number from 1 to 65535.", _FORMS)
    return host.strip("[]"), int(port)


def _adb(text: str, rest: str) -> Address:
    serial = rest.removesuffix("/")
    if not _SERIAL.fullmatch(serial) or serial.startswith("-"):
        raise InputError(
            f"{redacted(text)} names no usable serial.",
            "Write adb://SERIAL as `adb devices` prints it, or adb://HOST:PORT.",
        )
    return Address(scheme="adb", serial=serial)
