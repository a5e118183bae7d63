"""The payload reader on payloads built here, field by field, and on every way of damaging them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from compiled_models import compiled_double, executable, flatbuffer, layer, options, package
from tflite_models import fully_connected

from edgeopt.errors import ModelError
from edgeopt.facts import ModelFacts, Operator, Subgraph
from edgeopt.model.edgetpu_payload import CUSTOM_OP, Partition, read_payload
from edgeopt.model.flatbuffer import CorruptFile
from edgeopt.model.tflite import parse

RUNS = executable(
    2,
    b"\x01" * 8,
    inputs=[layer("in", (8, 8, 3), zero_point=128, size_bytes=192)],
    outputs=[
        layer("a", (1, 10), dtype="int8", zero_point=-9, scale=0.25),
        layer("b", (1, 20), dtype="int16", zero_point=0),
    ],
)
CACHES = executable(1, b"\x02" * 4096, moved=[(2, 4096)])


def facts_with(payload: bytes | memoryview) -> ModelFacts:
    op = Operator(
        index=0,
        subgraph=0,
        op=CUSTOM_OP,
        version=1,
        inputs=(),
        outputs=(),
        custom=True,
        custom_options=memoryview(payload),
    )
    graph = Subgraph(index=0, name="main", inputs=(), outputs=(), operators=(op,), tensors=())
    return ModelFacts(
        path=Path("built_here.tflite"),
        format="tflite",
        sha256="",
        size_bytes=0,
        gzip_bytes=0,
        parameters=None,
        subgraphs=(graph,),
    )


def one(payload: bytes | memoryview) -> Partition:
    (partition,) = read_payload(facts_with(payload))
    return partition


def test_every_field_of_a_payload_is_read_as_it_was_written() -> None:
    found = one(options(package(RUNS, CACHES))).to_json()
    assert found.pop("payload_bytes") > 4096
    inputs, outputs = found.pop("inputs"), found.pop("outputs")
    assert found == {
        "operator": 0,
        "chip": "beagle",
        "min_runtime_version": 13,
        "compiler_version": "cl/343520747",
        "executables": ["EXECUTION_ONLY", "PARAMETER_CACHING"],
        "on_chip_bytes": 4096,
        "off_chip_bytes": 8,
        "parameter_caching_token": 77,
        "instruction_chunks": 1,
        "instruction_bytes": 64,
        "input_dma_bytes": 48,
        "output_dma_bytes": 16,
        "parameter_dma_bytes": 8,
        "dma_complete": True,
        "estimated_cycles": 0,
        "scratch_bytes": 64,
        "narrow_bytes_per_tile": 4876,
    }
    assert inputs == [
        {"name": "in", "size_bytes": 192, "shape": [8, 8, 3], "dtype": "uint8", "scale": 0.5,
         "zero_point": 128, "executions": 1}
    ]  # fmt: skip
    # Signed zero points are stored shifted by 128 and by 32768.
    assert [(o["dtype"], o["scale"], o["zero_point"]) for o in outputs] == [
        ("int8", 0.25, -9),
        ("int16", 0.5, 0),
    ]


def test_packages_beside_and_inside_the_first_are_counted() -> None:
    inner = package(executable(1, b"\x03" * 100), runtime=14)
    found = one(options(package(RUNS, inner=[inner]), [package(CACHES, runtime=10)]))
    assert found.on_chip_bytes == 4196
    assert found.min_runtime_version == 14
    assert found.executables == ("EXECUTION_ONLY", "PARAMETER_CACHING", "PARAMETER_CACHING")


def test_packages_that_nest_beyond_reason_are_refused() -> None:
    nested = package(RUNS)
    for _ in range(70):
        nested = package(RUNS, inner=[nested])
    with pytest.raises(CorruptFile, match="over 64 packages"):
        one(options(nested))


def test_executables_that_share_their_bytes_are_refused() -> None:
    with pytest.raises(CorruptFile, match="overlap"):
        one(options(package(RUNS, repeat=60)))


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (options(b""), "too few"),
        (options(flatbuffer({0: ("Int32", 13)}, b"XXXX")), "identifier"),
        (options(flatbuffer({0: ("Int32", 13)}, b"DWN1")), "package is empty"),
        (options(package()), "no executable"),
        (options(package(CACHES)), "nothing that can be executed"),
        (options(package(executable(7, b""))), "unknown type 7"),
        (b"", "too few"),
    ],
)
def test_a_payload_without_what_it_needs_is_refused_with_the_reason(
    payload: bytes, words: str
) -> None:
    with pytest.raises(CorruptFile, match=words):
        one(payload)


def test_every_truncation_of_a_payload_is_refused() -> None:
    payload = options(package(executable(2, b"\x01" * 8, inputs=[layer("in", (8, 8, 3))])))
    for size in range(len(payload)):
        with pytest.raises(CorruptFile):
            one(payload[:size])


def test_a_flipped_bit_in_any_byte_of_a_payload_is_read_or_refused() -> None:
    payload = options(package(executable(2, b"\x01" * 8, inputs=[layer("in", (8, 8, 3))])))
    outcomes = {"read": 0, "refused": 0}
    for at in range(len(payload)):
        damaged = bytearray(payload)
        damaged[at] ^= 1 << at * 5 % 8
        try:
            one(bytes(damaged)).to_json()
            outcomes["read"] += 1
        except CorruptFile:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 50 and outcomes["read"] > 50


def test_every_truncation_of_a_small_compiled_file_is_refused() -> None:
    whole = compiled_double(fully_connected(), [{0}])
    (made,) = parse(whole).subgraphs[0].operators
    assert made.custom_options is not None and one(made.custom_options).on_chip_bytes == 4096
    for size in range(len(whole)):
        with pytest.raises(ModelError) as caught:
            (op,) = parse(whole[:size]).subgraphs[0].operators
            one(op.custom_options or b"")
        assert caught.value.message and caught.value.hint


def test_scales_of_a_payload_that_are_no_numbers_are_not_shown() -> None:
    run = executable(2, b"", inputs=[layer("in", (1, 2), scale=float("nan"))])
    found: Any = one(options(package(run))).to_json()
    assert found["inputs"][0]["scale"] is None
