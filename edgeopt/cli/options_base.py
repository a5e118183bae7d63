"""How a shared flag is declared: once, with its environment variable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["option", "stack"]

F = TypeVar("F", bound=Callable[..., Any])


def option(*names: str, env: str | None = None, **settings: Any) -> Callable[[F], F]:
    """A click option that EDGEOPT_`env` sets too."""
    return click.option(*names, envvar=f"EDGEOPT_{env}" if env else None, **settings)


def stack(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, listed by --help in this order."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate
