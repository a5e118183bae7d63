"""What vela prints and writes: refusals with reasons, counts, and its performance estimate."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from edgeopt.compile.contract import OpStatus
from edgeopt.errors import ToolError
from edgeopt.facts import ModelFacts, Operator
from edgeopt.findings import OpPlacement, Placement
from edgeopt.model.compiled import holds_code
from edgeopt.model.layer_names import layers_of

__all__ = ["Refusal", "operator_counts", "placement_of", "read_refusals", "read_summary", "rows_of"]

_REFUSAL = re.compile(
    r"^Warning \([^)]*operators\) operator: (?P<op>\S+), ofm: '(?P<ofm>.*)'\n"
    r"Reason: (?P<reason>.*)\n(?P<rule>(?:(?!Warning |Network summary).+\n)*)",
    re.MULTILINE,
)
_COUNT = re.compile(r"^(CPU|NPU) operators = (\d+) ", re.MULTILINE)
_MAX_SUMMARY_BYTES = 1 << 20

# Columns of the summary that are figures, with the names and units that edgeopt gives them.
# Memory columns are in KiB (ethosu/vela/stats_writer.py divides by 1024), times in seconds.
_FIGURES: Mapping[str, tuple[str, float]] = {
    "inference_time": ("inference_time_s", 1.0),
    "inferences_per_second": ("inferences_per_second", 1.0),
    "core_clock": ("core_clock_hz", 1.0),
    "sram_memory_used": ("sram_bytes", 1024.0),
    "dram_memory_used": ("dram_bytes", 1024.0),
    "on_chip_flash_memory_used": ("on_chip_flash_bytes", 1024.0),
    "off_chip_flash_memory_used": ("off_chip_flash_bytes", 1024.0),
    "nn_macs": ("macs", 1.0),
    "cycles_npu": ("cycles_npu", 1.0),
    "cycles_sram_access": ("cycles_sram_access", 1.0),
    "cycles_dram_access": ("cycles_dram_access", 1.0),
    "cycles_on_chip_flash_access": ("cycles_on_chip_flash_access", 1.0),
    "cycles_off_chip_flash_access": ("cycles_off_chip_flash_access", 1.0),
    "cycles_total": ("cycles_total", 1.0),
    "total_npu_encoded_weights": ("encoded_weights_bytes", 1.0),
}
_TEXTS = ("accelerator_configuration", "system_config", "memory_mode")
_WHOLE = ("bytes", "cycles", "macs")


@dataclass(frozen=True)
class Refusal:
    """Why vela left an operation to the CPU, in its own words; `rule` is what it requires."""

    op: str
    output: str
    reason: str
    rule: str


def read_refusals(text: str) -> dict[str, Refusal]:
    """By the name of the operation's first output."""
    found: dict[str, Refusal] = {}
    for match in _REFUSAL.finditer(text.replace("\r\n", "\n")):
        rule = " ".join(line.strip() for line in match["rule"].splitlines() if line.strip())
        refusal = Refusal(match["op"], match["ofm"], match["reason"].strip(), rule)
        found.setdefault(refusal.output, refusal)
    return found


def operator_counts(text: str) -> tuple[int | None, int | None]:
    """Operators on the CPU and on the NPU as vela counts them (after it has split and fused)."""
    found = {kind: int(count) for kind, count in _COUNT.findall(text)}
    return found.get("CPU"), found.get("NPU")


def read_summary(folder: Path, log: Path) -> dict[str, Any]:
    """vela's own estimate from `<stem>_summary_<system>.csv`: bytes, cycles, Hz and seconds.

    A figure that is missing is None. Raises ToolError where the file is missing or not as it
    should be.
    """
    files = sorted(folder.glob("*_summary_*.csv"))
    try:
        if len(files) != 1 or files[0].stat().st_size > _MAX_SUMMARY_BYTES:
            raise ValueError(f"{len(files)} summaries")
        rows = list(csv.DictReader(files[0].read_text("utf-8").splitlines()))
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} rows in its summary")
        figures = {
            new: _number(rows[0].get(old), factor) for old, (new, factor) in _FIGURES.items()
        }
    except (OSError, ValueError) as error:
        raise ToolError(
            f"vela's summary cannot be read: {error}.", f"Log: {log}", log=log
        ) from error
    whole = {
        name: round(value) if value is not None and any(word in name for word in _WHOLE) else value
        for name, value in figures.items()
    }
    return {**{name: rows[0].get(name) for name in _TEXTS}, **whole}


def _number(text: str | None, factor: float) -> float | None:
    if not text:
        return None
    value = float(text) * factor
    if not isfinite(value) or value < 0:
        raise ValueError(f"{text!r} is no figure")
    return value


def placement_of(
    compiled: ModelFacts, source: ModelFacts, refusals: Mapping[str, Refusal]
) -> Placement:
    """Where each operation of `source` is. What vela left to the CPU is kept with its name.

    `ops` is empty where names do not tell the operations apart.
    """
    kept = Counter(_identity(op) for op in compiled.operators() if not holds_code(op))
    originals = list(source.operators())
    known = Counter(_identity(op) for op in originals)
    mapped = len(originals) - kept.total()
    told = all(known[identity] == count for identity, count in kept.items())
    layers = layers_of(source)
    parts = [op for op in compiled.operators() if holds_code(op)]
    ops = tuple(
        _placed(op, _identity(op) in kept, parts[0].op, refusals, layers[id(op)])
        for op in originals
    )
    return Placement(
        source="compiled_file",
        ops_total=len(originals),
        ops_mapped=mapped,
        ops_cpu=len(originals) - mapped,
        subgraphs=len(parts),
        ops=ops if told else (),
    )


def _identity(op: Operator) -> tuple[str, tuple[str, ...]]:
    return op.op, tuple(tensor.name for tensor in op.outputs)


def _placed(
    op: Operator, left: bool, place: str, refusals: Mapping[str, Refusal], layer: str | None
) -> OpPlacement:
    if not left:
        return OpPlacement(index=op.index, op=op.op, placement=place, layer=layer)
    refusal = refusals.get(op.outputs[0].name) if op.outputs else None
    return OpPlacement(
        index=op.index,
        op=op.op,
        placement="cpu",
        reason=refusal.reason if refusal else "vela left it to the CPU",
        hint=refusal.rule if refusal else "",
        cause="left_by_compiler",
        phrase=refusal.reason if refusal else None,
        layer=layer,
    )


def rows_of(placement: Placement) -> tuple[OpStatus, ...]:
    """The placement as the compiler's table: operations of one kind and fate in one row."""
    groups = Counter((op.op, op.placement != "cpu", op.reason, op.hint) for op in placement.ops)
    return tuple(
        OpStatus(
            op=op, count=count, status=reason or "mapped", mapped=mapped, cause=reason, remedy=rule
        )
        for (op, mapped, reason, rule), count in sorted(groups.items())
    )
