"""Cutting a model into a chain of files that computes what the whole did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import repair_models as models
from test_repair_rewrites import run

from edgeopt.artifact import hash_path
from edgeopt.errors import InputError, ModelError
from edgeopt.model.tflite import parse
from edgeopt.pipeline.fixing import Request, fix
from edgeopt.progress import Silent
from edgeopt.repair import cut


def fixed(data: bytes, folder: Path, **asked: Any) -> Any:
    source = folder / "model.tflite"
    source.write_bytes(data)
    asked = {"output": folder / "out", **asked}
    return fix(Request(model=source, target="edgetpu", **asked), Silent())


def run_chain(manifest: Path, seed: int = 5) -> list[np.ndarray]:
    """As the manifest says, by tensor name, from the first part's random input on."""
    from ai_edge_litert.interpreter import Interpreter

    plan = json.loads(manifest.read_text())
    values: dict[str, np.ndarray] = {}
    generator = np.random.default_rng(seed)
    for part in plan["parts"]:
        path = manifest.parent / part["file"]
        assert hash_path(path) == part["sha256"]
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
        entries = interpreter.get_input_details()
        assert [e["name"] for e in entries] == part["inputs"]
        for entry in entries:
            if entry["name"] in plan["inputs"] and entry["name"] not in values:
                drawn = generator.integers(0, 256, entry["shape"]).astype(np.uint8).view(np.int8)
                values[entry["name"]] = drawn
            interpreter.set_tensor(entry["index"], values[entry["name"]])
        interpreter.invoke()
        for entry in interpreter.get_output_details():
            values[entry["name"]] = interpreter.get_tensor(entry["index"])
    return [values[name] for name in plan["outputs"]]


def test_a_tail_is_cut_off_and_the_chain_gives_the_same(tmp_path: Path) -> None:
    data = models.with_tail()
    found = fixed(data, tmp_path, cut_tail=True)
    assert [c.part.role for c in found.cuts] == ["tpu", "tail"]
    assert [c.name for c in found.cuts] == ["model_tpu.tflite", "model_tail.tflite"]
    body, tail = (c.look for c in found.cuts)
    assert (body.placement.ops_mapped, body.placement.ops_total) == (2, 2)
    assert [op.op for op in tail.facts.operators()] == ["ARG_MAX", "CAST"]
    assert found.chain_proof.identical
    for left, right in zip(run(data), run_chain(found.manifest), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_cut_is_made_behind_the_tensors_that_were_named(tmp_path: Path) -> None:
    data = models.with_tail()
    found = fixed(data, tmp_path, split_at=("stem",))
    first, second = (c.part for c in found.cuts)
    assert [first.names[i] for i in first.outputs] == ["stem"]
    assert [second.names[i] for i in second.inputs] == ["stem"]
    for left, right in zip(run(data), run_chain(found.manifest), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    ("name", "said"), [("steem", "Did you mean"), ("x", "input or a constant"), ("class", "after")]
)
def test_a_tensor_that_cannot_be_cut_at_is_refused(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        fixed(models.with_tail(), tmp_path, split_at=(name,))
    assert not (tmp_path / "out").exists()


def test_a_custom_operation_is_carried_over_and_said_not_to_be_run(tmp_path: Path) -> None:
    found = fixed(models.with_tail("PosenetDecoderOp"), tmp_path, cut_tail=True)
    assert found.chain_proof.identical
    assert "PosenetDecoderOp" in found.chain_proof.beyond[0]
    tail = parse((tmp_path / "out" / "model_tail.tflite").read_bytes()).subgraphs[0]
    assert [op.op for op in tail.operators] == ["PosenetDecoderOp"]
    body = parse((tmp_path / "out" / "model_tpu.tflite").read_bytes()).subgraphs[0]
    assert [t.name for t in body.outputs] == ["features"]


def test_a_head_in_float_is_cut_off(tmp_path: Path) -> None:
    made = models.Maker()
    first = made.tensor("image", [1, 4, 4, 4], "float32")
    scaled = made.tensor("scaled", [1, 4, 4, 4], "float32")
    made.op("ABS", [first], [scaled], 1, "Abs")
    inner = made.tensor("inner", [1, 4, 4, 4])
    made.op("QUANTIZE", [scaled], [inner], 1, "Quantize")
    data = made.done([first], [made.conv(inner, "conv")])
    with pytest.raises(ModelError, match="still breaks"):
        fixed(data, tmp_path)
    found = fixed(data, tmp_path, cut_head=True)
    assert [c.part.role for c in found.cuts] == ["head", "tpu"]
    assert found.cuts[1].look.constraints.passed
    assert [t.dtype for t in found.cuts[1].look.facts.inputs] == ["int8"]


def test_a_later_part_may_not_be_needed_by_an_earlier_one() -> None:
    data = models.with_tail()
    with pytest.raises(ModelError, match="cannot be cut"):
        cut(data, [("tpu", frozenset({0, 2})), ("tail", frozenset({1, 3}))])


def test_what_was_asked_for_but_changes_nothing_is_said(tmp_path: Path) -> None:
    made = models.Maker()
    first = made.tensor("x", [1, 4, 4, 4])
    found = fixed(made.done([first], [made.conv(first, "conv")]), tmp_path, cut_tail=True)
    assert not found.cuts
    assert "nothing to cut off" in found.notes[0]
