"""Weights of another training in a compiled file of the same network are noticed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from builders import Net

from edgeopt.facts import Operator
from edgeopt.model import read
from edgeopt.verify.mapping import prove
from edgeopt.verify.mapping_weights import weights_found

RNG = random.Random(3)
WEIGHTS = RNG.randbytes(64 * 3 * 3 * 8)


def convolution(dtype: str, shape: tuple[int, ...] = (64, 3, 3, 8), **more: Any) -> Operator:
    net = Net()
    weights = net.constant(dtype, shape, data=memoryview(WEIGHTS), **more)
    out = net.op("CONV_2D", net.input(), weights)
    return net.facts(out).subgraphs[0].operators[0]


def reordered(shift: int) -> bytes:
    """The groups of four in another order, with padding between, signed values shifted."""
    groups = [WEIGHTS[i : i + 4] for i in range(0, len(WEIGHTS), 4)]
    random.Random(5).shuffle(groups)
    return b"\0" * 64 + b"".join(bytes(b ^ shift for b in g) for g in groups) + b"\x80" * 3


@pytest.mark.parametrize(("dtype", "shift"), [("uint8", 0), ("int8", 0x80)])
def test_weights_are_found_in_any_order(dtype: str, shift: int) -> None:
    sampled, found = weights_found([convolution(dtype)], [memoryview(reordered(shift))])
    assert sampled == found > 500


def test_other_weights_are_not_found() -> None:
    other = memoryview(random.Random(9).randbytes(len(WEIGHTS)))
    sampled, found = weights_found([convolution("int8")], [other])
    assert sampled > 500 and found < 5


def test_weights_that_are_not_kept_together_are_not_looked_for() -> None:
    assert weights_found([convolution("int8", (64, 3, 3, 3))], []) == (0, 0)
    assert weights_found([convolution("float32")], []) == (0, 0)


def test_a_file_of_another_training_is_not_proven(shared: Path, tmp_path: Path) -> None:
    models = shared / "edgetpu" / "models"
    data = bytearray((models / "mobilenet_v1_0.25_128_quant.tflite").read_bytes())
    source = read(models / "mobilenet_v1_0.25_128_quant.tflite")
    small = [t for op in source.operators() if op.op == "CONV_2D" for t in op.inputs[1:2] if t]
    for tensor in small:
        assert tensor.data is not None
        at = bytes(data).find(bytes(tensor.data))
        if at >= 0:
            data[at : at + len(tensor.data)] = random.Random(2).randbytes(len(tensor.data))
    path = tmp_path / "retrained.tflite"
    path.write_bytes(data)
    found = prove(read(models / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"), read(path))
    assert not found.proven and "other weights" in found.problems[0]
