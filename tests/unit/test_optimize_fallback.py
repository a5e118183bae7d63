"""Fallback of the worst layers: which, how many, where it is allowed, and that it helps."""

from __future__ import annotations

from pathlib import Path

import hard_models
import numpy as np
import pytest

from edgeopt.dataset import Dataset, Preprocess, load_dataset
from edgeopt.errors import InputError, ModelError
from edgeopt.model import read
from edgeopt.optimize import Conversion, ConversionRequest, quantize, refuse_fallback
from edgeopt.optimize.fallback import Trial, choose, growing, order
from edgeopt.optimize.layer_errors import LayerError, LayerErrors
from edgeopt.paths import demo_dir
from edgeopt.profile import load_profile
from edgeopt.progress import Silent
from edgeopt.quality import QualityRequest
from edgeopt.verify import check

FLOAT = demo_dir() / "fashion.tflite"


def layer(index: int, share: float | None, op: str = "CONV_2D") -> LayerError:
    return LayerError(
        index=index, op=op, name=f"layer {index}", weighed=True, sqnr_db=20.0,
        alone_sqnr_db=30.0, output_sqnr_db=25.0, share=share,
    )  # fmt: skip


def trials(*decibels: float | None, counts: tuple[int, ...] = (0, 1, 2, 3, 4, 6, 8)) -> list[Trial]:
    return [
        Trial(layers=tuple(map(str, range(count))), output_sqnr_db=value)
        for count, value in zip(counts, decibels, strict=False)
    ]


def test_the_worst_layers_come_first_and_exact_ones_never() -> None:
    layers = (layer(0, 0.1), layer(1, 0.6), layer(2, None), layer(3, 0.3), layer(4, 0.0))
    softmax = layer(5, 0.2, "SOFTMAX")
    found = LayerErrors(samples=8, seconds=0, output_sqnr_db=20, layers=(*layers, softmax))
    assert [each.index for each in order(found)] == [1, 3, 0]


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(0, []), (1, [1]), (2, [1, 2]), (5, [1, 2, 3, 4, 5]), (13, [1, 2, 3, 4, 6, 8, 12, 13])],
)
def test_the_sets_grow_by_halves(count: int, sizes: list[int]) -> None:
    assert growing(count) == sizes


@pytest.mark.parametrize(
    ("decibels", "chosen"),
    [
        ((20.0, 20.5, 20.9), 0),  # nothing worth a slower layer
        ((20.0, 24.0, 24.5, 24.7), 1),
        ((20.0, 20.1, 26.0, 26.5), 2),  # two that only help together
        ((20.0, 22.0, 24.0, 26.0, 28.0), 4),
        ((20.0, 37.0, 50.0), 1),  # near float already
        ((20.0, None, 50.0), 1),  # no error at all
        ((None, None), 0),
        ((20.0, 15.0, 14.0), 0),  # worse, for whatever reason
    ],
)
def test_a_set_must_be_worth_its_layers(decibels: tuple[float | None, ...], chosen: int) -> None:
    assert len(choose(trials(*decibels)).layers) == chosen


@pytest.mark.parametrize("kind", ["int16x8", "float32"])
def test_the_edge_tpu_takes_no_fallback_and_the_rule_is_named(kind: str) -> None:
    with pytest.raises(InputError, match=rf"--fallback {kind} .* edgetpu-v1 does not .*rule|types"):
        refuse_fallback(load_profile("edgetpu-v1"), kind)


def test_a_gpu_takes_float_layers_but_none_of_16_bits() -> None:
    refuse_fallback(load_profile("android-gpu"), "float32")
    with pytest.raises(InputError, match=r"activations.types: float32"):
        refuse_fallback(load_profile("android-gpu"), "int16x8")


@pytest.mark.parametrize("profile", ["cpu-int8", "edgetpu-v1"])
def test_no_fallback_is_always_right(profile: str) -> None:
    refuse_fallback(load_profile(profile), "none")


