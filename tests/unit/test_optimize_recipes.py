"""Names of schemes, and requests that can exist."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgeopt.errors import InputError
from edgeopt.optimize.calibration import merge
from edgeopt.optimize.recipes import SCHEMES, ConversionRequest, scheme_named


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_is_its_own_name(name: str) -> None:
    assert scheme_named(name) == name


@pytest.mark.parametrize(
    ("alias", "scheme"),
    [
        ("static_wi8_ai8", "int8"),
        ("dynamic_wi8_afp32", "dynamic_int8"),
        ("static_wi8_ai16", "int16x8"),
        ("FP16", "float16"),
    ],
)
def test_recipe_names_of_litert_are_understood(alias: str, scheme: str) -> None:
    assert scheme_named(alias) == scheme


def test_a_misspelled_scheme_gets_the_nearest_name() -> None:
    with pytest.raises(InputError, match="Did you mean int8"):
        scheme_named("imt8")


@pytest.mark.parametrize("name", ["weight_only_wi8_afp32", "dynamic_wi4_afp32"])
def test_recipes_that_no_target_gains_from_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(InputError, match="not offered"):
        scheme_named(name)


@pytest.mark.parametrize(
    ("scheme", "io"), [("int16x8", "int8"), ("float16", "uint8"), ("dynamic_int8", "int8")]
)
def test_integer_io_goes_with_int8_alone(scheme: str, io: str) -> None:
    with pytest.raises(InputError, match="--io float32"):
        ConversionRequest(scheme=scheme, io=io)


def test_merged_ranges_are_the_union_whatever_the_order() -> None:
    parts = [{"a": ([0.0], [1.0])}, {"a": ([-2.0], [0.5]), "b": ([3.0], [3.0])}]
    assert merge(parts) == merge(parts[::-1]) == {"a": ([-2.0], [1.0]), "b": ([3.0], [3.0])}


def test_importing_optimize_imports_nothing_heavy() -> None:
    code = (
        "import sys, edgeopt.optimize, edgeopt.dataset; "
        "print([m for m in ('numpy', 'tensorflow', 'litert_quantizer', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
