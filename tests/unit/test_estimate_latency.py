"""The latency estimate: what it is made of, how sure it says it is, and what it advises."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from unit.builders import Net

from edgeopt.cli.app import app
from edgeopt.errors import InputError
from edgeopt.estimate import Advice, Estimate, EstimateOptions
from edgeopt.estimate.edgetpu import estimate, latency_of, rates
from edgeopt.estimate.features import Features
from edgeopt.facts import ModelFacts
from edgeopt.findings import OpPlacement, Placement
from edgeopt.pipeline.estimating import estimate_for
from edgeopt.profile import load_profile
from edgeopt.target import load_target

ROOT = Path(__file__).resolve().parents[2]
USUAL = Features(
    macs=400_000_000, reads=6_000_000, values=0, operations=65, streamed=0, inputs=150_528,
    outputs=1000,
)  # fmt: skip


def placed(facts: ModelFacts, cpu: Collection[int] = ()) -> Placement:
    ops = tuple(
        OpPlacement(index=o.index, op=o.op, placement="cpu" if o.index in cpu else "edgetpu")
        for o in facts.subgraphs[0].operators
    )
    return Placement(
        source="predicted", ops_total=len(ops), ops_mapped=len(ops) - len(cpu), ops_cpu=len(cpu),
        subgraphs=1, ops=ops,
    )  # fmt: skip


def dense(width: int, layers: int = 4) -> ModelFacts:
    net = Net()
    x = net.input(shape=(1, width))
    for _ in range(layers):
        x = net.op("FULLY_CONNECTED", x, net.constant(shape=(width, width)))
    return net.facts(x)


def estimated(facts: ModelFacts, placement: Placement | None = None, **options: Any) -> Estimate:
    profile = load_profile("edgetpu-v1")
    found = estimate(facts, placement or placed(facts), profile, EstimateOptions(**options))
    assert found is not None
    return found


def advice(found: Estimate, kind: str) -> Advice:
    return next(item for item in found.advice if item.kind == kind)


def test_the_terms_add_up_to_the_value_inside_its_interval() -> None:
    found = latency_of(USUAL, "usb3", rates())
    assert sum(found.terms_ms.values()) == pytest.approx(found.value_ms)
    assert found.low_ms < found.value_ms < found.high_ms
    assert found.coverage == 0.9
    assert not found.extrapolated


def test_the_largest_term_bounds_the_estimate_and_is_named_in_words() -> None:
    found = latency_of(replace(USUAL, streamed=20_000_000), "pcie", rates())
    assert found.bound == "streaming"
    assert found.reason.startswith("Bound by parameter streaming")
    assert max(found.terms_ms, key=lambda name: found.terms_ms[name]) == "streaming"


def test_outside_the_fitted_data_the_interval_is_wider_and_covers_no_known_share() -> None:
    inside = latency_of(USUAL, "usb3", rates())
    outside = latency_of(replace(USUAL, operations=5000), "usb3", rates())
    assert outside.extrapolated
    assert "operations 5,000 is above" in outside.extrapolated[0]
    assert outside.coverage is None
    assert outside.high_ms / outside.value_ms > inside.high_ms / inside.value_ms


def test_work_on_the_cpu_takes_longer_on_the_board_than_on_a_desktop() -> None:
    tail = replace(USUAL, cpu_values=5_000_000, cpu_operations=2)
    desktop, board = (latency_of(tail, host, rates()) for host in ("usb3", "pcie"))
    assert board.terms_ms["cpu"] > 5 * desktop.terms_ms["cpu"] > 0
    assert any("CPU" in text for text in board.extrapolated)


def test_an_unknown_host_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="thunderbolt") as refused:
        estimated(dense(64), host="thunderbolt")
    assert "pcie, usb3" in refused.value.hint


def test_nothing_mapped_or_compiled_already_has_no_estimate() -> None:
    facts, profile = dense(64), load_profile("edgetpu-v1")
    nothing = placed(facts, cpu={0, 1, 2, 3})
    compiled = replace(placed(facts), source="compiled_file")
    assert estimate(facts, nothing, profile, EstimateOptions()) is None
    assert estimate(facts, compiled, profile, EstimateOptions()) is None


def test_a_model_in_the_cache_gets_no_advice_about_streaming() -> None:
    assert not estimated(dense(512)).advice


def test_streaming_is_told_with_the_time_that_caching_would_take() -> None:
    found = estimated(dense(2048))
    now, cached = advice(found, "streaming").choices
    assert cached.latency_ms < now.latency_ms / 5


def test_segments_keep_each_part_cached_and_raise_the_throughput() -> None:
    found = estimated(dense(2048))
    one, *more = advice(found, "segments").choices
    a_second = [c.per_second or 0 for c in (one, *more)]
    assert a_second == sorted(a_second)  # ways that gain nothing are not offered
    assert (more[-1].per_second or 0) > 5 * (one.per_second or 0)
    assert more[-1].latency_ms < one.latency_ms
    assert "streamed" not in more[-1].detail


def test_a_model_with_a_cpu_tail_is_not_offered_a_pipeline() -> None:
    facts = dense(2048)
    found = estimated(facts, placed(facts, cpu={3}))
    assert "segments" not in [item.kind for item in found.advice]


def test_two_small_models_gain_from_sharing_the_cache() -> None:
    facts, other = dense(512), dense(256)
    found = estimated(facts, beside=((other, placed(other)),))
    alone, together = advice(found, "co-compile").choices
    assert together.latency_ms < alone.latency_ms
    assert "compile together" in advice(found, "co-compile").text


def test_models_share_one_cache_and_stream_what_is_over() -> None:
    facts, other = dense(1280), dense(1280)
    found = estimated(facts, beside=((other, placed(other)),))
    together = advice(found, "co-compile").choices[1]
    assert together.detail == "6.25 MiB shared"  # four layers of one, none of 1.56 MiB more
    assert together.latency_ms > 2 * estimated(facts).latency.value_ms  # type: ignore[union-attr]


def test_mapping_a_tiny_tail_is_told_to_be_slower() -> None:
    net = Net()
    x = net.op("FULLY_CONNECTED", net.input(shape=(1, 64)), net.constant(shape=(64, 64)))
    x = net.op("CUSTOM", x)
    facts = net.facts(net.op("ADD", x, x))
    mixed = placed(facts, cpu={1, 2})
    ops = (*mixed.ops[:2], replace(mixed.ops[2], cause="outside_partition"))
    found = estimated(facts, replace(mixed, ops=ops))
    assert "would be slower" in advice(found, "mapping-more-is-slower").text


def test_an_uncertain_placement_is_noted() -> None:
    facts = dense(64)
    sure = placed(facts)
    ops = (replace(sure.ops[0], certain=False), *sure.ops[1:])
    assert "not certain" in estimated(facts, replace(sure, ops=ops)).notes[0]


def test_every_object_of_the_json_says_that_it_is_an_estimate() -> None:
    content = estimated(dense(2048)).to_json()
    assert content["source"] == "estimate"
    assert content["parameter_bytes"]["source"] == "estimate"
    assert content["latency_ms"]["source"] == "estimate"
    assert content["parameter_bytes"]["fits"] == "no"
    assert json.loads(json.dumps(content)) == content


def test_boards_say_what_they_are_attached_to() -> None:
    assert load_target("coral-dev-board").attached == "pcie"
    assert load_target("coral-usb").attached == "usb3"
    assert load_target("cpu").attached is None


def test_estimating_needs_no_numpy() -> None:
    code = "import sys, edgeopt.estimate.edgetpu as e; e.rates(); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def run_json(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_inspect_and_plan_show_the_estimate_of_a_real_model(shared: Path) -> None:
    model = str(shared / "edgetpu" / "models" / "mobilenet_v2_1.0_224_quant.tflite")
    told = run_json("inspect", model, "--target", "coral-usb")["estimate"]
    assert told["latency_ms"]["host"] == "usb3"
    assert told["latency_ms"]["low"] < 2.6 < told["latency_ms"]["high"]  # as published
    other = run_json("inspect", model, "--target", "coral-usb", "--host", "pcie")["estimate"]
    assert other["latency_ms"]["host"] == "pcie"
    assert run_json("plan", model, "--target", "coral-usb")["estimate"] == told


def test_a_target_without_an_estimator_refuses_a_host() -> None:
    facts = dense(64)
    assert estimate_for(facts, placed(facts), load_target("cpu")) is None
    with pytest.raises(InputError, match="no estimator knows its compiler"):
        estimate_for(facts, placed(facts), load_target("cpu"), host="usb3")


def test_the_shipped_coefficients_are_those_of_the_fit_and_hold_on_the_other_half(
    shared: Path, tmp_path: Path
) -> None:
    script, out = ROOT / "benchmarks" / "estimate.py", tmp_path / "fit.json"
    data = shared / "edgetpu" / "benchmarks.json"
    subprocess.run(
        [sys.executable, str(script), str(data), "--json", str(out)], check=True,
        capture_output=True,
    )  # fmt: skip
    fit, shipped = json.loads(out.read_text()), rates()
    for name, value in fit["ns"].items():
        assert shipped.ns[name] == pytest.approx(value, rel=1e-3)
    assert shipped.factors == pytest.approx(fit["factors"]["network"], abs=1e-3)
    held = fit["tables"]["held out"]
    assert held["network"]["median_error"] < 0.25
    assert held["network"]["coverage"] >= 0.8
    assert held["conv"]["mean_error"] < 0.1