def data_for(model: Path) -> Dataset:
    found = load_dataset(
        f"{demo_dir() / 'samples.npz'}:x_calib", preprocess=Preprocess.parse("scale=1/255")
    )
    return found.match(read(model).inputs)


def converted(model: Path, output: Path, fallback: str) -> Conversion:
    """With nothing but the fallback to help."""
    quality = QualityRequest(
        ranges="minmax", equalization="off", bias_correction="off", fallback=fallback
    )
    request = ConversionRequest(scheme="int8", quality=quality)
    return quantize(model, request, output, dataset=data_for(model), progress=Silent())


def made_hard(folder: Path, orders: float = 3.0) -> Path:
    path = folder / "hard.tflite"
    float_model = hard_models.without_clamps(FLOAT.read_bytes())
    path.write_bytes(hard_models.rescaled(float_model, orders=orders))
    return path


# 16-bit activations do not help weights that differ a thousandfold in their inputs' units.
@pytest.mark.parametrize(("kind", "orders"), [("float32", 3.0), ("int16x8", 1.5)])
def test_the_worst_layers_of_a_hard_model_fall_back_and_it_recovers(
    tmp_path: Path, kind: str, orders: float
) -> None:
    hard = made_hard(tmp_path, orders)
    output = tmp_path / "out.tflite"
    made = converted(hard, output, kind)
    assert made.fallback is not None
    assert made.fallback["kind"] == kind
    assert made.fallback["without_sqnr_db"] < 8
    assert made.fallback["output_sqnr_db"] > made.fallback["without_sqnr_db"] + 10
    agreed = hard_models.agreement(hard, output, data_for(hard))
    assert agreed >= 0.9
    facts = read(output)
    kept = "float32" if kind == "float32" else "int16"
    names = [op.outputs[0].name for op in facts.operators() if op.outputs[0].dtype == kept]
    assert set(made.fallback["layers"]) <= set(names)
    assert check(facts, load_profile("cpu-int8"), io="int8").passed
    [note] = [note for note in made.notes if kind in note]
    assert f"{len(made.fallback['layers'])} layers" in note
    assert "slower than plain int8" in note
    assert made.layer_errors is not None
    done = {layer["name"] for layer in made.layer_errors["layers"] if kind in layer["done"]}
    assert done == set(made.fallback["layers"])


def test_without_being_asked_no_layer_falls_back(tmp_path: Path) -> None:
    made = converted(made_hard(tmp_path), tmp_path / "out.tflite", "none")
    assert made.fallback is None
    assert not [t for t in read(made.path).tensors() if t.dtype in ("float32", "int16")]


def test_a_good_model_keeps_its_layers_and_says_so(tmp_path: Path) -> None:
    made = converted(FLOAT, tmp_path / "out.tflite", "int16x8")
    assert made.fallback is not None
    assert made.fallback["layers"] == []
    assert "No layer became int16x8" in " ".join(made.notes)
    plain = converted(FLOAT, tmp_path / "plain.tflite", "none")
    assert made.path.read_bytes() == plain.path.read_bytes()


def test_fallback_needs_the_quantizer_that_knows_layers(tmp_path: Path) -> None:
    """A model that the LiteRT quantizer cannot bring to int8 as a whole."""
    data = hard_models.with_unknown_operation(FLOAT.read_bytes())
    (tmp_path / "odd.tflite").write_bytes(data)
    with pytest.raises(ModelError, match="No single layer can become float32"):
        converted(tmp_path / "odd.tflite", tmp_path / "out.tflite", "float32")
    assert not (tmp_path / "out.tflite").exists()


def test_agreement_counts_equal_answers() -> None:
    assert hard_models.agreement(FLOAT, FLOAT, data_for(FLOAT)) == 1
    assert np.isfinite(hard_models.answers(FLOAT, data_for(FLOAT))).all()
