"""How a candidate is written: one line that says techniques, scheme and settings."""

from __future__ import annotations

import pytest

from edgeopt.errors import InputError
from edgeopt.plan import Spec, parse_spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("int8", Spec(scheme="int8")),
        ("int8:ranges=mse", Spec(scheme="int8", quality={"ranges": "mse"})),
        (
            "int8:bias-correction=off,ranges=octav",
            Spec(scheme="int8", quality={"bias_correction": "off", "ranges": "octav"}),
        ),
        (
            "prune=0.5+int8",
            Spec(scheme="int8", techniques=("prune",), training={"final_sparsity": 0.5}),
        ),
        (
            "qat+cluster=32+float16",
            Spec(scheme="float16", techniques=("cluster", "qat"), training={"clusters": 32}),
        ),
        ("qat", Spec(scheme=None, techniques=("qat",))),
    ],
)
def test_a_candidate_is_read_and_written_in_one_way(text: str, spec: Spec) -> None:
    assert parse_spec(text) == spec
    assert parse_spec(spec.name) == spec


def test_plain_is_minimum_and_maximum_alone() -> None:
    plain = parse_spec("int8:plain")
    assert plain.quality["ranges"] == "minmax" and plain.quality["equalization"] == "off"
    assert plain.quality["splitting"] == "off"  # whatever else was asked for
    assert plain.name == "int8:plain"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("int9", "int8"),
        ("prone+int8", "Did you mean"),
        ("prune=much+int8", "not a number"),
        ("prune=1.5+int8", "between 0 and 1"),
        ("qat=3+int8", "takes no value"),
        ("qat+qat+int8", "twice"),
        ("int8:range=mse", "ranges"),
        ("int8:ranges=best", "cannot be 'best'"),
        ("float16:ranges=mse", "no activation ranges"),
        ("", "Did you|in it"),
    ],
)
def test_a_wrong_candidate_is_refused_with_the_part_that_is_wrong(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_spec(text)
