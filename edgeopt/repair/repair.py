"""What a repair is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edgeopt.facts import Operator
from edgeopt.profile import HardwareProfile

__all__ = ["Need", "Repair", "Repaired"]


@dataclass(frozen=True, kw_only=True)
class Need:
    """Why a file is repaired: the profile, and the cause of each refused operation by its index.

    `refused` has only operations that would be mapped if all that can be rewritten were. `io` is
    the input and output type asked for ("" changes floats only where `float_io_forbidden`, "keep"
    changes nothing). `only` narrows a repair to some operations.
    """

    profile: HardwareProfile
    refused: Mapping[int, str] = field(default_factory=dict)
    io: str = ""
    float_io_forbidden: bool = False
    only: frozenset[int] | None = None

    def wants(self, op: Operator) -> bool:
        """True for an operation of the main subgraph that is refused and not left out."""
        return op.index in self.refused and (self.only is None or op.index in self.only)

    def takes(self, name: str) -> bool:
        """True where the accelerator has the operation at all."""
        return name in self.profile.operations


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """A new file, what changed in words, and the indices of the old operations concerned."""

    data: bytes
    changes: tuple[str, ...]
    operators: tuple[int, ...] = ()


Repair = Callable[[bytes, Need], "Repaired | None"]
