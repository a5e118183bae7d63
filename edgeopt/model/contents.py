"""Contents: what every reader gives back, before the file's own identity is added."""

from __future__ import annotations

from dataclasses import dataclass

from edgeopt.facts import Subgraph

__all__ = ["Contents"]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The part of ModelFacts that is read inside the file."""

    subgraphs: tuple[Subgraph, ...]
    parameters: int | None
    description: str = ""
    out_of_line_buffers: int = 0
    signatures: tuple[str, ...] = ()
    extensions: tuple[tuple[str, str], ...] = ()
