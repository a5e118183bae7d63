"""Models made hard on purpose: lost under plain int8, and back within a point by default.

Channels are rescaled over three orders of magnitude between consecutive layers and along residual
streams, the function kept (`hard_models`). Everything under the Edge TPU's constraints: strictly
int8, one scale for a dense layer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import hard_models
import numpy as np
import pytest

from edgeopt.dataset import Dataset, load_dataset
from edgeopt.model import read
from edgeopt.optimize import Conversion, ConversionRequest, quantize, to_float
from edgeopt.paths import demo_dir
from edgeopt.profile import load_profile
from edgeopt.progress import Silent
from edgeopt.quality import QualityRequest
from edgeopt.verify import check

PLAIN = QualityRequest(ranges="minmax", equalization="off", bias_correction="off")


@dataclass(frozen=True)
class Subject:
    """A float model, its hard twin, and data: calibration, and evaluation with labels or none."""

    easy: Path
    hard: Path
    calibration: Dataset
    evaluation: Dataset
    labels: np.ndarray | None = None

    def converted(self, output: Path, quality: QualityRequest, edgetpu: bool = True) -> Conversion:
        request = ConversionRequest(scheme="int8", legacy_ops=edgetpu, quality=quality)
        return quantize(self.hard, request, output, dataset=self.calibration, progress=Silent())

    def right(self, model: Path) -> float:
        """Accuracy; without labels, agreement with the float model."""
        best = hard_models.answers(model, self.evaluation).argmax(1)
        if self.labels is not None:
            return float(np.mean(best == self.labels))
        return float(np.mean(best == hard_models.answers(self.easy, self.evaluation).argmax(1)))


def subject(
    folder: Path,
    data: bytes,
    calibration: np.ndarray,
    evaluation: np.ndarray,
    labels: np.ndarray | None = None,
) -> Subject:
    for name, content in (("easy", data), ("hard", hard_models.rescaled(data))):
        (folder / f"{name}_source.tflite").write_bytes(content)
        to_float(folder / f"{name}_source.tflite", folder / f"{name}.tflite", progress=Silent())
    inputs = read(folder / "easy.tflite").inputs

    def stored(name: str, values: np.ndarray) -> Dataset:
        np.save(folder / name, values.astype(np.float32))
        return load_dataset(str(folder / name)).match(inputs)

    return Subject(
        folder / "easy.tflite",
        folder / "hard.tflite",
        stored("calibration.npy", calibration),
        stored("evaluation.npy", evaluation),
        labels,
    )


def demo_model() -> bytes:
    """The demo model with RELU for RELU6 (a clamp forbids to scale) and two residual adds."""
    data = (demo_dir() / "fashion.tflite").read_bytes()
    return hard_models.with_residual_adds(hard_models.without_clamps(data))


def moved(images: np.ndarray) -> np.ndarray:
    """Each image, and it moved by a pixel in four directions."""
    steps = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    return np.concatenate([np.roll(images, step, (1, 2)) for step in steps])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    with np.load(demo_dir() / "samples.npz") as stored:
        seen, x, y = (stored[name] for name in ("x_calib", "x", "y"))
    folder = tmp_path_factory.mktemp("demo")
    return subject(folder, demo_model(), seen / 255, moved(x) / 255, np.tile(y, 5))


def test_rescaling_keeps_the_function(demo: Subject) -> None:
    easy, hard = (hard_models.answers(m, demo.evaluation) for m in (demo.easy, demo.hard))
    np.testing.assert_allclose(hard, easy, atol=1e-4)
    assert demo.right(demo.easy) > 0.8


def test_every_inner_channel_got_a_scale_of_its_own(demo: Subject) -> None:
    spreads = []
    for op, was in zip(read(demo.hard).operators(), read(demo.easy).operators(), strict=True):
        if op.op in ("CONV_2D", "DEPTHWISE_CONV_2D") and op.inputs[2] and was.inputs[2]:
            new, old = (np.frombuffer(t.data or b"", "<f4") for t in (op.inputs[2], was.inputs[2]))
            factors = new[old != 0] / old[old != 0]
            if len(factors):
                spreads.append(np.log10(factors.max() / factors.min()))
    assert len(spreads) >= 8
    assert min(spreads) > 2.5
    assert max(spreads) <= 3.01


@pytest.mark.parametrize("edgetpu", [False, True], ids=["per-channel", "edgetpu"])
def test_plain_int8_falls_to_chance(demo: Subject, tmp_path: Path, edgetpu: bool) -> None:
    demo.converted(tmp_path / "out.tflite", PLAIN, edgetpu)
    assert demo.right(tmp_path / "out.tflite") < 0.25  # chance is 0.1, on 60 images moved about


def holds(made: Path) -> None:
    """Strictly int8 under the Edge TPU's profile: no float, one scale for a dense layer."""
    facts = read(made)
    assert not [t for t in facts.tensors() if t.dtype.startswith("float") or t.dtype == "int16"]
    assert not [op for op in facts.operators() if op.op in ("QUANTIZE", "DEQUANTIZE")]
    for op in facts.operators():
        weights = op.inputs[1] if op.op == "FULLY_CONNECTED" else None
        assert weights is None or (weights.quantization and not weights.quantization.per_channel)
    found = check(facts, load_profile("edgetpu-v1"), io="int8")
    assert found.passed, [str(v) for v in found.violations]


