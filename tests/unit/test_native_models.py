"""Models of every shape through the native runner: the interpreter's answers to the bit, or a no.

The C API runs signatures and the interpreter runs the main graph: whatever a file's signatures do,
inputs and outputs must keep the graph's own order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_models as tf
from ai_edge_litert import schema_py_generated as schema
from native_programs import shared_cache, why_no_compiler
from repair_models import open_batch

from edgeopt.device import Device, DeviceSpec, connect
from edgeopt.device.run import RunRequest
from edgeopt.device.runner import run
from edgeopt.errors import ModelError
from edgeopt.feed import seeded_inputs
from edgeopt.model import read
from edgeopt.progress import Silent

pytestmark = pytest.mark.skipif(bool(why_no_compiler()), reason=why_no_compiler())


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    monkeypatch.setenv("EDGEOPT_CACHE", str(shared_cache()))
    with connect(DeviceSpec(name="local", kind="local", workdir=str(tmp_path / "w"))) as device:
        yield device


def subtraction(
    kind: int = schema.TensorType.FLOAT32,
    outputs: tuple[int, ...] = (2,),
    signatures: tuple[Any, ...] = (),
) -> bytes:
    """d[2, 3] = a[2, 3] - b[3]: which input is which can be seen."""
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1], [2]
    operator.builtinOptionsType = schema.BuiltinOptions.SubOptions
    operator.builtinOptions = schema.SubOptionsT()
    graph = schema.SubGraphT()
    graph.tensors = [tf.tensor(n, s, kind) for n, s in (("a", [2, 3]), ("b", [3]), ("d", [2, 3]))]
    graph.inputs, graph.outputs, graph.operators = [0, 1], list(outputs), [operator]
    model = tf.model_of(graph, schema.BuiltinOperator.SUB, [tf.buffer()], version=3)
    model.signatureDefs = list(signatures) or None
    return tf.pack(model)


def request_for(model: Path, inputs: Any = None) -> RunRequest:
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    samples = seeded_inputs(read(model).inputs, 3) if inputs is None else inputs
    return RunRequest(model=model, sha256=sha256, runs=2, warmup=1, inputs=samples, timeout_s=60)


def both(device: Device, model: Path, inputs: Any = None) -> tuple[Any, Any]:
    wanted = request_for(model, inputs)
    return run(device, wanted, Silent(), "native"), run(device, wanted, Silent(), "litert")


def assert_same(native: Any, python: Any) -> None:
    for ours, theirs in zip(native.outputs, python.outputs, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            assert a.tobytes() == b.tobytes()


BACKWARDS = tf.signature({"first": 1, "second": 0}, {"d": 2}, "backwards")
UNTOUCHED = tf.signature({"a": 0, "b": 1}, {"x": 0, "d": 2}, "an input is an output as well")
KINDS = schema.TensorType


@pytest.mark.parametrize(
    "content",
    [
        subtraction(),
        subtraction(signatures=(BACKWARDS,)),
        subtraction(signatures=(tf.signature({"z": 0, "y": 1}, {"d": 2}, "letters"), BACKWARDS)),
        subtraction(KINDS.INT32),
        subtraction(KINDS.INT64),
        tf.fully_connected(),
        tf.fully_connected(signed=False, bias=False),
    ],
    ids=["plain", "backwards", "two", "int32", "int64", "dense", "bare"],
)  # fmt: skip
def test_inputs_and_outputs_keep_the_graphs_order(
    device: Device, tmp_path: Path, content: bytes
) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(content)
    assert_same(*both(device, model))


def test_an_open_batch_takes_the_samples_size(device: Device, tmp_path: Path) -> None:
    def with_open_batch(model: Any) -> None:
        tensors = model.subgraphs[0].tensors
        tensors[0].shapeSignature, tensors[3].shapeSignature = [-1, 4], [-1, 2]

    model = tmp_path / "open.tflite"
    model.write_bytes(tf.edited(tf.fully_connected(), with_open_batch))
    sample = np.random.default_rng(1).uniform(-1, 1, (3, 4)).astype(np.float32)
    native, python = both(device, model, ((sample,),))
    assert native.outputs[0][0].shape == (3, 2)
    assert_same(native, python)


def test_a_size_that_only_a_run_can_tell_is_refused_with_the_runtimes_words(
    device: Device, tmp_path: Path
) -> None:
    model = tmp_path / "shaped.tflite"
    model.write_bytes(open_batch())
    with pytest.raises(ModelError, match="allocation is too small"):
        run(
            device,
            request_for(model, ((np.zeros((3, 4, 4, 4), np.int8),),)),
            Silent(),
            "native",
        )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (subtraction(outputs=(2, 2)), "two of its outputs"),
        (subtraction(outputs=(2, 0)), "an output as well"),
        (subtraction(outputs=(2, 0), signatures=(UNTOUCHED,)), "an output as well"),
        (subtraction(outputs=(2, 0), signatures=(BACKWARDS,)), "incorrect number"),
    ],
    ids=["twice", "untouched", "untouched-signed", "left-out"],
)
def test_what_the_c_api_computes_wrongly_or_not_at_all_is_refused_by_name(
    device: Device, tmp_path: Path, content: bytes, why: str
) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        run(device, request_for(model), Silent(), "native")
    assert why in caught.value.message
    assert "--runtime native" in caught.value.hint


def test_variable_tensors_are_refused_by_name(device: Device, tmp_path: Path) -> None:
    def with_state(model: Any) -> None:
        model.subgraphs[0].tensors[1].isVariable = True
        model.subgraphs[0].inputs = [0]

    model = tmp_path / "state.tflite"
    model.write_bytes(tf.edited(subtraction(), with_state))
    with pytest.raises(ModelError, match="Variable tensors"):
        run(device, request_for(model), Silent(), "native")
