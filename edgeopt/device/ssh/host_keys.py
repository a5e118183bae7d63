"""Which SSH host keys are trusted: the user's known_hosts and edgeopt's own. Never on first use.

An unknown key is refused with its fingerprint and the command that pins it; a changed key is
refused with both. `pin` is the only thing that adds one, and only when the fingerprint fits.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn

from edgeopt import paths
from edgeopt.device.inventory import DeviceSpec
from edgeopt.errors import DeviceError, InputError
from edgeopt.paths import make_private

__all__ = ["HostKey", "check", "fetch", "fingerprint", "known_types", "pin", "read_known_hosts"]


@dataclass(frozen=True, kw_only=True)
class HostKey:
    """One line of a known_hosts file that speaks of the host asked for."""

    type: str
    blob: bytes
    origin: str  # "file:line"
    revoked: bool = False


def fingerprint(blob: bytes) -> str:
    """`SHA256:...` of a public key, as ssh and ssh-keygen print it."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return "SHA256:" + digest.rstrip("=")


def host_entry(host: str, port: int) -> str:
    """The name a known_hosts file has for it: `host`, or `[host]:port` off port 22."""
    return host if port == 22 else f"[{host}]:{port}"


def own_file() -> Path:
    return paths.config_dir() / "known_hosts"


def default_files() -> list[Path]:
    return [own_file(), Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts")]


def read_known_hosts(name: str, files: Sequence[Path] | None = None) -> list[HostKey]:
    """Every key recorded for `name` (as `host_entry` gives it); unreadable files count as empty."""
    return [key for file in (files or default_files()) for key in _read(file, name)]


def known_types(known: Sequence[HostKey]) -> list[str]:
    """Key types to ask the server for first, so that it shows a key that can be compared."""
    return list(dict.fromkeys(key.type for key in known if not key.revoked))


def check(spec: DeviceSpec, name: str, offered: str, blob: bytes, known: Sequence[HostKey]) -> None:
    """Pass when `blob` is recorded for the host. Raises DeviceError: unknown, changed, revoked."""
    matching = [key for key in known if key.blob == blob]
    if any(key.revoked for key in matching):
        raise DeviceError(
            f"The host key of {name} is marked @revoked in {matching[0].origin}.",
            "Do not connect: somebody withdrew that key.",
        )
    if matching:
        return
    trusted = [key for key in known if not key.revoked]
    if trusted:
        _changed(spec, name, offered, blob, trusted)
    shown = fingerprint(blob)
    raise DeviceError(
        f"The host key of {name} is not known: {offered} {shown}.",
        f"Compare it with the board's own (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub there), then"
        f" run: {_pin_command(spec, shown)}",
        details={"fingerprint": shown, "reason": "unknown_host_key"},
    )


def _changed(
    spec: DeviceSpec, name: str, offered: str, blob: bytes, trusted: Sequence[HostKey]
) -> NoReturn:
    shown = fingerprint(blob)
    recorded = ", ".join(f"{k.type} {fingerprint(k.blob)} ({k.origin})" for k in trusted[:4])
    raise DeviceError(
        f"THE HOST KEY OF {name} HAS CHANGED. It offers {offered} {shown}; recorded: {recorded}."
        " Somebody may be in between.",
        "If the board was installed anew, remove the recorded line(s), compare the fingerprint on"
        f" the board itself, then run: {_pin_command(spec, shown)}",
        details={
            "fingerprint": shown,
            "recorded": [fingerprint(key.blob) for key in trusted],
            "reason": "changed_host_key",
        },
    )


def _pin_command(spec: DeviceSpec, shown: str) -> str:
    return f"edgeopt devices pin {spec.url} --fingerprint {shown}"


def pin(spec: DeviceSpec, fingerprint: str) -> None:
    """Record the device's host key when its fingerprint is the given one.

    Fetches the key, compares it with `fingerprint` ("SHA256:..."), and adds it to edgeopt's own
    known_hosts (0600, replaced atomically). Raises DeviceError when they differ.
    """
    wanted = fingerprint.strip().rstrip("=")
    if spec.kind != "ssh":
        raise InputError(f"{spec.url} has no SSH host key.", "Only ssh:// devices are pinned.")
    if not wanted.startswith("SHA256:") or len(wanted) != 50:
        raise InputError(
            f"{fingerprint!r} is no SHA256 fingerprint.",
            "Give it as ssh-keygen -lf prints it: SHA256: and 43 characters.",
        )
    name, keys = fetch(spec)
    for offered, blob in keys:
        if hmac.compare_digest(_sha(blob), wanted):
            return _record(name, offered, blob)
    shown = ", ".join(f"{offered} {_sha(blob)}" for offered, blob in keys)
    raise DeviceError(
        f"{name} has another host key: {shown}. Nothing was pinned.",
        "Compare with the board itself: ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub there.",
        details={"fingerprints": [_sha(blob) for _, blob in keys]},
    )


_sha = fingerprint  # `pin` has a parameter of that name


def fetch(spec: DeviceSpec, *, timeout_s: float = 15) -> tuple[str, list[tuple[str, bytes]]]:
    """The host's known_hosts name and its keys, (type, blob) each: one connection per type.

    No authentication takes place. Raises DeviceError when the host cannot be reached.
    """
    from edgeopt.device.ssh import transport as ssh  # it needs this module

    return ssh.fetch_host_keys(spec, timeout_s)


def _record(name: str, offered: str, blob: bytes) -> None:
    file = own_file()
    line = f"{name} {offered} {base64.b64encode(blob).decode()}"
    try:
        make_private(file.parent)
        with _alone(file.parent):
            old = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
            # a new pin replaces this host's older one of the same type
            kept = [row for row in old if row.split()[:2] != [name, offered]]
            _replace(file, "\n".join([*kept, line]) + "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The pin could not be written to {file}: {error}.", "Make it writable."
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: a lab's boards are pinned side by side, and no pin may be lost."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _replace(file: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=".known_hosts-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:  # mkstemp makes it 0600
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(file)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _read(file: Path, name: str) -> Iterator[HostKey]:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for number, line in enumerate(lines, 1):
        words = line.split()
        revoked = words[:1] == ["@revoked"]
        if revoked:
            words = words[1:]
        if len(words) < 3 or words[0].startswith(("#", "@")) or not _names(words[0], name):
            continue
        try:
            blob = base64.b64decode(words[2], validate=True)
        except (binascii.Error, ValueError):
            continue
        yield HostKey(type=words[1], blob=blob, origin=f"{file}:{number}", revoked=revoked)


def _names(patterns: str, name: str) -> bool:
    """Does a known_hosts host field speak of `name`? sshd(8): hashes, wildcards, negation."""
    found = False
    for pattern in patterns.split(","):
        if pattern.startswith("|1|"):
            found |= _hashed(pattern, name)
            continue
        wanted = pattern.removeprefix("!").lower().replace("[", "[[]")
        if fnmatchcase(name.lower(), wanted):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _hashed(pattern: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part) for part in pattern.split("|")[2:4])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)