def test_the_default_brings_it_back_within_a_point(demo: Subject, tmp_path: Path) -> None:
    made = demo.converted(tmp_path / "out.tflite", QualityRequest())
    assert demo.right(made.path) >= demo.right(demo.easy) - 0.01
    holds(made.path)
    assert len(list(read(made.path).operators())) == len(list(read(demo.hard).operators()))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_demo_is_back_on_ten_thousand_images(shared: Path, tmp_path: Path, seed: int) -> None:
    with np.load(shared / "datasets/fashion_mnist/test10k.npz") as stored:
        x, y = stored["x"][seed::5], stored["y"][seed::5]
    with np.load(shared / "datasets/fashion_mnist/calib500.npz") as stored:
        seen = stored["x"]
    hard = subject(tmp_path, demo_model(), seen / 255, x / 255, y)
    hard.hard.write_bytes(hard_models.rescaled(demo_model(), seed=seed))
    made = hard.converted(tmp_path / "out.tflite", QualityRequest())
    assert hard.right(made.path) >= hard.right(hard.easy) - 0.01
    holds(made.path)


def test_a_residual_network_is_as_good_as_before_it_was_made_hard(
    shared: Path, tmp_path: Path
) -> None:
    """ResNet-8 of MLPerf Tiny: three residual streams of ADD with RELU, a pooling, a dense layer.
    Without labelled images here, on the test pictures' own crops."""
    data = (shared / "models/ic_resnet8/ref_f32.tflite").read_bytes()
    images = small_crops(shared, 300)
    net = subject(tmp_path, data, images[::3], np.delete(images, np.s_[::3], 0))
    plain = net.converted(tmp_path / "plain.tflite", PLAIN)
    assert net.right(plain.path) < 0.35
    made = net.converted(tmp_path / "out.tflite", QualityRequest())
    holds(made.path)
    easy = Subject(net.easy, net.easy, net.calibration, net.evaluation)
    best = easy.converted(tmp_path / "easy_int8.tflite", QualityRequest())
    assert net.right(made.path) >= net.right(best.path) - 0.01


def small_crops(shared: Path, count: int) -> np.ndarray:
    """Seeded square crops of the shared pictures, 32 x 32 x 3, 0 to 255."""
    from PIL import Image

    rng, made = np.random.default_rng(0), []
    paths = sorted((shared / "datasets/images_imagenet").rglob("*.png"))
    pictures = [Image.open(path).convert("RGB") for path in paths]
    for index in range(count):
        picture = pictures[index % len(pictures)]
        edge = min(picture.size) * rng.uniform(0.4, 1.0)
        left, top = (rng.uniform(0, size - edge) for size in picture.size)
        box = (left, top, left + edge, top + edge)
        made.append(np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR, box)))
    return np.array(made)


TRAIN = """
import sys, numpy as np, keras
from keras import layers as L
keras.utils.set_random_seed(0)
with np.load(sys.argv[1]) as data:
    x, y = data["x"][:8000].reshape(-1, 28, 28, 1) / 255.0, data["y"][:8000]
def norm(value):
    return L.BatchNormalization(momentum=0.9)(value)
def block(value, wide, out, stride):
    short = value
    value = L.ReLU(6.0)(norm(L.Conv2D(wide, 1, use_bias=False)(value)))
    value = L.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(value)
    value = L.ReLU(6.0)(norm(value))
    value = norm(L.Conv2D(out, 1, use_bias=False)(value))
    return L.Add()([short, value]) if stride == 1 and short.shape[-1] == out else value
inputs = keras.Input((28, 28, 1), batch_size=None)
value = L.Conv2D(16, 3, 2, padding="same", use_bias=False)(inputs)
value = L.ReLU()(norm(value))
for wide, out, stride in [(48, 16, 1), (48, 16, 1), (48, 24, 2), (72, 24, 1), (72, 24, 1)]:
    value = block(value, wide, out, stride)
value = L.ReLU()(norm(L.Conv2D(64, 1, use_bias=False)(value)))
value = L.Dense(10)(L.GlobalAveragePooling2D()(value))
model = keras.Model(inputs, L.Softmax()(value))
slower = keras.optimizers.schedules.CosineDecay(3e-3, 1250)
model.compile(keras.optimizers.Adam(slower), "sparse_categorical_crossentropy")
model.fit(x, y, batch_size=64, epochs=10, verbose=0)
model.save(sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.tf
def test_a_trained_mobilenet_v2_with_clamps_comes_back(shared: Path, tmp_path: Path) -> None:
    """Residual streams between linear bottlenecks may be scaled, whatever RELU6 is inside.

    Trained to the end, since of a network that was not a point says nothing: after 4 epochs (float
    .725 on 10,000 unseen images, paired standard errors below .002) the hard twin came back to .715
    with OCTAV's ranges, .729 with mean square error's and .747 with minimum and maximum, at 98.1,
    98.7 and 97.1% agreement: a small shift of the logits moves many doubtful images one way.
    """
    data = shared / "datasets/fashion_mnist/test10k.npz"
    script, model = tmp_path / "train.py", tmp_path / "net.keras"
    script.write_text(TRAIN)
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, str(script), str(data), str(model)], check=True, env=quiet)
    to_float(model, tmp_path / "float.tflite", progress=Silent())
    with np.load(data) as stored:
        x, y = stored["x"].reshape(-1, 28, 28, 1) / 255, stored["y"]
    net = subject(tmp_path, (tmp_path / "float.tflite").read_bytes(), x[:200], x[8000:], y[8000:])
    assert net.right(net.easy) > 0.65
    np.testing.assert_allclose(
        hard_models.answers(net.hard, net.calibration),
        hard_models.answers(net.easy, net.calibration),
        atol=1e-3,
    )
    plain = net.converted(tmp_path / "plain.tflite", PLAIN)
    assert net.right(plain.path) < 0.3
    made = net.converted(tmp_path / "out.tflite", QualityRequest())
    assert net.right(made.path) >= net.right(net.easy) - 0.01
    holds(made.path)
