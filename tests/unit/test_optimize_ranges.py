"""Range estimators: what each keeps of values whose best range is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgeopt.optimize.ranges import ESTIMATORS, estimate, estimated
from edgeopt.optimize.statistics import Activation

RNG = np.random.default_rng(0)
BELL = RNG.normal(size=50_000)
POSITIVE = np.maximum(BELL, 0)


def error(values: np.ndarray, low: float, high: float, bits: int = 8) -> float:
    """Mean squared error of real quantization between the two ends."""
    step = (high - low) / (2**bits - 1)
    zero = np.rint(-low / step)
    made = (np.clip(np.rint(values / step) + zero, 0, 2**bits - 1) - zero) * step
    return float(((made - values) ** 2).mean())


@pytest.mark.parametrize("method", sorted(ESTIMATORS))
@pytest.mark.parametrize("values", [BELL, POSITIVE, -POSITIVE])
def test_ranges_lie_within_the_true_ends_and_hold_zero(method: str, values: np.ndarray) -> None:
    low, high = float(values.min()), float(values.max())
    below, above = estimate(method, values, low, high)
    assert min(low, 0) <= below <= 0 <= above <= max(high, 0)
    assert below < above


@pytest.mark.parametrize("method", ["mse", "octav"])
@pytest.mark.parametrize("bits", [4, 8])
def test_optimal_clipping_loses_less_than_minimum_and_maximum(method: str, bits: int) -> None:
    values = np.append(BELL, [40.0, -35.0])
    plain = error(values, -35.0, 40.0, bits)
    low, high = estimate(method, values, -35.0, 40.0, bits=bits)
    assert error(values, low, high, bits) < plain


def test_mse_finds_about_the_best_of_all_one_sided_ranges() -> None:
    values = np.append(POSITIVE, 30.0)
    _, high = estimate("mse", values, 0.0, 30.0, bits=4)
    best = min(error(values, 0.0, end, 4) for end in np.linspace(0.5, 30, 300))
    assert error(values, 0.0, high, 4) < 1.15 * best


def test_octav_ends_where_its_iteration_stands_still() -> None:
    low, high = estimate("octav", BELL, float(BELL.min()), float(BELL.max()), bits=4)
    size = np.abs(BELL)
    over = size > high
    wanted = size[over].sum() / (4.0**-4 / 3 * (~over).sum() + over.sum())
    assert high == pytest.approx(wanted, rel=1e-4)
    assert low == -high


def test_percentile_leaves_a_lone_outlier_outside() -> None:
    values = np.append(POSITIVE, 1000.0)
    assert estimate("percentile", values, 0.0, 1000.0)[1] < 10


@pytest.mark.parametrize("method", sorted(ESTIMATORS))
def test_a_tensor_that_is_always_zero_keeps_its_ends(method: str) -> None:
    assert estimate(method, np.zeros(10), 0.0, 0.0) == (0.0, 0.0)


def test_exact_tensors_keep_minimum_and_maximum() -> None:
    seen = Activation(
        low=np.array([0.0, -1.0]),
        high=np.array([50.0, 2.0]),
        mean=np.zeros(2),
        picked=POSITIVE,
        channels=np.zeros(len(POSITIVE), int),
    )
    found = estimated({"a": seen, "b": seen}, "mse", exact={"a"})
    assert found["a"] == ([-1.0], [50.0])
    assert found["b"] != found["a"]
