"""Names and messages from models, devices and tools as a terminal may show them."""

from __future__ import annotations

__all__ = ["plain", "visible"]


def visible(text: object) -> str:
    """With control characters made visible."""
    return "".join(c if c.isprintable() else "�" for c in str(text))


def plain(text: object) -> str:
    """The same, with markup made inert."""
    from rich.markup import escape

    return escape(visible(text))
