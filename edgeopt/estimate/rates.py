"""The fitted coefficients of an estimator, read from the data file beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeopt.toml_file import Section, read_toml

__all__ = ["Rates", "read_rates"]

_HOST_KEYS = ("link_ns_per_byte", "fixed_ns", "cpu_ns_per_mac", "cpu_ns_per_value")
_TERMS = ("macs", "reads", "operations")
_RANGES = (*_TERMS, "streamed", "inputs", "outputs")


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Nanoseconds for each unit of a feature, on the accelerator (`ns`) and for each host.

    `factors` around the estimate are meant to hold the share `coverage` of networks; `range` has
    the least and the most of each feature that was fitted.
    """

    ns: Mapping[str, float]
    hosts: Mapping[str, Mapping[str, float]]
    factors: tuple[float, float]
    coverage: float
    range: Mapping[str, tuple[float, float]]
    data: str
    default_host: str = "usb3"


def read_rates(path: Path) -> Rates:
    """Raises InputError with file, line and key."""
    root = read_toml(path)
    rows = root.integer("fitted_rows")
    networks = root.texts("fitted_networks")
    low, high = _numbers(root, "factors")
    own, hosts, seen = root.section("ns"), root.section("host"), root.section("range")
    return Rates(
        ns={name: own.number(name) for name in _TERMS},
        hosts={
            name: {key: hosts.section(name).number(key) for key in _HOST_KEYS}
            for name in hosts.names()
        },
        factors=(low, high),
        coverage=root.number("coverage"),
        range={name: _numbers(seen, name) for name in _RANGES},
        data=f"{rows} published latencies, of which {', '.join(networks)} are whole networks",
    )


def _numbers(section: Section, key: str) -> tuple[float, float]:
    found = section.value(key)
    if not isinstance(found, list) or len(found) != 2:
        raise section.error(key, "must be a list of two numbers.")
    return float(found[0]), float(found[1])
