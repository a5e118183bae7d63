"""vela's own estimate of a model that it has compiled, from its summary.

It is a model of cycles and bandwidth at the clock and memory of the chosen system configuration,
without what the CPU does. vela gives no interval, so none is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeopt.estimate.contract import Estimate, ToldLatency

__all__ = ["of_compiled"]

_CYCLES = {
    "cycles_npu": "arithmetic",
    "cycles_sram_access": "SRAM",
    "cycles_dram_access": "DRAM",
    "cycles_on_chip_flash_access": "on-chip flash",
    "cycles_off_chip_flash_access": "off-chip flash",
}
_AREAS = {
    "sram_bytes": "SRAM",
    "dram_bytes": "DRAM",
    "on_chip_flash_bytes": "on-chip flash",
    "off_chip_flash_bytes": "off-chip flash",
}


def of_compiled(details: Mapping[str, Any], cpu_operations: int) -> Estimate | None:
    """From the `details` of a CompileResult; None where they hold no performance figures.

    `cpu_operations` are those that stayed on the CPU, whose time vela does not count.
    """
    found = details.get("performance")
    if not found:
        return None
    areas = [(name, found.get(key)) for key, name in _AREAS.items() if found.get(key)]
    notes = []
    if cpu_operations:
        notes.append(f"The {cpu_operations} operations on the CPU are not in vela's time.")
    return Estimate(
        estimator="vela",
        told=_latency(found),
        memory_bytes=dict(areas),
        notes=tuple(notes),
        figures=dict(found),
    )


def _latency(found: Mapping[str, Any]) -> ToldLatency | None:
    seconds = found.get("inference_time_s")
    if not seconds:
        return None
    cycles = {name: found.get(key) or 0 for key, name in _CYCLES.items()}
    bound = max(cycles, key=lambda name: cycles[name])
    clock = found.get("core_clock_hz") or 0
    at = f"{found.get('accelerator_configuration')} in {found.get('system_config')}"
    host = f"{at} at {clock / 1e6:.0f} MHz" if clock else at
    terms = {name: 1e3 * count / clock for name, count in cycles.items()} if clock else {}
    return ToldLatency(
        value_ms=1e3 * seconds,
        host=host,
        terms_ms=terms,
        bound=bound,
        reason=f"Most cycles go to {bound}; work and memory accesses overlap in part.",
        data="vela's own performance model; no interval is known",
    )
