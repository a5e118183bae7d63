"""SavedModels are read from their protocol buffer, without TensorFlow."""

from __future__ import annotations

import importlib.util
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeopt.errors import EdgeoptError, ModelError
from edgeopt.model import read


def copy_of(shared: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "savedmodel"
    shutil.copytree(shared / "models/fmnist_dscnn/savedmodel", folder)
    return folder


@pytest.mark.parametrize(("name", "parameters"), [("kws_dscnn", 24_908), ("fmnist_dscnn", 33_770)])
def test_a_savedmodel_and_the_h5_of_the_same_model_agree(
    shared: Path, name: str, parameters: int
) -> None:
    saved = read(shared / f"models/{name}/savedmodel")
    h5 = read(shared / f"models/{name}/model.h5")
    assert [op.op for op in saved.operators()] == [op.op for op in h5.operators()]
    assert saved.parameters == h5.parameters == parameters
    for one, other in zip(saved.operators(), h5.operators(), strict=True):
        assert one.outputs[0].shape == other.outputs[0].shape
    assert saved.inputs[0].shape == h5.inputs[0].shape
    assert saved.outputs[0].shape == h5.outputs[0].shape


def test_signatures_and_options_are_read(shared: Path) -> None:
    facts = read(shared / "models/kws_dscnn/savedmodel")
    first = next(facts.operators())
    assert facts.signatures == ("serving_default",)
    assert first.options["padding"] == "SAME" and first.options["stride_w"] == 2
    assert facts.inputs[0].name == "input_1"


def test_reading_does_not_import_tensorflow(shared: Path) -> None:
    paths = [
        shared / "models/kws_dscnn/savedmodel",
        shared / "models/kws_dscnn/model.h5",
        shared / "models/kws_dscnn/ref_int8.tflite",
    ]
    code = (
        "import sys; from pathlib import Path; from edgeopt.model import read\n"
        "for path in sys.argv[1:]: read(Path(path))\n"
        "heavy = {'tensorflow', 'keras', 'tf_keras', 'ai_edge_litert', 'h5py', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, *map(str, paths)], check=True)


def test_missing_variables_are_missed(shared: Path, tmp_path: Path) -> None:
    folder = copy_of(shared, tmp_path)
    shutil.rmtree(folder / "variables")
    with pytest.raises(ModelError, match="weights are missing"):
        read(folder)


def test_a_link_out_of_the_folder_is_not_followed(shared: Path, tmp_path: Path) -> None:
    folder = copy_of(shared, tmp_path)
    index = folder / "variables/variables.index"
    index.rename(tmp_path / "elsewhere")
    index.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="leaves the model's folder"):
        read(folder)


def test_damage_is_reported_or_read_but_never_crashes(shared: Path, tmp_path: Path) -> None:
    folder = copy_of(shared, tmp_path)
    file = folder / "saved_model.pb"
    whole = file.read_bytes()
    source = random.Random(11)
    for turn in range(300):
        data = bytearray(whole)
        if turn % 3 == 0:
            del data[source.randrange(len(data)) :]
        else:
            for _ in range(source.randrange(1, 30)):
                data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        file.write_bytes(data)
        started = time.monotonic()
        try:
            read(folder)
        except EdgeoptError:
            pass
        assert time.monotonic() - started < 2


EXPORT = """
import sys, keras
L = keras.layers
x = keras.Input((16, 16, 3))
y = L.ReLU(max_value=6.0)(L.BatchNormalization()(L.Conv2D(4, 3, use_bias=False)(x)))
y = L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(y))
model = keras.Model(x, L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(y)))
model.export(sys.argv[1], verbose=False)
print("COUNT", model.count_params())
"""


@pytest.mark.tf
def test_what_keras_3_exports_is_read_as_it_is_converted(tmp_path: Path) -> None:
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed (the tf extra)")
    command = [sys.executable, "-W", "ignore", "-c", EXPORT, str(tmp_path / "exported")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    facts = read(tmp_path / "exported")
    [count] = [line for line in done.stdout.splitlines() if line.startswith("COUNT")]
    assert facts.parameters == int(count.split()[1])
    assert [op.op for op in facts.operators()] == [
        "CONV_2D",
        "RELU6",
        "DEPTHWISE_CONV_2D",
        "MEAN",
        "FULLY_CONNECTED",
        "SOFTMAX",
    ]
    assert facts.outputs[0].shape == (-1, 5)
