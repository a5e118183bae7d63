"""What counts as the same output in the proof of a repair: every bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeopt.repair.proof_worker import _difference


@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        (np.array([0.0, 1.0], np.float32), np.array([-0.0, 1.0], np.float32), 0.0),
        (np.array([np.inf], np.float32), np.array([-np.inf], np.float32), float("inf")),
        (np.array([1, 255], np.uint8), np.array([1, 0], np.uint8), 255.0),
        (np.array([True, False]), np.array([True, True]), 1.0),
    ],
)
def test_one_differing_bit_is_a_difference(before: Any, after: Any, difference: float) -> None:
    problem, most = _difference(before, after, None, None, 0)  # type: ignore[arg-type]
    assert problem.startswith("1 of ") and most == difference


@pytest.mark.parametrize(
    "output", [np.array([np.nan, -0.0], np.float32), np.array(3), np.array([b"a"], object)]
)
def test_the_same_bits_are_no_difference(output: Any) -> None:
    assert _difference(output, output.copy(), None, None, 0) == ("", 0.0)  # type: ignore[arg-type]
