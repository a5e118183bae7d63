"""Where an ssh:// device really is: the address, completed by the user's ~/.ssh/config."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.device.inventory import DeviceSpec
from edgeopt.errors import DeviceError, InputError

__all__ = ["Endpoint", "endpoint"]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """`key_files` are tried in order; with `only_these` neither an agent's nor default keys are."""

    host: str
    port: int
    user: str
    key_files: tuple[Path, ...]
    only_these: bool

    @property
    def name(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{self.user}@{host}:{self.port}"


def endpoint(spec: DeviceSpec, config: Path | None = None) -> Endpoint:
    """HostName, Port, User and IdentityFile are honoured; what `spec` says beats them.

    Raises DeviceError for hosts that the configuration reaches through a proxy.
    """
    assert spec.host is not None
    said = _lookup(config or Path("~/.ssh/config").expanduser(), spec.host)
    for option in ("proxyjump", "proxycommand"):
        if said.get(option) not in (None, "none"):
            raise DeviceError(
                f"~/.ssh/config reaches {spec.host} by {option}, which edgeopt does not do itself.",
                "Open the way with ssh -N -L 2222:HOST:22 JUMPHOST, then use"
                " ssh://user@localhost:2222.",
            )
    if spec.key_file is not None:
        files: tuple[Path, ...] = (spec.key_file.expanduser(),)
        if not files[0].is_file():
            raise InputError(f"The key {files[0]} of {spec.name} is not there.", "Check `key`.")
    else:
        files = tuple(Path(p).expanduser() for p in said.get("identityfile", []))
    return Endpoint(
        host=said.get("hostname", spec.host),
        port=spec.port or _port(said.get("port")),
        user=spec.user or said.get("user") or _login_name(),
        key_files=files,
        only_these=spec.key_file is not None or said.get("identitiesonly") == "yes",
    )


def _port(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 22


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:  # a container's user without a name
        raise InputError("No user name is known for this login.", "ssh://USER@host.") from error


def _lookup(file: Path, host: str) -> dict[str, Any]:
    if not file.is_file():
        return {}
    import paramiko

    try:
        return dict(paramiko.SSHConfig.from_path(str(file)).lookup(host))
    except (OSError, UnicodeDecodeError, ImportError, paramiko.SSHException) as error:
        raise InputError(
            f"{file} cannot be read: {error}.", "Correct it; ssh -G HOST shows what it means."
        ) from error
