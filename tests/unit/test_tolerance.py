"""How far a device may differ from the host, and why."""

from __future__ import annotations

import pytest

from edgeopt.pipeline.running import tolerance

HOST = {
    "runtime": "ai_edge_litert",
    "version": "2.3.0",
    "arch": "x86_64",
    "accelerator": "cpu",
    "cpu": "A",
}


@pytest.mark.parametrize(
    ("change", "integer", "allowed"),
    [
        ({}, True, 0.0),
        ({"cpu": "B"}, True, 0.0),
        ({"arch": "aarch64", "cpu": "B"}, True, 4.0),
        ({"version": "2.2.0"}, True, 4.0),
        ({"accelerator": "edgetpu"}, True, 4.0),
        ({}, False, 2e-5),
        ({"cpu": "B"}, False, 0.02),
        ({"runtime": "tflite_runtime"}, False, 0.02),
    ],
)
def test_only_shared_kernels_must_agree_exactly(
    change: dict[str, str], integer: bool, allowed: float
) -> None:
    found, why = tolerance(HOST, {**HOST, **change}, integer=integer, largest=2.0)
    assert found == pytest.approx(allowed)
    assert why
