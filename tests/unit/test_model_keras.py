"""Keras models are read from their configuration and the shapes of their weights."""

from __future__ import annotations

import importlib.util
import io
import json
import random
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from edgeopt.errors import EdgeoptError, ModelError
from edgeopt.model import CorruptFile, read
from edgeopt.model.h5 import parse_config, subgraph_of
from edgeopt.model.hdf5 import Survey
from edgeopt.model.keras_weights import StoredWeights
from edgeopt.model.layer_shapes import output_shape

CONVOLUTION = {
    "filters": 4,
    "kernel_size": [3, 3],
    "strides": [2, 2],
    "padding": "same",
    "activation": "relu",
}


def entry(kind: str, name: str, source: str = "", **config: Any) -> dict[str, Any]:
    nodes = [[[source, 0, 0, {}]]] if source else []
    return {
        "class_name": kind,
        "name": name,
        "config": {"name": name, **config},
        "inbound_nodes": nodes,
    }


def functional(*layers: dict[str, Any], output: str = "") -> dict[str, Any]:
    first = entry("InputLayer", "x", batch_shape=[None, 8, 8, 3], dtype="float32")
    last = output or (layers[-1]["name"] if layers else "x")
    config = {
        "name": "small",
        "layers": [first, *layers],
        "input_layers": [["x", 0, 0]],
        "output_layers": [[last, 0, 0]],
    }
    return {"class_name": "Functional", "config": config}


def small() -> dict[str, Any]:
    return functional(
        entry("Conv2D", "conv", "x", **CONVOLUTION),
        entry("Dropout", "drop", "conv", rate=0.5),
        entry("Flatten", "flat", "drop"),
        entry("Dense", "dense", "flat", units=2, activation="softmax"),
    )


def weights_file(**arrays: tuple[int, ...]) -> bytes:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for path, shape in arrays.items():
            file.create_dataset(path, data=np.zeros(shape, np.float32))
    return memory.getvalue()


ARRAYS = {
    "layers/conv2d/vars/0": (3, 3, 3, 4),
    "layers/conv2d/vars/1": (4,),
    "layers/dense/vars/0": (64, 2),
    "layers/dense/vars/1": (2,),
    "optimizer/vars/0": (3, 3, 3, 4),
}


