"""HardwareProfile: what a kind of device accepts, stated in TOML with a source for each fact."""

from __future__ import annotations

from edgeopt.profile.profile import (
    FLOATS,
    HardwareProfile,
    Partition,
    Runtime,
    Scheme,
    Tail,
    load_profile,
    profile_names,
)

__all__ = [
    "FLOATS",
    "HardwareProfile",
    "Partition",
    "Runtime",
    "Scheme",
    "Tail",
    "load_profile",
    "profile_names",
]
