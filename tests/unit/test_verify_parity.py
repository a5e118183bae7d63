"""Parity never passes in doubt, and its difference is in real units."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeopt.verify.parity import compare


def one(*values: object, dtype: str = "float32"):  # type: ignore[no-untyped-def]
    return ((np.array(values, dtype=dtype),),)


def test_equal_outputs_pass() -> None:
    found = compare(one(1, 2), one(1, 2), exact=True, tolerance=0)
    assert (found.passed, found.max_abs_diff, found.samples, found.worst) == (True, 0.0, 1, (0, 0))


def test_the_worst_place_is_named() -> None:
    left = tuple((np.zeros(2), np.full(2, float(i))) for i in range(3))
    right = tuple((np.zeros(2), np.full(2, i * 1.5)) for i in range(3))
    found = compare(left, right, exact=False, tolerance=0.75)
    assert (found.passed, found.worst, found.max_abs_diff) == (False, (2, 1), 1.0)
    assert "sample 2, output 1" in found.reason


@pytest.mark.parametrize(
    ("dtype", "a", "b", "expected"),
    [
        ("int8", -128, 127, 255.0),
        ("uint8", 0, 255, 255.0),
        ("int64", -(2**63), 2**63 - 1, float(2**64 - 1)),
        ("uint64", 0, 2**64 - 1, float(2**64 - 1)),
        ("bool", False, True, 1.0),
        ("float16", -60000, 60000, 119936.0),
    ],
)
def test_no_type_overflows(dtype: str, a: object, b: object, expected: float) -> None:
    found = compare(one(a, dtype=dtype), one(b, dtype=dtype), exact=False, tolerance=1e30)
    assert found.passed and found.max_abs_diff == pytest.approx(expected, rel=1e-3)


def test_exact_ignores_the_tolerance() -> None:
    assert not compare(one(5, dtype="int8"), one(6, dtype="int8"), exact=True, tolerance=3).passed
    assert compare(one(5, dtype="int8"), one(6, dtype="int8"), exact=False, tolerance=1).passed


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [
        ((), (), "no sample"),
        (one(1), (), "no sample"),
        (one(1), one(1) + one(1), "1 samples against 2"),
        (((),), ((),), "outputs"),
        (one(1), ((*one(1)[0], *one(1)[0]),), "1 outputs against 2"),
        (one(1), one(1, 2), "shape"),
        (one(1), one(1, dtype="float64"), "float32 against float64"),
        (one(), one(), "empty"),
        (one(float("nan"), 1), one(1, 1), "NaN"),
        (one(float("inf"), 1), one(1, 1), "infinity"),
        (one(float("inf"), 1), one(-float("inf"), 1), "signs"),
        (one(float("nan")), one(float("nan")), "no finite"),
        (one(1e308, dtype="float64"), one(-1e308, dtype="float64"), "overflows"),
    ],
)
def test_what_cannot_be_compared_fails_with_a_reason(left, right, said: str) -> None:  # type: ignore[no-untyped-def]
    found = compare(left, right, exact=False, tolerance=1e9)
    assert not found.passed and said in found.reason


@pytest.mark.parametrize("tolerance", [float("nan"), -1.0, float("inf")])
def test_a_tolerance_that_is_no_number_does_not_pass(tolerance: float) -> None:
    assert not compare(one(1), one(1), exact=False, tolerance=tolerance).passed


def test_equal_places_of_nan_are_no_difference() -> None:
    found = compare(one(float("nan"), 1), one(float("nan"), 1.5), exact=False, tolerance=1)
    assert found.passed and found.max_abs_diff == 0.5


def test_the_agreed_fields_come_first_and_are_json() -> None:
    content = compare(one(1), (), exact=True, tolerance=0).to_json()
    assert list(content)[:4] == ["samples", "max_abs_diff", "tolerance", "passed"]
    assert json.loads(json.dumps(content))["max_abs_diff"] is None
