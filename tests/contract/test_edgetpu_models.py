"""Families of Keras models, converted for the Edge TPU: each obeys every rule of its old compiler,
and the parts that the compiler should map are predicted to map."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgeopt.dataset import load_dataset
from edgeopt.facts import ModelFacts
from edgeopt.findings import Placement
from edgeopt.model import read
from edgeopt.optimize import ConversionRequest, convert
from edgeopt.profile import load_profile
from edgeopt.progress import Silent
from edgeopt.verify import check, predict

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None, reason="the tf extra is not installed"
    ),
]
_PROGRAM = Path(__file__).with_name("edgetpu_families.py")
_TPU = load_profile("edgetpu-v1")


@dataclass(frozen=True)
class Made:
    facts: ModelFacts
    float_path: Path
    samples: Path
    placement: Placement

    @property
    def operations(self) -> Counter[str]:
        return Counter(op.op for op in self.facts.operators())

    @property
    def left(self) -> set[str]:
        """What stays on the CPU, by operation."""
        return {op.op for op in self.placement.ops if op.placement == "cpu"}


def build(folder: Path, *wanted: str) -> None:
    command = [sys.executable, str(_PROGRAM), str(folder), *wanted]
    done = subprocess.run(command, capture_output=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:].decode()


def converted(folder: Path, name: str) -> Made:
    """As `edgeopt convert --target edgetpu` makes it; every rule is held."""
    request = ConversionRequest(scheme="int8", io="int8", legacy_ops=True, processes=1)
    samples = folder / f"{name}.npz"
    made = convert(
        folder / f"{name}.keras",
        request,
        folder / f"{name}.tflite",
        dataset=load_dataset(f"{samples}:x"),
        progress=Silent(),
    )
    facts = read(made.path)
    report = check(facts, _TPU, io="int8")
    assert report.violations == (), [v.to_json() for v in report.violations]
    assert report.checked > 30
    assert not [w for w in report.warnings if w.constraint.startswith("file.")]
    placement = predict(facts, _TPU)
    assert placement is not None
    left = [op for op in placement.ops if op.placement == "cpu"]
    assert all(op.phrase and op.cause for op in left)
    return Made(facts, made.float_path, samples, placement)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    build(folder, "lstm:steps=6,features=8,units=4", "tiny_yolo:size=32,width=2,classes=2")
    return folder


def outputs(path: Path, values: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path))
    runner.allocate_tensors()
    given, answer = runner.get_input_details()[0], runner.get_output_details()[0]
    found = []
    for value in values:
        sample = value[None]
        if given["dtype"] == np.int8:
            scale, zero = given["quantization"]
            sample = np.clip(np.round(sample / scale) + zero, -128, 127).astype(np.int8)
        runner.set_tensor(given["index"], sample)
        runner.invoke()
        runner.reset_all_variables()  # the state that it keeps is no part of the next sample
        result = runner.get_tensor(answer["index"]).astype(np.float32)
        if answer["dtype"] == np.int8:
            scale, zero = answer["quantization"]
            result = (result - zero) * scale
        found.append(result[0])
    return np.array(found)


def test_an_lstm_becomes_one_mapped_operation_and_answers_as_keras_does(small: Path) -> None:
    made = converted(small, "lstm")
    assert made.operations["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    assert made.left == set() and made.placement.ops_mapped == len(made.placement.ops) == 4
    values, expected = np.load(made.samples)["x"], np.load(made.samples)["y"]
    assert np.allclose(outputs(made.float_path, values), expected, atol=1e-5)
    assert np.allclose(outputs(made.facts.path, values), expected, atol=0.03)


def test_a_detector_resizes_and_slopes_by_operations_that_map(small: Path) -> None:
    made = converted(small, "tiny_yolo")
    found = made.operations
    assert found["RESIZE_NEAREST_NEIGHBOR"] == 1 and found["PRELU"] == 10
    assert not {"TILE", "LEAKY_RELU"} & set(found)
    assert made.left == set()


# Full size where the last column says so: what is on the CPU, and how much there is.
_UNET, _YOLO, _LSTM, _GRU = "unet:size=64,width=8", "tiny_yolo", "lstm", "gru"
SLOW: dict[str, tuple[str, set[str]]] = {
    "unet_nearest": (f"{_UNET},up=nearest", set()),
    "unet_bilinear": (f"{_UNET},up=bilinear", set()),
    "unet_transpose": (f"{_UNET},up=transpose", set()),
    "yolo_relu6": (f"{_YOLO}:act=relu6", set()),
    "lstm_unrolled": (f"{_LSTM}:unroll=1", set()),
    "lstm_both": (f"{_LSTM}:both=1", {"REVERSE_V2"}),
    "mobilenet_v1": ("mobilenet_v1", set()),
    "mobilenet_v2": ("mobilenet_v2", set()),
    "inception_v3": ("inception_v3", set()),
    "resnet_v2_101": ("resnet_v2_101", set()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_each_family_passes_every_rule_and_maps(tmp_path: Path, name: str) -> None:
    wanted, left = SLOW[name]
    build(tmp_path, f"{wanted}{',' if ':' in wanted else ':'}name={name}")
    made = converted(tmp_path, name)
    assert made.left == left
    assert made.placement.ops_mapped > 0.8 * len(made.placement.ops)


@pytest.mark.slow
def test_a_gru_is_unrolled_and_its_cell_is_told_to_stay_on_the_cpu(tmp_path: Path) -> None:
    """There is no such operation, and the first that cannot map is the one that parts the steps."""
    build(tmp_path, "gru:steps=6")
    made = converted(tmp_path, "gru")
    assert "UNPACK" in made.left and "WHILE" not in made.operations
    values, expected = np.load(made.samples)["x"], np.load(made.samples)["y"]
    assert np.allclose(outputs(made.float_path, values), expected, atol=1e-5)
