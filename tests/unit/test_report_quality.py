"""What a person reads of a quantization: what is held twice, and the layers that cost most."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, Group

from edgeopt.artifact import Artifact
from edgeopt.report.quality import held_twice, worst_layers

FINAL = Artifact(
    stage="optimized", path=Path("m.tflite"), sha256="0", size_bytes=40960, gzip_bytes=1
)
SPLITTING: dict[str, Any] = {
    "kept": True,
    "tensors": ["a/Conv2D", "b/add", "c", "d", "e", "f"],
    "multiplications": {"before": 12_500_000, "after": 25_000_000},
    "factor": 2.0,
    "plain_int8": {"sha256": "1", "size_bytes": 10240, "gzip_bytes": 1},
}


def beside(*, valid: bool = True) -> dict[str, Any]:
    return {
        "measurement": {"valid": valid, "stats": {"median_ns": 2e6, "mean_ns": 3e6}},
        "comparison": {"ratio": 1.9, "interval95": [1.85, 1.95]},
    }


def text(**changes: Any) -> str:
    return held_twice({"quality": {"splitting": SPLITTING | changes}}, beside(), FINAL)


def test_what_is_held_twice_is_named_with_its_cost_beside_plain_int8() -> None:
    said = text()
    assert "6 activations: a/Conv2D, b/add, c, d and 2 more" in said
    assert "2.00 times the multiplications (25 M, not 12.5 M)" in said
    assert "40.0 KiB, not 10.0 KiB" in said
    assert "1.90 times its 2 ms (95% interval 1.85 to 1.95)" in said


def test_an_invalid_time_is_called_so_and_a_missing_one_left_out() -> None:
    conversion = {"quality": {"splitting": SPLITTING}}
    assert held_twice(conversion, beside(valid=False), FINAL).endswith("which is invalid")
    assert "times its" not in held_twice(conversion, None, FINAL)


@pytest.mark.parametrize("conversion", [None, {}, {"quality": None}, {"quality": {}}])
def test_where_nothing_is_held_twice_nothing_is_said(conversion: dict[str, Any] | None) -> None:
    assert held_twice(conversion, None, FINAL) == ""
    assert text(kept=False) == ""


@pytest.mark.parametrize("width", [80, 120])
def test_the_worst_layers_fit_the_terminal_with_all_figures(width: int) -> None:
    layer = {
        "index": 1, "op": "DEPTHWISE_CONV_2D", "name": "functional_1/a_long_block/depthwise_conv",
        "share": 0.31, "alone_sqnr_db": 39.1, "sqnr_db": 33.0,
        "done": ["bias corrected", "weights rounded", "held twice"],
    }  # fmt: skip
    errors = {"output_sqnr_db": 35.9, "samples": 32, "layers": [layer]}
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(Group(*worst_layers({"layer_errors": errors})))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    shown = next(line for line in lines if "DEPTHWISE_CONV_2D #1" in line)
    assert [cell in shown for cell in ("31%", "39.1", "33.0", "bias corrected")] == [True] * 4
    assert sum("weights rounded" in line or "held twice" in line for line in lines) == 2
