"""Text that a device sent, made safe to show: a hostile board must not steer the terminal."""

from __future__ import annotations

__all__ = ["clean_text", "tail"]


def clean_text(text: str, limit: int = 2000) -> str:
    """`text` without control characters (newlines and tabs stay), cut to `limit`."""
    kept = "".join(c for c in text[: limit * 2] if c.isprintable() or c in "\n\t")
    return kept[:limit]


def tail(output: bytes, lines: int = 4, limit: int = 600) -> str:
    """The last lines of a command's output on one line, for a message."""
    text = clean_text(output[-8192:].decode(errors="replace"), 8192)
    rows = [row.strip() for row in text.splitlines() if row.strip()]
    return "; ".join(rows[-lines:])[-limit:].rstrip(".")
