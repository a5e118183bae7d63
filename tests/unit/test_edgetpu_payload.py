"""The compiled payload, against the recorded figures of real compilations."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeopt.errors import ModelError
from edgeopt.model import read
from edgeopt.model.edgetpu_payload import (
    CUSTOM_OP,
    is_compiled,
    placement_of_compiled,
    read_payload,
)
from edgeopt.model.flatbuffer import CorruptFile
from edgeopt.model.flexbuffer import read_map

RENAMED = {
    "on_chip_cached_bytes": "on_chip_bytes",
    "off_chip_streamed_bytes": "off_chip_bytes",
}
COUNT = 12  # entries of pairs.json: a shorter list would quietly prove less


@pytest.fixture(scope="module")
def pairs(shared: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((shared / "edgetpu" / "pairs.json").read_text())
    assert len(found) == COUNT
    return found


@pytest.mark.parametrize("index", range(COUNT))
def test_every_recorded_payload_figure_is_read_exactly(
    shared: Path, pairs: list[dict[str, Any]], index: int
) -> None:
    pair = pairs[index]
    partitions = read_payload(read(shared / "edgetpu" / "models" / pair["compiled"]))
    recorded = pair["edgetpu_custom_ops"]
    assert len(partitions) == len(recorded)
    for partition, expected in zip(partitions, recorded, strict=True):
        found = partition.to_json()
        assert {key: found[RENAMED.get(key, key)] for key in expected} == expected


@pytest.mark.parametrize("index", range(COUNT))
def test_operations_left_on_the_cpu_are_those_recorded(
    shared: Path, pairs: list[dict[str, Any]], index: int
) -> None:
    pair, models = pairs[index], shared / "edgetpu" / "models"
    found = placement_of_compiled(read(models / pair["compiled"]), read(models / pair["source"]))
    assert (found.source, found.ops_total, found.ops_mapped, found.ops_cpu, found.subgraphs) == (
        "compiled_file",
        pair["n_source_ops"],
        pair["mapped"],
        pair["cpu"],
        len(pair["edgetpu_custom_ops"]),
    )
    assert found.on_chip_bytes == pair["edgetpu_custom_ops"][0]["on_chip_cached_bytes"]
    assert found.off_chip_bytes == pair["edgetpu_custom_ops"][0]["off_chip_streamed_bytes"]
    left = Counter(op.op for op in found.ops if op.placement == "cpu")
    assert left == Counter(pair["cpu_ops"])
    assert len(found.ops) == pair["n_source_ops"]


def test_the_layers_of_a_partition_have_names_and_shapes(shared: Path) -> None:
    name = "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    (partition,) = read_payload(read(shared / "edgetpu" / "models" / name))
    assert [(x.name, x.shape) for x in partition.inputs] == [("input", (128, 128, 3))]
    (output,) = partition.outputs
    assert output.name == "MobilenetV1/Predictions/Reshape_1"
    assert output.shape is not None and output.shape[-1] == 1001
    assert json.dumps(partition.to_json())


@pytest.mark.parametrize("index", range(COUNT))
def test_layers_have_the_types_and_scales_of_their_tensors(
    shared: Path, pairs: list[dict[str, Any]], index: int
) -> None:
    facts = read(shared / "edgetpu" / "models" / pairs[index]["compiled"])
    tensors = {t.name: t for t in facts.tensors()}
    for partition in read_payload(facts):
        for layer in (*partition.inputs, *partition.outputs):
            tensor = tensors.get(layer.name)
            if tensor is None:
                assert layer.name.endswith("_variable_output")  # a state that the runtime keeps
                continue
            assert tensor.quantization is not None
            assert layer.dtype == tensor.dtype
            assert layer.scale == tensor.quantization.scales[0]
            assert layer.zero_point == tensor.quantization.zero_points[0]


def test_models_compiled_together_share_a_caching_token(
    shared: Path, pairs: list[dict[str, Any]]
) -> None:
    together = [p["compiled"] for p in pairs if p["how"] != "plain"]
    tokens = {
        read_payload(read(shared / "edgetpu" / "models" / name))[0].parameter_caching_token
        for name in together
    }
    assert len(together) == 2 and len(tokens) == 1


def test_a_plain_model_has_no_partitions(shared: Path) -> None:
    facts = read(shared / "edgetpu" / "models" / "split_concat.tflite")
    assert read_payload(facts) == ()
    assert not is_compiled(facts)


def test_a_file_compiled_from_another_model_is_refused(shared: Path) -> None:
    models = shared / "edgetpu" / "models"
    compiled = read(models / "movenet_single_pose_lightning_ptq_edgetpu.tflite")
    with pytest.raises(ModelError, match="not compiled from it"):
        placement_of_compiled(compiled, read(models / "split_concat.tflite"))


@pytest.mark.parametrize("seed", range(4))
def test_damaged_payloads_are_errors_and_never_crashes(
    shared: Path, seed: int, tmp_path: Path
) -> None:
    good = (shared / "edgetpu" / "models" / "split_concat_edgetpu.tflite").read_bytes()
    path = tmp_path / "damaged.tflite"
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    for _ in range(60):
        bad = bytearray(good)
        if rng.random() < 0.25:
            del bad[rng.randrange(len(bad)) :]
        else:
            # Structure is at both ends of the payload and the file; weights in between are opaque.
            for _ in range(rng.randrange(1, 24)):
                at = rng.choice((rng.randrange(len(bad)), len(bad) - 1 - rng.randrange(2000)))
                bad[at] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        try:
            read_payload(read(path))
            outcomes["read"] += 1
        except ModelError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 5


def test_every_truncation_of_the_payload_is_refused(shared: Path) -> None:
    facts = read(shared / "edgetpu" / "models" / "split_concat_edgetpu.tflite")
    (op,) = facts.operators()
    assert op.op == CUSTOM_OP and op.custom_options is not None
    for size in (*range(64), *range(64, len(op.custom_options), 997)):
        short = replace(op, custom_options=op.custom_options[:size])
        subgraph = replace(facts.subgraphs[0], operators=(short,))
        with pytest.raises(CorruptFile):
            read_payload(replace(facts, subgraphs=(subgraph,)))


def test_random_bytes_are_never_more_than_a_corrupt_map() -> None:
    rng = random.Random(7)
    for _ in range(3000):
        data = memoryview(rng.randbytes(rng.randrange(60)) + bytes([0x24 | rng.randrange(4), 1]))
        try:
            read_map(data)
        except CorruptFile:
            continue
