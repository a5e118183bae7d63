"""Decoders: outputs of real files, through the interpreter, to what a metric compares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from passing_models import passing

from edgeopt.dataset import Preprocess
from edgeopt.errors import InputError, ModelError
from edgeopt.progress import Silent
from edgeopt.verify.accuracy import Accuracy, measure_accuracy
from edgeopt.verify.decode import Decode


def measured(model: Path, data: object, **more: Any) -> Accuracy:
    baseline = more.pop("baseline", None)
    return measure_accuracy(model, baseline, str(data), Preprocess(), Silent(), processes=1, **more)


def stored(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def spoken(path: Path, *texts: str) -> tuple[Path, Path]:
    """A model of 12 steps and its data: the texts as one-hot steps, blanks between the letters."""
    letters = "abcdefgh "
    steps = np.zeros((len(texts), 12, 10), np.float32)
    for row, text in enumerate(texts):
        line: list[int] = []
        for letter in text:
            line += [letters.index(letter)] * 2 + [9]  # twice, then the blank
        line = (line + [9] * 12)[:12]
        steps[row, np.arange(12), line] = 1
    (path / "letters.txt").write_text(letters + "\n")
    y = np.array(["bad", "had egg"])
    model = passing(path / "ctc.tflite", steps=[1, 12, 10])
    return model, stored(path / "speech.npz", x=steps, y=y)


def test_repeats_are_merged_and_blanks_left_out(tmp_path: Path) -> None:
    pytest.importorskip("jiwer")
    model, data = spoken(tmp_path, "bad", "had ")
    decode = f"ctc,alphabet={tmp_path}/letters.txt"
    words = measured(model, data, decode=decode)
    assert (words.metric, words.optimized) == ("wer", pytest.approx(1 / 3))
    assert words.baseline is None and not words.higher_is_better
    letters = measured(model, data, decode=decode, metric="cer", baseline=model)
    assert letters.optimized == letters.baseline == pytest.approx(4 / 10)  # " egg" of 10 letters
    assert letters.drop == 0 and letters.more["agreement"] == 1


def test_an_alphabet_of_another_size_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("jiwer")
    model, data = spoken(tmp_path, "bad", "had ")
    (tmp_path / "short.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match="10 symbols, the alphabet 2"):
        measured(model, data, decode=f"ctc,alphabet={tmp_path}/short.txt")
    with pytest.raises(InputError, match="needs the symbols"):
        measured(model, data)


def detector(folder: Path, names: tuple[str, ...]) -> tuple[Path, str]:
    """A detector's outputs under these names (boxes, classes, scores, count in some order), and two
    images: in the first a hit and padding, in the second a miss."""
    shapes = {"boxes": [1, 3, 4], "classes": [1, 3], "scores": [1, 3], "count": [1]}
    model = passing(folder / "ssd.tflite", **{n: shapes[n.partition("_")[0]] for n in names})
    (folder / "detections.py").write_text(
        "import numpy as np\n"
        "def images():\n"
        "    for hit in (1, 0):\n"
        "        box = [.1, .2, .5, .6] if hit else [.6, .6, .9, .9]\n"
        "        parts = {'boxes': [box, [0, 0, 0, 0], [0, 0, 1, 1]], 'classes': [2, 0, 2],\n"
        "                 'scores': [.9, 0, .99], 'count': [2]}\n"
        f"        names = {names!r}\n"
        "        given = {'in_' + n: np.array(parts[n.split('_')[0]], np.float32)"
        " for n in names}\n"
        "        yield given, {'boxes': [[.1, .2, .5, .6]], 'classes': [2]}\n"
    )
    return model, f"{folder}/detections.py:images"


@pytest.mark.parametrize(
    "names",
    [
        ("boxes", "classes", "scores", "count"),
        ("scores", "count", "boxes", "classes"),
        ("boxes_a", "classes_b", "scores_c", "count_d"),
    ],
    ids=["usual", "turned", "named"],
)
def test_a_detectors_outputs_are_found_by_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    pytest.importorskip("pycocotools")
    model, data = detector(tmp_path, names)
    found = measured(model, data)
    # the best score is a hit: recall 1 of 2 at precision 1; what is beyond count is not counted
    assert (found.metric, found.optimized) == ("map50", pytest.approx(51 / 101))


def test_classes_of_a_detector_may_begin_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    model, data = detector(tmp_path, ("boxes", "classes", "scores", "count"))
    found = measured(model, data, decode="detections,first=1")
    assert found.optimized == 0 and "first=N" in found.notes[-1]


def test_scores_in_the_place_of_classes_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    model, data = detector(tmp_path, ("boxes", "classes", "scores", "count"))
    with pytest.raises(InputError, match="holds fractions"):
        measured(model, data, decode="detections,classes=scores,scores=classes")


@pytest.mark.parametrize(
    ("order", "row"),
    [("yxyx", [1, 2, 5, 6]), ("xyxy", [2, 1, 6, 5]), ("xywh", [2, 1, 4, 4]),
     ("yxhw", [1, 2, 4, 4]), ("cxcywh", [4, 3, 4, 4])],
)  # fmt: skip
def test_every_order_of_a_boxs_numbers_is_the_same_box(order: str, row: list[float]) -> None:
    from edgeopt.verify.decode_boxes import _yxyx

    assert _yxyx(np.array([row], dtype=float), order).tolist() == [[1, 2, 5, 6]]


def questions(folder: Path, **more: Any) -> tuple[Path, Path]:
    """Start and end scores of 6 tokens ([Q] [Q] In the year 1976), best at the question's own."""
    model = passing(folder / "qa.tflite", start_logits=[1, 6], end_logits=[1, 6])
    starts = np.array([[9, 0, 1, 0, 0, 3]], np.float32)
    ends = np.array([[9, 0, 0, 0, 0, 3]], np.float32)
    data = stored(folder / "qa.npz", in_start_logits=starts, in_end_logits=ends)
    label = {
        "answers": ["1976", "in 1976"],
        "context": "In the year 1976",
        "offsets": [None, None, [0, 2], [3, 6], [7, 11], [12, 16]],
        **more,
    }
    (folder / "answers.json").write_text(json.dumps([label]))
    return model, data


