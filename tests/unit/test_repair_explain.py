"""Why an operation is on the CPU, in words, and what mapping it would win."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import repair_models as models
from builders import Net

from edgeopt.facts import ModelFacts
from edgeopt.model import read
from edgeopt.model.schema import BUILTIN_OPERATORS
from edgeopt.pipeline.explaining import explanations, gains
from edgeopt.profile import load_profile
from edgeopt.profile.rules import STAGES
from edgeopt.repair import Explanation
from edgeopt.repair.explain import catalogue
from edgeopt.verify import predict

PROFILE = load_profile("edgetpu-v1")


def explained(data: bytes, folder: Path) -> tuple[ModelFacts, tuple[Explanation, ...]]:
    path = folder / "model.tflite"
    path.write_bytes(data)
    facts = read(path)
    return facts, explanations(facts, predict(facts, PROFILE), PROFILE)


def test_every_rule_that_can_refuse_has_a_text_of_its_own() -> None:
    refusing = [s for s in STAGES if s not in ("advice", "graph_build")]
    causes = {
        check.cause
        for rule in PROFILE.operations.values()
        for check in rule.checks
        if check.stage in refusing
    }
    known = {cause for cause, _ in catalogue()}
    assert causes <= known
    assert set(PROFILE.phrases) - known <= {"limitation", *_OPERATIONS}


_OPERATIONS = frozenset(load_profile("edgetpu-v1").runtime.operations)


def test_no_text_of_the_catalogue_is_about_an_operation_that_does_not_exist() -> None:
    assert {op for _, op in catalogue()} <= {"", *BUILTIN_OPERATORS}


def test_an_operation_outside_the_partition_names_the_one_that_ended_it(tmp_path: Path) -> None:
    facts, found = explained(models.leaky(), tmp_path)
    refused, after = found
    assert (refused.op, refused.cause) == ("LEAKY_RELU", "operation_unsupported")
    assert refused.would_map == 2
    assert (after.cause, after.blocked_by) == ("outside_partition", (refused.index,))
    assert after.kind == "none"
    assert after.would_map is None
    assert "LEAKY_RELU #1" in after.why
    assert "2 more" in after.repair
    assert gains(facts, PROFILE) == {1: 2}


def test_float16_weights_that_would_go_along_are_won_too() -> None:
    net = Net()
    half = net.constant("float16")
    weights = net.op("DEQUANTIZE", half, out=("float32", (4, 1, 1, 4)), version=3)
    data = net.op("CONV_2D", net.input("float32"), weights, out=("float32", (1, 8, 8, 4)))
    refused = net.op("ARG_MAX", data, net.integers(3))
    assert gains(net.facts(refused), load_profile("android-gpu")) == {2: 2}


def test_what_a_repair_would_win_is_the_prediction_made_again(tmp_path: Path) -> None:
    """ARG_MAX alone would map, CAST behind it not: each is asked by itself."""
    _, found = explained(models.with_tail(), tmp_path)
    assert [(e.op, e.would_map) for e in found] == [("ARG_MAX", 1), ("CAST", 0)]
    assert {e.kind for e in found} == {"cut"}


def test_a_resize_is_told_with_its_sizes(tmp_path: Path) -> None:
    made = models.Maker()
    first = made.tensor("x", [1, 4, 4, 4])
    large = made.tensor("up_1", [1, 64, 64, 4])
    made.op("RESIZE_BILINEAR", [made.conv(first, "conv"), made.integers("size", [64, 64])],
            [large], 2, "ResizeBilinear")  # fmt: skip
    _, (found,) = explained(made.done([first], [large]), tmp_path)
    assert (found.op, found.layer, found.kind) == ("RESIZE_BILINEAR", "up_1", "cut")
    assert "4 x 4 to 64 x 64, 16 times" in found.why


@pytest.mark.parametrize(
    "data",
    [
        models.leaky(),
        models.dense_3d(5),
        models.dense_versions(9),
        models.float_edges(),
        models.open_batch(),
        models.moved("UNPACK"),
        models.with_tail(),
        models.with_tail("PosenetDecoderOp"),
    ],
    ids=["leaky", "dense", "version", "edges", "batch", "unpack", "tail", "custom"],
)
def test_no_figure_of_a_text_is_left_open(data: bytes, tmp_path: Path) -> None:
    _, found = explained(data, tmp_path)
    assert found
    for one in found:
        for text in (one.why, one.repair):
            assert text
            assert not re.search(r"[{}]|(^|\s)\?(\s|$)", text), text


def test_the_real_models_are_explained_operation_by_operation(shared: Path) -> None:
    """As many explanations as the compiler left operations on the CPU, by its own count."""
    models_ = shared / "edgetpu" / "models"
    for name, on_cpu, first in (
        ("movenet_single_pose_lightning_ptq", 59, "ARG_MAX"),
        ("deeplabv3_mnv2_dm05_pascal_quant", 8, "RESIZE_BILINEAR"),
        ("posenet_mobilenet_v1_075_353_481_16_quant_decoder", 1, "PosenetDecoderOp"),
        ("mobilenet_v2_1.0_224_quant", 0, ""),
    ):
        facts = read(models_ / f"{name}.tflite")
        found = explanations(facts, predict(facts, PROFILE), PROFILE)
        assert len(found) == on_cpu, name
        follows = [e for e in found if e.cause == "outside_partition"]
        assert all(e.blocked_by for e in follows)
        if first:
            best = max(found, key=lambda e: -(1 << 30) if e.would_map is None else e.would_map)
            assert best.would_map is not None
            assert best.would_map > 0
            assert first in {e.op for e in found if e.would_map == best.would_map}
