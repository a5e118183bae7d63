"""Opening an SSH connection: socket, host key, key login. Everything under one deadline."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeopt.device.inventory import DeviceSpec
from edgeopt.device.printable import clean_text
from edgeopt.device.ssh import host_keys
from edgeopt.device.ssh.config import Endpoint, endpoint
from edgeopt.errors import DeviceError

if TYPE_CHECKING:
    import paramiko

__all__ = ["fetch_host_keys", "open_transport"]

# A link that acknowledges nothing for so long is cut. Without it paramiko's send waits for the
# kernel's own patience, about 15 minutes.
_UNACKNOWLEDGED_S = 5
_KEEPALIVE_S = 3
# So much waits in the kernel to be sent, not megabytes: on a slow link another command would come
# after all of it, and be taken for lost.
_UNSENT_BYTES = 256 << 10
_DARWIN_RXT_CONNDROPTIME = 0x80  # <netinet/tcp.h> of macOS; the socket module does not name it
# AES-GCM is one pass in OpenSSL; CTR needs a second one, for the HMAC, through Python.
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


def open_transport(spec: DeviceSpec, timeout_s: float) -> tuple[Endpoint, paramiko.Transport]:
    """A connected, verified and authenticated transport. Raises DeviceError."""
    where, deadline = endpoint(spec), time.monotonic() + timeout_s
    name = host_keys.host_entry(where.host, where.port)
    known = host_keys.read_known_hosts(name)
    with _explained(where, timeout_s):
        transport = _handshake(where, host_keys.known_types(known), deadline)
        try:
            key = transport.get_remote_server_key()
            host_keys.check(spec, name, key.get_name(), key.asbytes(), known)
            transport.auth_timeout = max(1.0, deadline - time.monotonic())
            _authenticate(transport, where)
        except BaseException:
            transport.close()
            raise
        transport.set_keepalive(_KEEPALIVE_S)
    return where, transport


def fetch_host_keys(spec: DeviceSpec, timeout_s: float) -> tuple[str, list[tuple[str, bytes]]]:
    """Every host key the server has, without logging in: it shows one a connection."""
    import paramiko

    where, deadline = endpoint(spec), time.monotonic() + timeout_s
    found: dict[str, bytes] = {}
    for wanted in ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"):
        try:
            with _explained(where, timeout_s):
                transport = _handshake(where, [wanted], deadline, only=True)
                key = transport.get_remote_server_key()
                transport.close()
        except DeviceError as error:
            if found or isinstance(error.__cause__, paramiko.ssh_exception.IncompatiblePeer):
                continue  # it has no key of this type
            raise
        found[key.get_name()] = key.asbytes()
    if not found:
        raise DeviceError(f"{where.name} offers no host key that edgeopt knows.", "Add ed25519.")
    return host_keys.host_entry(where.host, where.port), list(found.items())


def _handshake(
    where: Endpoint, types: list[str], deadline: float, *, only: bool = False
) -> paramiko.Transport:
    import paramiko

    _quiet()
    sock = _socket(where, deadline)
    try:
        transport = paramiko.Transport(sock)
        transport.banner_timeout = max(1.0, deadline - time.monotonic())
        options = transport.get_security_options()
        ciphers = list(options.ciphers)
        options.ciphers = [c for c in _CIPHERS if c in ciphers] + [
            c for c in ciphers if c not in _CIPHERS
        ]
        wanted = [w for t in types for w in _algorithms(t) if w in options.key_types]
        rest = [] if only else [t for t in options.key_types if t not in wanted]
        options.key_types = [*wanted, *rest]
        transport.start_client(timeout=max(1.0, deadline - time.monotonic()))
    except BaseException:
        sock.close()
        raise
    return transport


def _algorithms(key_type: str) -> tuple[str, ...]:
    """An RSA key is used with SHA-2 signatures, whose names are not the key's."""
    return ("rsa-sha2-512", "rsa-sha2-256") if key_type == "ssh-rsa" else (key_type,)


def _quiet() -> None:
    """Its log would go to stderr as a last resort; every failure reaches us as an exception."""
    log = logging.getLogger("paramiko")
    if not log.handlers:
        log.addHandler(logging.NullHandler())


