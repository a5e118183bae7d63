"""How a shared flag is declared: once, with its environment variable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["fraction", "option", "stack"]

F = TypeVar("F", bound=Callable[..., Any])


def option(*names: str, env: str | None = None, **settings: Any) -> Callable[[F], F]:
    """A click option that EDGEOPT_`env` sets too."""
    return click.option(*names, envvar=f"EDGEOPT_{env}" if env else None, **settings)


def fraction(ctx: click.Context, param: click.Parameter, value: Any) -> float:
    """A callback: 0.01 or 1%. Raises click.BadParameter for anything else, such as nan."""
    text = str(value).strip()
    try:
        number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no fraction: write 1% or 0.01.") from None
    if not 0 <= number < 1:
        raise click.BadParameter(f"{value!r} is not from 0 to below 1 (100%).")
    return number


def stack(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, listed by --help in this order."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate
