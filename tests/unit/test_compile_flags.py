"""From edgeopt's options to the compiler's flags, and what is refused before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import Net, conv
from click.testing import CliRunner
from relu_chain import chain, written

from edgeopt.cli.compiler_options import compiler_request
from edgeopt.compile import CompileOptions
from edgeopt.compile.edgetpu_flags import check_request, flags_of, settled, warnings_of
from edgeopt.errors import InputError
from edgeopt.facts import ModelFacts
from edgeopt.model import read

VERSION = "16.0.384591198"


def flags(version: str = VERSION, **extra: Any) -> list[str]:
    return flags_of(settled(CompileOptions(timeout_s=100, extra=extra)), version)


@pytest.fixture
def model(tmp_path: Path) -> ModelFacts:
    return read(written(tmp_path, chain=chain(0, 4))["chain"])


def refused(model: ModelFacts, **extra: str) -> str:
    with pytest.raises(InputError) as caught:
        check_request(settled(CompileOptions(extra=extra)), [model])
    return str(caught.value)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({}, "-s -t 95"),
        ({"min_runtime_version": "13"}, "-s -m 13 -t 95"),
        ({"num_segments": "4"}, "-s -n 4"),
        ({"num_segments": "4", "attempt_timeout_s": "300"}, "-s -n 4 -t 300"),
        ({"search_delegate": "true"}, "-s -d"),
        ({"search_step": "5", "attempt_timeout_s": "60"}, "-s -d -k 5 -t 60"),
        ({"multiple_subgraphs": "yes"}, "-s -t 95 -a"),
        ({"retry_search_delegate": "true"}, "-s -t 95"),
        ({"intermediate_tensors": "a;b,c"}, "-s -t 95 -i a;b,c"),
    ],
)
def test_each_option_is_its_flag(extra: dict[str, str], expected: str) -> None:
    assert " ".join(flags(**extra)) == expected


def test_old_compilers_are_not_given_a_timeout_flag() -> None:
    assert flags("15.0.340273435", attempt_timeout_s="60") == ["-s"]


@pytest.mark.parametrize(
    "extra",
    [
        {"num_segments": "0"},
        {"num_segments": "two"},
        {"attempt_timeout_s": "1.5"},
        {"search_step": "\u00b2"},
        {"multiple_subgraphs": "perhaps"},
        {"num_segment": "2"},
    ],
)
def test_values_that_make_no_sense_are_refused(extra: dict[str, str]) -> None:
    with pytest.raises(InputError):
        settled(CompileOptions(extra=extra))


@pytest.mark.parametrize("version", ["10", "11"])
def test_a_runtime_without_int8_is_refused_for_int8_models_only(
    model: ModelFacts, version: str
) -> None:
    said = refused(model, min_runtime_version=version)
    assert "report success and map nothing" in said and "--min-runtime-version 12" in said
    net = Net()
    unsigned = net.facts(conv(net, net.input("uint8"), dtype="uint8"))
    check_request(settled(CompileOptions(extra={"min_runtime_version": version})), [unsigned])


def test_a_runtime_that_does_not_exist_is_refused(model: ModelFacts) -> None:
    assert "There is no Edge TPU runtime 15" in refused(model, min_runtime_version="15")


def test_a_tensor_to_cut_at_must_be_one_that_the_model_computes(model: ModelFacts) -> None:
    check_request(settled(CompileOptions(extra={"intermediate_tensors": "t1,t3"})), [model])
    assert "Did you mean 't3'?" in refused(model, intermediate_tensors="t1,t33")
    assert "is an input or a constant" in refused(model, intermediate_tensors="t0")
    assert "has no tensor ''" in refused(model, intermediate_tensors="t1,")


def test_part_of_a_joined_name_leads_to_the_whole_one(tmp_path: Path) -> None:
    data = chain(0, 2, prefix="block/relu;block/conv")
    model = read(written(tmp_path, joined=data)["joined"])
    said = refused(model, intermediate_tensors="block/conv1")
    assert "Did you mean 'block/relu;block/conv1'?" in said and "quoted in the shell" in said
    name = "block/relu;block/conv1"
    check_request(settled(CompileOptions(extra={"intermediate_tensors": name})), [model])


def test_more_segments_than_operations_or_two_ways_to_cut_are_refused(model: ModelFacts) -> None:
    assert "has 4 operations" in refused(model, num_segments="5")
    assert "does not go with" in refused(model, num_segments="2", intermediate_tensors="t1")


@pytest.mark.parametrize("extra", [{"num_segments": "2"}, {"intermediate_tensors": "t1"}])
def test_several_models_are_neither_segmented_nor_cut(
    model: ModelFacts, extra: dict[str, str]
) -> None:
    with pytest.raises(InputError, match="several were given"):
        check_request(settled(CompileOptions(extra=extra)), [model, model])


def test_several_subgraphs_are_warned_of_whatever_comes_out() -> None:
    options = settled(CompileOptions(extra={"multiple_subgraphs": "true"}))
    assert "ten times slower" in warnings_of(options)[0]
    assert warnings_of(settled(CompileOptions())) == ()


def test_the_command_line_names_every_option() -> None:
    found: dict[str, Any] = {
        "search_delegate": True,
        "delegate_search_step": 3,
        "retry_search_delegate": True,
        "min_runtime_version": 13,
        "num_segments": 2,
        "intermediate_tensors": "a",
        "attempt_timeout": 9,
        "multiple_subgraphs": True,
        "other": 1,
    }
    request = compiler_request(found)
    assert found == {"other": 1}
    options = settled(CompileOptions(extra=request))
    assert options.min_runtime_version == 13 and options.search_delegate
    assert options.extra["search_step"] == "3" and options.extra["attempt_timeout_s"] == "9"
    from edgeopt.cli.app import app

    shown = CliRunner().invoke(app, ["compile", "--help"]).output
    assert all(f"--{name.replace('_', '-')}" in shown for name in request if name != "search_step"
               and name != "attempt_timeout_s")  # fmt: skip
    assert "--delegate-search-step" in shown and "--attempt-timeout" in shown