def _socket(where: Endpoint, deadline: float) -> socket.socket:
    """The first address that answers, tuned so that a command costs 4 ms and a cut link ends."""
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(
        where.host, where.port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(max(0.5, deadline - time.monotonic()))
            sock.connect(address)
            _tune(sock)
            return sock
        except OSError as error:
            sock.close()
            failure = failure or error
        except BaseException:
            sock.close()
            raise
    raise failure or OSError("the name has no address")


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_S * 1000)
    elif sys.platform == "darwin":
        sock.setsockopt(socket.IPPROTO_TCP, _DARWIN_RXT_CONNDROPTIME, _UNACKNOWLEDGED_S)


def _authenticate(transport: paramiko.Transport, where: Endpoint) -> None:
    """Try the keys in order; never a password."""
    import paramiko

    refused: list[str] = []
    agent = paramiko.Agent()
    try:
        if _accepted(transport, where, list(agent.get_keys()), refused):
            return
    finally:
        agent.close()
    tried = "; ".join(refused) or "there is no key to try"
    raise DeviceError(
        f"{where.name} refused the login ({tried}).",
        f"ssh-copy-id {where.user}@{where.host} once, or name the key with `key` in devices.toml."
        " edgeopt uses no passwords.",
    )


def _accepted(
    transport: paramiko.Transport,
    where: Endpoint,
    agent: list[paramiko.AgentKey],
    refused: list[str],
) -> bool:
    """True once a key is accepted; else `refused` tells what became of each."""
    import paramiko

    for label, key in _keys(where, agent, refused):
        try:
            if not transport.auth_publickey(where.user, key):
                return True
            refused.append(f"{label}: accepted, but the device wants a second factor")
        except paramiko.BadAuthenticationType:
            refused.append("the device accepts no keys at all")
            break
        except paramiko.AuthenticationException:
            refused.append(f"{label}: not accepted")
        if not transport.is_active():
            refused.append("the device ended the connection")
            break
    return False


def _keys(
    where: Endpoint, agent: list[paramiko.AgentKey], refused: list[str]
) -> Iterator[tuple[str, paramiko.PKey]]:
    """Keys from files, then the agent, then the defaults; the unusable are noted in `refused`."""
    seen: set[str] = set()
    defaults = [Path("~/.ssh").expanduser() / f"id_{t}" for t in ("ed25519", "ecdsa", "rsa")]
    for file in where.key_files:
        yield from _from_file(file, agent, refused, seen)
    if where.only_these:
        return
    for key in agent:
        if key.fingerprint not in seen:
            yield f"agent key {clean_text(key.comment or key.fingerprint, 80)}", key
    for file in defaults:
        if file not in where.key_files:
            yield from _from_file(file, agent, refused, seen)


def _from_file(
    file: Path, agent: list[paramiko.AgentKey], refused: list[str], seen: set[str]
) -> Iterator[tuple[str, paramiko.PKey]]:
    """The key of `file`; of an encrypted one the agent's copy, known by the .pub beside it."""
    import paramiko

    if not file.is_file():
        return
    try:
        key: paramiko.PKey = paramiko.PKey.from_path(file)
    except (paramiko.PasswordRequiredException, TypeError):  # TypeError is cryptography's word
        held = [k for k in agent if k.get_base64() in _public_text(file)]
        if not held:
            refused.append(f"{file}: encrypted, and no agent holds it (ssh-add {file})")
            return
        key = held[0]
    except (OSError, ValueError, paramiko.SSHException) as error:
        refused.append(f"{file}: {clean_text(str(error), 120) or 'not a usable key'}")
        return
    seen.add(key.fingerprint)
    yield str(file), key


def _public_text(file: Path) -> str:
    try:
        return file.with_name(file.name + ".pub").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@contextlib.contextmanager
def _explained(where: Endpoint, timeout_s: float) -> Iterator[None]:
    """Translate what the socket and paramiko raise while connecting, once."""
    import paramiko

    try:
        yield
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: no name at all, as in a..b
        raise DeviceError(
            f"{where.name}: the name {where.host} has no address ({error}).",
            "Check the spelling, or give the IP address.",
        ) from error
    except TimeoutError as error:
        raise DeviceError(
            f"{where.name} did not answer within {timeout_s:g} s.",
            "Is it powered, on this network, and not behind a firewall?",
        ) from error
    except ConnectionRefusedError as error:
        raise DeviceError(
            f"{where.name} refuses connections on port {where.port}.",
            "Is sshd running there, on that port?",
        ) from error
    except (OSError, EOFError, paramiko.SSHException) as error:
        said = clean_text(str(error) or type(error).__name__, 300).rstrip(".")
        raise DeviceError(
            f"{where.name} cannot be connected: {said}.",
            "Check that `ssh` reaches it from this machine.",
        ) from error