def keras_file(path: Path, model: Any, arrays: dict[str, tuple[int, ...]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.9.0"}))
        archive.writestr("config.json", json.dumps(model))
        archive.writestr("model.weights.h5", weights_file(**arrays))
    return path


def ops(model: dict[str, Any]) -> list[str]:
    graph = subgraph_of(model, no_weights)
    return [operator.op for operator in graph.operators]


def no_weights() -> StoredWeights:
    return StoredWeights.of(Survey(config=None, datasets=(), names={}))


def test_a_keras_file_is_read_whole(tmp_path: Path) -> None:
    facts = read(keras_file(tmp_path / "m.keras", small(), ARRAYS))
    conv, reshape, dense, softmax = facts.operators()
    assert (conv.op, reshape.op, dense.op, softmax.op) == (
        "CONV_2D",
        "RESHAPE",
        "FULLY_CONNECTED",
        "SOFTMAX",
    )
    assert conv.options["fused_activation"] == "RELU" and conv.options["stride_h"] == 2
    assert [t and t.shape for t in conv.inputs] == [(-1, 8, 8, 3), (3, 3, 3, 4), (4,)]
    assert conv.inputs[1] is not None and conv.inputs[1].constant
    assert conv.layer == "conv" and conv.outputs[0].shape == (-1, 4, 4, 4)
    assert facts.inputs[0].shape == (-1, 8, 8, 3) and facts.outputs[0].shape == (-1, 2)
    assert facts.parameters == 112 + 130  # without the optimizer's
    assert facts.description == "Keras 3.9.0"


def test_real_models_are_read(shared: Path) -> None:
    facts = read(shared / "models/efficientnet_lite0/model.keras")
    assert facts.parameters == 4_694_024
    assert facts.inputs[0].shape == (-1, 224, 224, 3) and facts.outputs[0].shape == (-1, 1000)
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "RELU6", "ADD", "MEAN"} <= {
        op.op for op in facts.operators()
    }
    assert read(shared / "models/ic_resnet8/model.h5").parameters == 78_666


def test_a_normalization_behind_a_convolution_is_folded() -> None:
    linear = {**CONVOLUTION, "activation": "linear"}
    folded = functional(
        entry("Conv2D", "conv", "x", **linear), entry("BatchNormalization", "bn", "conv", axis=-1)
    )
    alone = functional(entry("BatchNormalization", "bn", "x", axis=-1))
    behind_relu = functional(
        entry("Conv2D", "conv", "x", **CONVOLUTION),
        entry("BatchNormalization", "bn", "conv", axis=-1),
    )
    assert ops(folded) == ["CONV_2D"]
    assert ops(alone) == ["MUL", "ADD"]
    assert ops(behind_relu) == ["CONV_2D", "MUL", "ADD"]


@pytest.mark.parametrize(
    ("kind", "config", "expected"),
    [
        ("ReLU", {"max_value": 6.0}, ["RELU6"]),
        ("ReLU", {"max_value": None}, ["RELU"]),
        ("ReLU", {"max_value": 3.0}, ["RELU"]),
        ("LeakyReLU", {"negative_slope": 0.1}, ["LEAKY_RELU"]),
        ("Activation", {"activation": "sigmoid"}, ["LOGISTIC"]),
        ("Activation", {"activation": "linear"}, []),
        ("GlobalAveragePooling2D", {"keepdims": True}, ["MEAN"]),
        ("SeparableConv2D", CONVOLUTION, ["DEPTHWISE_CONV_2D", "CONV_2D"]),
        ("Dense", {"units": 2, "activation": "swish"}, ["FULLY_CONNECTED", "LOGISTIC", "MUL"]),
        ("Rescaling", {"scale": 0.1, "offset": -1}, ["MUL", "ADD"]),
        ("UpSampling2D", {"size": [2, 2], "interpolation": "bilinear"}, ["RESIZE_BILINEAR"]),
        ("NeverHeardOf", {}, ["NeverHeardOf"]),
    ],
)
def test_layers_become_operations(kind: str, config: dict[str, Any], expected: list[str]) -> None:
    assert ops(functional(entry(kind, "layer", "x", **config))) == expected


def test_a_lambda_and_a_class_of_ones_own_are_listed_not_run() -> None:
    own = {**entry("Mine", "mine", "code"), "module": "somebody.layers"}
    model = functional(entry("Lambda", "code", "x", function=["4wEAAA", None, None]), own)
    graph = subgraph_of(model, no_weights)
    assert [(op.op, op.custom) for op in graph.operators] == [("Lambda", True), ("Mine", True)]


def test_a_model_class_of_ones_own_is_one_operator(tmp_path: Path) -> None:
    model = {"class_name": "MyModel", "config": {"width": 3}, "module": "mine"}
    facts = read(keras_file(tmp_path / "m.keras", model, {"dense/vars/0": (3, 4)}))
    assert [op.op for op in facts.operators()] == ["MyModel"]
    assert facts.parameters == 12


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ([1, 2], "names no model class"),
        ({"class_name": "Functional", "config": {"layers": [3]}}, "not one of Keras"),
        (functional(entry("Add", "a", "b"), entry("Add", "b", "a")), "waits for itself"),
        (functional(entry("Add", "a", "nowhere")), "missing"),
        (functional(entry("Dense", "d", "x", units="many")), "not one of Keras"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(model: Any, words: str) -> None:
    with pytest.raises(CorruptFile, match=words):
        subgraph_of(parse_config(json.dumps(model)), no_weights)


def test_json_nested_beyond_reason_is_refused() -> None:
    with pytest.raises(CorruptFile):
        subgraph_of(parse_config('{"class_name": "Functional", "config": ' * 100_000), no_weights)


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", b" " * (80 << 20))
    with pytest.raises(ModelError, match="beyond reason"):
        read(path)


def test_shapes_follow_the_window_rules() -> None:
    valid = {**CONVOLUTION, "padding": "valid", "dilation_rate": [2, 2], "strides": [1, 1]}
    assert output_shape("Conv2D", valid, [(-1, 9, 9, 3)]) == (-1, 5, 5, 4)
    assert output_shape("Conv2D", CONVOLUTION, [(-1, -1, 9, 3)]) == (-1, -1, 5, 4)
    assert output_shape("Concatenate", {"axis": -1}, [(-1, 2, 3), (-1, 2, 4)]) == (-1, 2, 7)
    assert output_shape("ZeroPadding2D", {"padding": [[0, 1], [2, 3]]}, [(-1, 4, 4, 1)]) == (
        -1,
        5,
        9,
        1,
    )
    assert output_shape("Mystery", {}, [(-1, 4)]) is None


def test_damage_is_reported_or_read_but_never_crashes(tmp_path: Path) -> None:
    whole = keras_file(tmp_path / "m.keras", small(), ARRAYS).read_bytes()
    text = json.dumps(small()).encode()
    source = random.Random(5)
    for _turn in range(600):  # the configuration, which is what our own code reads
        data = bytearray(text)
        for _ in range(source.randrange(1, 6)):
            data[source.randrange(len(data))] = source.choice(b'0123456789[]{}",:-nullx')
        try:
            subgraph_of(parse_config(bytes(data)), no_weights)
        except ModelError:
            pass
    damaged(tmp_path / "damaged.keras", whole, source, 15)


def test_a_damaged_h5_is_reported_or_read(shared: Path, tmp_path: Path) -> None:
    whole = (shared / "models/fmnist_dscnn/model.h5").read_bytes()
    damaged(tmp_path / "damaged.h5", whole, random.Random(6), 15)


def damaged(path: Path, whole: bytes, source: random.Random, turns: int) -> None:
    for turn in range(turns):
        data = bytearray(whole)
        if turn % 3 == 0:
            del data[source.randrange(len(data)) :]
        else:
            for _ in range(source.randrange(1, 40)):
                data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        path.write_bytes(data)
        started = time.monotonic()
        try:
            read(path)
        except EdgeoptError:
            pass
        assert time.monotonic() - started < 4  # a child process on a busy machine


BUILD = """
import sys
folder, which = sys.argv[1:]
if which == "keras":
    import keras
else:
    import tf_keras as keras
L = keras.layers
inner = keras.Sequential(
    [keras.Input((16, 16, 3)), L.Conv2D(4, 3), L.BatchNormalization(), L.LeakyReLU(),
     L.GlobalAveragePooling2D()], name="inner")
dense = L.Dense(7)
x1, x2 = keras.Input((16, 16, 3)), keras.Input((16, 16, 3))
shared = keras.Model([x1, x2], L.Add()([dense(inner(x1)), dense(inner(x2))]))
x = keras.Input((32, 32, 3))
y = L.SeparableConv2D(16, 3, strides=2, activation="relu")(x)
y = L.BatchNormalization()(L.ZeroPadding2D(((0, 1), (1, 2)))(y))
y = L.Conv2DTranspose(16, 3, strides=2, padding="same")(y)
y = L.Bidirectional(L.LSTM(5))(L.Reshape((-1, 32))(L.PReLU(shared_axes=[1, 2])(y)))
mixed = keras.Model(x, [L.Dense(3, activation="softmax")(y), L.Dense(2, activation="swish")(y)])
for name, model in (("shared", shared), ("mixed", mixed)):
    for ending in ("h5", "keras"):
        path = f"{folder}/{name}.{ending}"
        model.save(path)
        print("MODEL", path, model.count_params(), [[-1, *o.shape[1:]] for o in model.outputs])
"""


@pytest.mark.tf
@pytest.mark.parametrize("which", ["keras", "tf_keras"])
def test_what_keras_itself_saves_is_read_as_it_counts(tmp_path: Path, which: str) -> None:
    if importlib.util.find_spec(which) is None:
        pytest.skip(f"{which} is not installed (the tf extra)")
    command = [sys.executable, "-W", "ignore", "-c", BUILD, str(tmp_path), which]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("MODEL")]
    assert len(lines) == 4
    for line in lines:
        _, path, parameters, shapes = line.split(" ", 3)
        facts = read(Path(path))
        assert facts.parameters == int(parameters), path
        assert [list(t.shape or ()) for t in facts.outputs] == json.loads(shapes), path
        assert all(op.outputs[0].shape for op in facts.operators()), path