def test_an_answer_is_the_best_span_of_the_context(tmp_path: Path) -> None:
    model, data = questions(tmp_path)
    labels = str(tmp_path / "answers.json")
    found = measured(model, data, labels=labels)
    assert (found.metric, found.optimized, found.more["exact_match"]) == ("f1", 1.0, 1.0)
    none = measured(model, data, labels=labels, decode="span,null=yes")  # token 0 scores more
    assert none.optimized == 0
    one = measured(model, data, labels=labels, metric="exact_match", decode="span,longest=1")
    assert one.optimized == 1.0


def test_offsets_outside_of_the_context_are_refused(tmp_path: Path) -> None:
    model, data = questions(tmp_path, context="1976")
    with pytest.raises(InputError, match="outside of the context of 4 characters"):
        measured(model, data, labels=str(tmp_path / "answers.json"))


def test_an_autoencoder_ranks_by_its_error(tmp_path: Path) -> None:
    model = tmp_path / "bad.tflite"
    passing(model, y=[1, 4])
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    data = stored(tmp_path / "a.npz", x=x, y=np.array([0, 0, 0, 1, 1, 1]))
    pytest.importorskip("sklearn")
    found = measured(model, data, metric="auc")  # all errors are 0: nothing is ranked
    assert (found.metric, found.optimized) == ("auc", 0.5)


