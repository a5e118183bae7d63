"""Data with another range of values than the model was trained on is pointed out; no other is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgeopt.dataset import Preprocess, load_dataset
from edgeopt.dataset.range_check import advice, suspicion, variants
from edgeopt.errors import InputError
from edgeopt.facts import Quantization, Tensor
from edgeopt.model import read
from edgeopt.paths import demo_dir
from edgeopt.pipeline.ranging import _said
from edgeopt.verify.input_range import applies, measure_answers


def said(model: Path, spec: str, preprocess: str = "") -> str | None:
    steps = Preprocess.parse(preprocess)
    return _said(model, load_dataset(spec, preprocess=steps).match(read(model).inputs))


def flag(text: str | None) -> str:
    """The flag that a warning ends with, "" for no warning."""
    found = re.search(r"use (.*)\.$", text or "")
    return found[1] if found else ""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model in float, which wants pixels from 0 to 1."""
    from edgeopt.optimize import to_float
    from edgeopt.progress import Silent

    path = tmp_path_factory.mktemp("demo") / "fashion.tflite"
    to_float(demo_dir() / "fashion.keras", path, batch=1, progress=Silent())
    return path


@pytest.fixture(scope="module")
def keywords(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keyword spotting over MFCC features, in float."""
    from edgeopt.optimize import to_float
    from edgeopt.progress import Silent

    path = tmp_path_factory.mktemp("kws") / "kws.tflite"
    to_float(shared / "models/kws_dscnn/savedmodel", path, batch=1, progress=Silent())
    return path


SAMPLES = str(demo_dir() / "samples.npz") + ":x,y"


@pytest.mark.tf
@pytest.mark.parametrize(
    ("preprocess", "wanted"),
    [
        ("scale=1/255", ""),
        ("", "--preprocess scale=1/255"),
        ("scale=1", "--preprocess scale=1/255"),
        ("scale=1/65025", "--preprocess scale=1/255"),
        ("mean=127.5,scale=1/127.5", ""),  # twice as large is not told from right
    ],
)
def test_the_demo_model_used_wrongly_is_warned_of_with_the_flag_that_helps(
    demo: Path, preprocess: str, wanted: str
) -> None:
    assert flag(said(demo, SAMPLES, preprocess)) == wanted


@pytest.mark.tf
def test_stored_fractions_that_were_multiplied_are_told_to_be_left_alone(
    demo: Path, tmp_path: Path
) -> None:
    stored = np.load(demo_dir() / "samples.npz")["x"][:40].astype(np.float32) / 255
    np.save(tmp_path / "x.npy", stored)
    assert said(demo, str(tmp_path / "x.npy")) == ""
    assert flag(said(demo, str(tmp_path / "x.npy"), "scale=255")).startswith(
        "--preprocess scale=1 "
    )


@pytest.mark.tf
def test_the_warning_names_the_data_what_it_holds_and_what_is_wanted(demo: Path) -> None:
    text = said(demo, SAMPLES)
    assert text is not None
    assert f"The values of {SAMPLES} (0 to 255) look too large" in text
    assert "seems to want 0 to 1" in text


def test_a_model_that_wants_bytes_is_warned_of_fractions_and_not_of_bytes(shared: Path) -> None:
    model, images = shared / "models/ic_resnet8/ref_f32.tflite", shared / "datasets/images_imagenet"
    assert said(model, str(images)) == ""
    assert flag(said(model, str(images), "scale=1/255")).startswith("--preprocess scale=1 ")


@pytest.mark.tf
@pytest.mark.parametrize(("factor", "wanted"), [(1, ""), (255, "1/255"), (1 / 255, "255")])
def test_features_that_are_no_pixels_are_judged_by_the_same_rule(
    keywords: Path, shared: Path, tmp_path: Path, factor: float, wanted: str
) -> None:
    features = np.load(shared / "datasets/kws_mfcc/kws.npz")["x_calib"][:60].astype(np.float32)
    np.save(tmp_path / "x.npy", features * np.float32(factor))
    wanted = f"--preprocess scale={wanted}" if wanted else ""
    assert flag(said(keywords, str(tmp_path / "x.npy"))) == wanted


def test_rows_of_features_without_a_known_scale_are_left_alone(tmp_path: Path) -> None:
    """A regression has one output: it cannot tell samples apart, so nothing is confirmed."""
    assert advice("d", "large", (0, 255), 90.0, None, {}) == ""


def test_a_spread_that_is_usual_raises_no_suspicion() -> None:
    assert [suspicion(s, 0.5) for s in (None, 0.64, 1.13, 10.0, 0.1)] == [""] * 5
    assert (suspicion(145.0, 0.5), suspicion(0.005, 0.5)) == ("large", "small")
    assert suspicion(0.76, 0.0002) == "small"  # outputs that do not depend on the sample


def test_outputs_that_fall_silent_clear_a_model_without_normalization() -> None:
    """The figures of small networks without normalization, trained on 0 to 255 and on 0 to 1: the
    spread is large with bytes in both, but only the latter answers to fractions."""
    scaled, centred = variants("large", 0, 255, Preprocess())
    bytes_right = {scaled: 0.0, centred: 0.252}
    fractions_right = {scaled: 0.665, centred: 0.538}
    assert advice("d", "large", (0, 255), 193.0, 0.55, bytes_right) == ""
    assert "scale=1/255" in advice("d", "large", (0, 255), 56.0, 0.799, fractions_right)
    (larger,) = variants("small", 0, 1, Preprocess())
    assert "scale=255" in advice("d", "small", (0, 1), 0.76, 0.0, {larger: 0.55})


def test_the_proposed_scale_continues_what_is_there() -> None:
    assert variants("small", 0, 1, Preprocess())[0].flag == "--preprocess scale=255"
    assert variants("small", 0, 1, Preprocess(mean=(1.0,), scale=2.0))[0].flag.startswith("a scale")


def test_a_quantized_model_is_told_by_its_own_scale(tmp_path: Path) -> None:
    """Its file says what it represents, so nothing has to be run."""
    np.save(tmp_path / "bytes.npy", np.full((4, 2, 2, 1), 255, np.uint8))
    np.save(tmp_path / "fractions.npy", np.full((4, 2, 2, 1), 1.0, np.float32))

    def notes(name: str, dtype: str, scale: float, zero: int) -> str:
        quantization = Quantization(scales=(scale,), zero_points=(zero,))
        tensor = Tensor(
            index=0, name="x", dtype=dtype, shape=(1, 2, 2, 1), quantization=quantization
        )
        return " ".join(load_dataset(str(tmp_path / name)).match((tensor,)).notes)

    assert "clipped" in notes("bytes.npy", "int8", 1 / 255, -128)
    assert notes("bytes.npy", "int8", 1.0, -128) == ""
    assert "a few steps" in notes("fractions.npy", "int8", 1.0, -128)
    assert "a few steps" in notes("fractions.npy", "uint8", 1.0, 0)
    assert notes("fractions.npy", "int8", 1 / 255, -128) == ""


@pytest.mark.parametrize(
    ("stored", "wanted", "hint"),
    [
        ((14, 14, 1), (1, 28, 28, 1), "resize=28"),
        ((28, 28, 3), (1, 28, 28, 1), "color=gray"),
        ((28, 28, 2), (1, 28, 28, 3), "color=rgb"),
        ((3, 28, 28), (1, 28, 28, 3), "height, width, channels"),
    ],
    ids=str,
)
def test_a_shape_that_does_not_fit_is_refused_with_what_was_expected_and_what_helps(
    tmp_path: Path, stored: tuple[int, ...], wanted: tuple[int, ...], hint: str
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, *stored), np.float32))
    tensor = Tensor(index=0, name="x", dtype="float32", shape=wanted)
    expected = "x".join(map(str, wanted[1:]))
    with pytest.raises(InputError, match=f"takes {expected}") as caught:
        load_dataset(str(tmp_path / "x.npy")).match((tensor,))
    assert hint in caught.value.hint


@pytest.mark.tf
def test_only_float_models_with_one_input_are_asked(demo: Path) -> None:
    assert applies(read(demo))
    assert not applies(read(demo_dir() / "fashion.keras"))


@pytest.mark.tf
def test_the_spread_is_that_of_the_first_layer(demo: Path) -> None:
    samples = [s[0] for s in load_dataset(SAMPLES).match(read(demo).inputs).spread(8)]
    once = measure_answers(demo, samples, [(1 / 255, 0.0)])
    scaled = measure_answers(demo, [s / 255 for s in samples])
    assert once.spread is not None and scaled.spread is not None
    assert once.spread == pytest.approx(255 * scaled.spread, rel=1e-4)
    assert once.told[1] == pytest.approx(scaled.told[0], rel=1e-3)
