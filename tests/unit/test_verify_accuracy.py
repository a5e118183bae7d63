"""Accuracy compares the same question's answers, however the two files order their edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_model_edit import two_of_each

from edgeopt.dataset import Preprocess
from edgeopt.errors import ModelError
from edgeopt.model.edit import in_order
from edgeopt.progress import Silent
from edgeopt.verify.accuracy import Accuracy, measure_accuracy


def measured(model: Path, baseline: Path | None, data: Path, *names: str) -> Accuracy:
    return measure_accuracy(
        model, baseline, str(data), Preprocess(), Silent(), processes=1, input_names=names
    )


@pytest.fixture
def turned(tmp_path: Path) -> tuple[Path, Path]:
    """A model of two inputs and outputs, and the same one with both turned round."""
    plain, other = tmp_path / "plain.tflite", tmp_path / "turned.tflite"
    plain.write_bytes(two_of_each())
    other.write_bytes(in_order(two_of_each(), ["right", "left"], ["total", "difference"]))
    return plain, other


def subtractions(folder: Path) -> Path:
    """Samples whose difference left - right has its largest value at the label."""
    left = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    right = np.random.default_rng(1).normal(size=(20, 2)).astype(np.float32)
    arrays = {"left": left, "right": right, "y": (left - right).argmax(axis=1)}
    np.savez(folder / "d.npz", **arrays)
    return folder / "d.npz"


def test_a_model_with_turned_edges_agrees_with_its_float_model(
    turned: tuple[Path, Path], tmp_path: Path
) -> None:
    found = measured(turned[1], turned[0], subtractions(tmp_path))
    assert (found.baseline, found.optimized, found.more["agreement"]) == (1.0, 1.0, 1.0)
    assert found.more["sqnr_db"] is None  # no noise at all


def test_arrays_by_position_follow_the_model_that_the_user_knows(
    turned: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "pairs.py").write_text(
        "import numpy as np\n"
        "def pairs():\n"
        "    arrays = np.load(__file__.replace('pairs.py', 'd.npz'))\n"
        "    for left, right, y in zip(arrays['left'], arrays['right'], arrays['y']):\n"
        "        yield (left, right), int(y)\n"
    )
    subtractions(tmp_path)
    data = f"{tmp_path}/pairs.py:pairs"
    found = measured(turned[0], turned[0], Path(data), "left", "right")
    assert found.optimized == 1.0
    assert measured(turned[0], turned[0], Path(data), "right", "left").optimized < 0.5


def test_inputs_of_other_names_are_not_guessed(turned: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.tflite"
    other.write_bytes(turned[0].read_bytes().replace(b"left", b"lift"))
    with pytest.raises(ModelError, match=r"lift, right.*left, right"):
        measured(other, turned[0], subtractions(tmp_path))
