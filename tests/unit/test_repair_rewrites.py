"""Each repair on a small model: its cause is named, it maps afterwards, and computes the same.

The proof is the real LiteRT runtime in its own process; the tests run both files once more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import repair_models as models
from tflite_models import edited, out_of_line

from edgeopt.pipeline.fixing import Request, fix
from edgeopt.progress import Silent


def repaired(data: bytes, folder: Path, **asked: Any) -> Any:
    source = folder / "model.tflite"
    source.write_bytes(data)
    request = Request(model=source, target="edgetpu", output=folder / "out", **asked)
    found = fix(request, Silent())
    assert source.read_bytes() == data
    return found


def written(found: Any) -> bytes:
    (made,) = [a for a in found.artifacts if a.stage == "fixed"]
    return bytes(made.path.read_bytes())


def mapped(look: Any) -> tuple[int, int]:
    return look.placement.ops_mapped, look.placement.ops_total


def run(data: bytes, *, own: bool = False, seed: int = 5) -> list[np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if own else OpResolverType.AUTO
    interpreter = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    generator = np.random.default_rng(seed)
    for entry in interpreter.get_input_details():
        value = generator.integers(0, 256, entry["shape"]).astype(np.uint8)
        interpreter.set_tensor(entry["index"], value.view(entry["dtype"]))
    interpreter.invoke()
    return [interpreter.get_tensor(e["index"]) for e in interpreter.get_output_details()]


def assert_same(before: bytes, after: bytes, *, own: bool = False) -> None:
    for left, right in zip(run(before, own=own), run(after, own=own), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def explained(found: Any, op: str) -> Any:
    return next(e for e in found.before.explanations if e.op == op)


@pytest.mark.parametrize(
    "name",
    ["UNPACK", "UNPACK batch", "SPLIT_V", "SPLIT_V equal", "GATHER", "RESIZE_BILINEAR"],
)
def test_what_only_moves_numbers_is_written_as_what_maps(name: str, tmp_path: Path) -> None:
    data = models.moved(name)
    found = repaired(data, tmp_path)
    assert explained(found, name.split()[0]).automatic
    assert mapped(found.before)[0] < mapped(found.before)[1]
    if name != "UNPACK batch":  # its own RESHAPE has an outer dimension of 2
        assert mapped(found.after)[0] == mapped(found.after)[1]
        assert_same(data, written(found))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_a_dense_layer_over_positions_becomes_a_convolution(dtype: str, tmp_path: Path) -> None:
    data = models.dense_3d(5, dtype=dtype)
    found = repaired(data, tmp_path)
    assert mapped(found.before)[0] == 0
    assert mapped(found.after) == (3, 3)
    assert_same(data, written(found))


def test_a_dense_layer_of_one_position_stays_a_dense_layer(tmp_path: Path) -> None:
    data = models.dense_3d(1)
    found = repaired(data, tmp_path)
    assert [op.op for op in found.after.facts.operators()].count("FULLY_CONNECTED") == 1
    assert mapped(found.after)[0] == mapped(found.after)[1]
    assert_same(data, written(found))


def test_a_version_without_its_feature_is_lowered(tmp_path: Path) -> None:
    data = models.dense_versions(9)
    found = repaired(data, tmp_path)
    assert explained(found, "FULLY_CONNECTED").cause == "version"
    assert [op.version for op in found.after.facts.operators()] == [4]
    assert_same(data, written(found))


def test_a_dense_layer_without_a_bias_gets_zeros(tmp_path: Path) -> None:
    data = models.dense_versions(6, bias=False)
    found = repaired(data, tmp_path)
    assert [op.version for op in found.after.facts.operators()] == [4]
    assert_same(data, written(found))


def test_leaky_relu_waits_for_a_word_where_xnnpack_rounds_otherwise(tmp_path: Path) -> None:
    data = models.leaky()
    kept = repaired(data, tmp_path)
    (step,) = [s for s in kept.steps if s.name == "leaky_relu"]
    assert not step.applied
    assert "--own-kernels" in step.reason
    found = repaired(data, tmp_path, own_kernels=True)
    assert mapped(found.before) == (1, 3)
    assert mapped(found.after) == (3, 3)
    assert_same(data, written(found), own=True)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_float_inputs_and_outputs_become_what_is_inside(dtype: str, tmp_path: Path) -> None:
    found = repaired(models.float_edges(dtype), tmp_path)
    assert found.before.constraints.violations
    assert found.after.constraints.passed
    facts = found.after.facts
    assert [t.dtype for t in (*facts.inputs, *facts.outputs)] == [dtype, dtype]
    assert [t.name for t in (*facts.inputs, *facts.outputs)] == ["image", "scores"]
    assert [op.op for op in facts.operators()] == ["CONV_2D"]
    (step,) = [s for s in found.steps if s.applied]
    assert "real = 0.05" in step.changes[0]


def test_an_output_of_the_other_8_bit_type_is_asked_for_with_io(tmp_path: Path) -> None:
    found = repaired(models.float_edges("int8"), tmp_path, io="uint8")
    facts = found.after.facts
    assert [t.dtype for t in (*facts.inputs, *facts.outputs)] == ["uint8", "uint8"]


def test_an_open_batch_and_the_shapes_computed_from_it_are_fixed(tmp_path: Path) -> None:
    data = models.open_batch()
    found = repaired(data, tmp_path)
    assert [op.op for op in found.after.facts.operators()] == [
        "CONV_2D", "RESHAPE", "FULLY_CONNECTED",
    ]  # fmt: skip
    assert mapped(found.after) == (3, 3)
    assert not any(d < 0 for t in found.after.facts.tensors() for d in t.signature or ())
    assert_same(data, written(found))


def test_constants_behind_the_model_are_brought_inside(tmp_path: Path) -> None:
    data = out_of_line(models.dense_versions(4))
    found = repaired(data, tmp_path)
    assert found.before.constraints.violations
    assert found.after.facts.out_of_line_buffers == 0
    assert_same(data, written(found))


def test_operations_that_reach_no_output_are_removed(tmp_path: Path) -> None:
    made = models.Maker()
    first = made.tensor("x", [1, 4, 4, 4])
    made.op("NEG", [first], [made.tensor("unused", [1, 4, 4, 4])])
    found = repaired(made.done([first], [made.conv(first, "conv")]), tmp_path)
    assert [op.op for op in found.after.facts.operators()] == ["CONV_2D"]
    assert "unused" not in {t.name for t in found.after.facts.tensors()}


@pytest.mark.parametrize(
    "data",
    [
        models.dense_3d(5),
        models.float_edges(),
        models.open_batch(),
        models.moved("SPLIT_V"),
        models.moved("UNPACK"),
    ],
    ids=["dense", "edges", "batch", "split", "unpack"],
)
def test_what_was_repaired_needs_no_repair(data: bytes, tmp_path: Path) -> None:
    once = written(repaired(data, tmp_path))
    again = repaired(once, tmp_path)
    assert not again.changed
    assert not any(step.applied for step in again.steps)
    assert written(again) == once


def test_a_grouped_convolution_keeps_its_version(tmp_path: Path) -> None:
    def group(model: Any) -> None:
        model.operatorCodes[0].version = 6
        model.subgraphs[0].tensors[1].shape = [4, 1, 1, 2]

    made = models.Maker()
    first = made.tensor("x", [1, 4, 4, 4])
    data = edited(made.done([first], [made.conv(first, "conv")]), group)
    source = tmp_path / "model.tflite"
    source.write_bytes(data)
    from edgeopt.errors import ModelError

    with pytest.raises(ModelError) as caught:
        fix(Request(model=source, target="edgetpu", output=tmp_path / "out"), Silent())
    assert [op.version for op in caught.value.reached.after.facts.operators()] == [6]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", [(1, 8), (1, 5, 8)])
def test_a_dense_layer_scaled_by_channel_becomes_a_convolution(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    data = models.dense_by_channel(*shape)
    found = repaired(data, tmp_path)
    assert {v.constraint for v in found.before.constraints.violations} == {"weights.channel_axis"}
    assert explained(found, "FULLY_CONNECTED").automatic
    assert found.after.constraints.passed and not found.after.placement.ops_uncertain
    assert mapped(found.after)[0] == mapped(found.after)[1]
    assert_same(data, written(found))
    assert_same(data, written(found), own=True)
