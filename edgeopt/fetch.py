"""Fetch one file from a server: bounded in size and time, whole or not at all.

Whether its content is to be trusted is the caller's to decide, from a hash known beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edgeopt.errors import ToolError

__all__ = ["Missing", "download"]

_STALL_S = 20.0
_TOTAL_S = 600.0
_BLOCK = 1 << 18


class Missing(ToolError):
    """The server answers, and has no such file (404 or 410)."""


def download(
    url: str,
    target: Path,
    *,
    what: str,
    by_hand: str,
    max_bytes: int,
    on_bytes: Callable[[int, int | None], None] | None = None,
    timeout_s: float = _TOTAL_S,
) -> None:
    """Write what `url` gives to `target`, which the caller removes when this raises ToolError.

    `what` names the file in messages and `by_hand` says what to do without it. A server that is
    silent for 20 s, sends more than `max_bytes` or takes longer than `timeout_s` is given up, and
    a redirection to another scheme (https to http, http to a file) is not followed to its end.
    """
    import http.client
    import urllib.error
    import urllib.request

    deadline, done = time.monotonic() + timeout_s, 0
    shown = _shown(url)
    try:
        with urllib.request.urlopen(url, timeout=_STALL_S) as reply, target.open("wb") as writer:
            if reply.url.partition(":")[0] != url.partition(":")[0]:
                where = _shown(reply.url)
                raise ToolError(f"{shown} leads to another kind of address ({where}).", by_hand)
            length = reply.headers.get("Content-Length", "")
            total = int(length) if length.isascii() and length.isdigit() else None
            while block := reply.read(_BLOCK):
                done += len(block)
                if done > max_bytes or time.monotonic() > deadline:
                    raise ToolError(f"{shown} does not end; given up after {done} bytes.", by_hand)
                writer.write(block)
                if on_bytes:
                    on_bytes(done, total)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        kind: type[ToolError] = ToolError
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
            kind = Missing if error.code in (404, 410) else ToolError
        raise kind(f"{what} could not be fetched from {shown}: {error}.", by_hand) from error
    if total is not None and done != total:
        said = f"{shown} broke off after {done} of {total} bytes."
        raise ToolError(said, f"Try again. {by_hand}")


def _shown(url: str) -> str:
    """`url` for a message: without a user, a password or a query, which may hold a token."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if host else url.partition("?")[0]