def test_one_value_ranks_or_is_split_but_is_no_class_by_itself(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    model = passing(tmp_path / "one.tflite", y=[1, 1])
    x = np.array([[-2], [-1], [1], [2]], np.float32)
    data = stored(tmp_path / "one.npz", x=x, y=np.array([0, 1, 0, 1]))
    assert measured(model, data, metric="auc").optimized == 0.75
    assert measured(model, data, metric="auc", decode="score,sign=-").optimized == 0.25
    assert measured(model, data, decode="scores,threshold=0").optimized == 0.5
    with pytest.raises(InputError, match=r"one value.*threshold"):
        measured(model, data)


def test_a_background_class_shifts_the_labels(tmp_path: Path) -> None:
    model = passing(tmp_path / "m.tflite", y=[1, 4])
    data = stored(tmp_path / "d.npz", x=np.eye(4, dtype=np.float32)[1:], y=np.arange(3))
    assert measured(model, data).optimized == 0
    assert measured(model, data, decode="scores,first=-1").optimized == 1


def test_a_metric_may_name_its_output(tmp_path: Path) -> None:
    model = passing(tmp_path / "two.tflite", head=[1, 3], other=[1, 3])
    rows = np.eye(3, dtype=np.float32)
    data = stored(tmp_path / "d.npz", in_head=rows, in_other=rows[[1, 2, 0]], y=np.arange(3))
    assert measured(model, data, metric="top1").optimized == 1
    assert measured(model, data, metric="top1@other").optimized == 0
    assert measured(model, data, metric="top1@1", baseline=model).more["agreement"] == 1
    with pytest.raises(InputError, match=r"no output 'third'.*0: head, 1: other"):
        measured(model, data, metric="top1@third")


def test_numbers_are_compared_in_their_own_unit(tmp_path: Path) -> None:
    model = passing(tmp_path / "m.tflite", y=[1, 2])
    x = np.array([[1, 2], [3, 4]], np.float32)
    data = stored(tmp_path / "d.npz", x=x, y=x + np.array([[0.5, -0.5]]))
    found = measured(model, data, baseline=model)
    assert (found.metric, found.optimized, found.drop) == ("mae", 0.5, 0)
    assert found.more["rmse"] == 0.5 and found.more["agreement"] is None


def test_a_users_function_makes_what_no_decoder_does(tmp_path: Path) -> None:
    model = passing(tmp_path / "m.tflite", y=[1, 3])
    data = stored(tmp_path / "d.npz", x=np.eye(3, dtype=np.float32), y=np.arange(3))
    file = tmp_path / "mine.py"
    file.write_text(
        "def turned(outputs):\n    print('noise')\n    return outputs[0][::-1]\n"
        "def given(outputs, inputs):\n    return inputs[0]\n"
        "def text(outputs):\n    return 'a'\n"
        "def broken(outputs):\n    return 1 / 0\n"
        "def lost(outputs):\n    return [float('nan')]\n"
    )
    assert measured(model, data, decode=f"{file}:turned").optimized == pytest.approx(1 / 3)
    assert measured(model, data, decode=f"{file}:given").optimized == 1
    with pytest.raises(InputError, match=r"mine.py:\d+: ZeroDivisionError"):
        measured(model, data, decode=f"{file}:broken")
    with pytest.raises(InputError, match="returned str, not numbers"):
        measured(model, data, decode=f"{file}:text")
    with pytest.raises(ModelError, match="NaN"):
        measured(model, data, decode=f"{file}:lost")


@pytest.mark.parametrize(
    ("decode", "said"),
    [
        ("ctc", "'ctc' makes nothing that top1 compares"),
        ("scores,frist=1", "no option 'frist'. Did you mean first"),
        ("scores,first=x", "is no number"),
        ("scores,output=9", "no output '9'"),
    ],
)
def test_a_wrong_decoder_is_refused(tmp_path: Path, decode: str, said: str) -> None:
    model = passing(tmp_path / "m.tflite", y=[1, 3])
    data = stored(tmp_path / "d.npz", x=np.eye(3, dtype=np.float32), y=np.arange(3))
    with pytest.raises(InputError, match=said):
        measured(model, data, decode=decode)


def test_what_is_no_decoder_is_not_understood() -> None:
    with pytest.raises(InputError, match="takes NAME,key=value"):
        Decode.parse("ctc,alphabet")
    assert Decode.parse("first=-1").to_json() == "first=-1"
    assert Decode.parse(None).to_json() is None
