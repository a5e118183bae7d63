"""Samples become exactly what the interpreter takes."""

from __future__ import annotations

import numpy as np
import pytest

from edgeopt.errors import InputError
from edgeopt.facts import Quantization, Tensor
from edgeopt.feed import feed, real_values, seeded_inputs

INT8 = Tensor(
    index=0, name="x", dtype="int8", shape=(1, 2),
    quantization=Quantization(scales=(0.5,), zero_points=(-10,)),
)  # fmt: skip
FLOAT = Tensor(index=0, name="x", dtype="float32", shape=(1, 2))


def test_real_values_are_quantized_rounded_and_clipped() -> None:
    (array,) = feed((np.array([1.3, 1000.0]),), (INT8,))
    assert array.dtype == np.int8 and array.tolist() == [[-7, 127]]


def test_values_of_the_input_type_pass_unchanged() -> None:
    (array,) = feed((np.array([5, -5], np.int8),), (INT8,))
    assert array.tolist() == [[5, -5]]


def test_a_static_batch_repeats_the_sample() -> None:
    wide = Tensor(index=0, name="x", dtype="float32", shape=(3, 2))
    (array,) = feed((np.array([1.0, 2.0]),), (wide,))
    assert array.shape == (3, 2) and array.dtype == np.float32


def test_a_sample_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="does not fit"):
        feed((np.zeros((3,)),), (FLOAT,))
    with pytest.raises(InputError, match="2 arrays"):
        feed((np.zeros(2), np.zeros(2)), (FLOAT,))


def test_real_values_undo_quantization_without_overflow() -> None:
    (values,) = real_values([np.array([127, -128], np.int8)], (INT8,))
    assert values.tolist() == [68.5, -59.0]


def test_seeded_inputs_are_the_same_every_time_and_span_the_type() -> None:
    wide = Tensor(index=0, name="x", dtype="int8", shape=(1, 4000), quantization=INT8.quantization)
    first, second = (seeded_inputs((wide,), 2) for _ in range(2))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, second, strict=True))
    assert first[0][0].min() == -128 and first[0][0].max() == 127


def test_a_byte_for_a_float_model_is_a_value_for_its_quantized_one() -> None:
    from edgeopt.feed import real_inputs

    (real,) = real_inputs((INT8,))
    assert (real.dtype, real.quantization) == ("float32", None)
    assert real_inputs((FLOAT,)) == (FLOAT,)


def test_a_scalar_input_gets_a_scalar() -> None:
    scalar = Tensor(index=0, name="k", dtype="float32", shape=())
    (array,) = feed((np.float32(3),), (scalar,))
    assert array.shape == ()
    assert seeded_inputs((scalar,), 1)[0][0].shape == ()
