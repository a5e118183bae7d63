"""Labels of every kind: what is read from arrays, files and functions, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeopt.dataset import Dataset, Targets, load_dataset
from edgeopt.errors import InputError

TWO = np.zeros((2, 4), np.float32)


def stored(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "d.npz", **arrays)
    return folder / "d.npz"


def targets(data: object, labels: Path | None = None) -> Targets:
    found = load_dataset(str(data), labels=str(labels) if labels else None).targets
    assert found is not None
    return found


def pictures(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        (np.array([3, 1]), "classes"),
        (np.array([[3], [1]]), "classes"),
        (np.array([[0, 1], [1, 0]]), "classes"),
        (np.array([0.25, 3.0]), "values"),
        (np.array([[0, 1, 1], [1, 0, 2]]), "values"),
        (np.array(["a cat", "two"]), "texts"),
        (np.array([b"a cat", b"two"]), "texts"),
    ],
)
def test_arrays_are_of_the_kind_that_they_look_like(tmp_path: Path, y: Any, kind: str) -> None:
    found = targets(stored(tmp_path, x=TWO, y=y))
    assert (found.kind, len(found)) == (kind, 2)


def test_whole_numbers_serve_as_classes_and_as_values(tmp_path: Path) -> None:
    found = targets(stored(tmp_path, x=TWO, y=np.array([3, 1])))
    assert list(found.of("classes")) == [3, 1]
    assert [float(v) for v in found.of("values")] == [3.0, 1.0]
    with pytest.raises(InputError, match="are class numbers; this metric compares with texts"):
        found.of("texts")


def test_padded_boxes_lose_their_padding(tmp_path: Path) -> None:
    boxes = np.zeros((2, 2, 4))
    boxes[0, 0] = [0.1, 0.2, 0.5, 0.6]
    data = stored(tmp_path, x=TWO, boxes=boxes, classes=np.array([[4, -1], [-1, -1]]))
    first, second = targets(data).of("boxes")
    assert first.boxes.tolist() == [[0.1, 0.2, 0.5, 0.6]] and first.classes.tolist() == [4]
    assert len(second.boxes) == 0


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"boxes": np.ones((2, 4)), "classes": np.ones((2, 1))}, r"shape \(2, 4\)"),
        ({"boxes": np.ones((2, 1, 4)) * 90, "classes": np.ones((2, 1))}, "fractions of the image"),
        ({"boxes": np.ones((2, 1, 4)), "classes": np.full((2, 1), 0.5)}, "whole numbers"),
        ({"boxes": np.ones((3, 1, 4)), "classes": np.ones((3, 1))}, "2 samples in 'x' but 3"),
        ({"y": np.array([1.0, np.nan])}, "NaN"),
        ({"y": np.array([1 + 2j, 0])}, "complex128"),
    ],
)
def test_labels_that_fit_nothing_are_refused(
    tmp_path: Path, arrays: dict[str, Any], said: str
) -> None:
    data = stored(tmp_path, x=TWO, **arrays)
    with pytest.raises(InputError, match=said):
        targets(data).of("values")


def test_pickled_labels_stay_in_their_box(tmp_path: Path) -> None:
    data = stored(tmp_path, x=TWO, y=np.array([["a"], ["b", "c"]], dtype=object))
    with pytest.raises(InputError, match="no pickled objects"):
        targets(data)


def coco(folder: Path, **changes: Any) -> Path:
    content = {
        "images": [
            {"id": 9, "file_name": "b.png", "height": 20, "width": 40},
            {"id": 2, "file_name": "sub/a.png", "height": 20, "width": 40},
        ],
        "annotations": [
            {"image_id": 2, "category_id": 17, "bbox": [4, 2, 20, 10], "iscrowd": 1},
            {"image_id": 2, "category_id": 3, "bbox": [0, 0, 40, 20]},
        ],
        "categories": [{"id": 3, "name": "cat"}],
    }
    (folder / "coco.json").write_text(json.dumps({**content, **changes}))
    return folder / "coco.json"


def test_coco_chooses_images_and_gives_fractions(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "images", "sub/a.png", "sub/b.png", "sub/unused.png")
    data = load_dataset(str(folder), labels=str(coco(tmp_path)))
    assert len(data) == 2 and data.targets is not None
    empty, full = data.targets.of("boxes")
    assert len(empty.boxes) == 0
    assert full.boxes.tolist() == [[0.1, 0.1, 0.6, 0.6], [0, 0, 1, 1]]
    assert full.classes.tolist() == [17, 3] and full.crowd.tolist() == [True, False]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": []}, "which it lacks"),
        ({"images": [{"id": 2, "file_name": "no.png", "height": 1, "width": 1}]}, "'no.png'"),
        ({"images": [{"id": 2, "file_name": "sub/a.png"}]}, "KeyError at 'height'"),
        ({"annotations": [{"image_id": 2, "category_id": 1, "bbox": "1234"}]}, "TypeError at bbox"),
        ({"annotations": 7}, "TypeError"),
    ],
)
def test_broken_coco_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    folder = pictures(tmp_path / "images", "sub/a.png", "sub/b.png")
    with pytest.raises(InputError, match=said):
        load_dataset(str(folder), labels=str(coco(tmp_path, **changes)))


def test_csv_names_files_and_text_follows_the_order(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "images", "a.png", "b.png", "c.png")
    (tmp_path / "l.csv").write_text("file,label\nc.png,1\na.png,0\n")
    data = load_dataset(str(folder), labels=str(tmp_path / "l.csv"))
    assert data.labels is not None and data.labels.tolist() == [1, 0] and len(data) == 2
    (tmp_path / "l.txt").write_text("one two\n\nthree\n")
    spoken = targets(stored(tmp_path, x=np.zeros((3, 1))), tmp_path / "l.txt")
    assert spoken.of("texts") == ["one two", "", "three"]
    (tmp_path / "v.csv").write_text("label\n0.5\n-2\n")
    numbers = targets(stored(tmp_path, x=TWO), tmp_path / "v.csv")
    assert [float(v) for v in numbers.of("values")] == [0.5, -2.0]


def test_squad_is_read_in_its_order(tmp_path: Path) -> None:
    asked = [{"answers": [{"text": "1976"}, {"text": "1976"}]}, {"answers": []}]
    content = {"data": [{"paragraphs": [{"context": "In 1976", "qas": asked}]}]}
    (tmp_path / "squad.json").write_text(json.dumps(content))
    found = targets(stored(tmp_path, x=TWO), tmp_path / "squad.json").of("answers")
    assert [a.texts for a in found] == [("1976",), ()] and found[0].context == "In 1976"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("l.json", "[1, 2, 3]", "3 labels, the data 2"),
        ("l.json", "{", "is not JSON"),
        ("l.json", "[" * 100_000, "is not JSON"),
        ("l.json", '{"a": 1}', "neither a list, nor COCO"),
        ("l.json", '[{"answers": 7}, "b"]', "answers cannot be read"),
        ("l.json", '[{"wrong": 7}, "b"]', "keys wrong is not known"),
        ("l.csv", "a,b\n1,2\n", "no column named label"),
        ("l.csv", "file,label\n1\n", "row 2"),
        ("l.csv", "file,label\na.png,1\nb.png,2\n", "no folder of images"),
        ("l.txt", "", "holds no labels"),
        ("l.xml", "<a/>", "not a kind of label file"),
    ],
)
def test_broken_label_files_are_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        load_dataset(str(stored(tmp_path, x=TWO)), labels=str(tmp_path / name))


def test_a_label_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.json cannot be read"):
        load_dataset(str(stored(tmp_path, x=TWO)), labels=str(tmp_path / "none.json"))


def drawn(folder: Path, line: str) -> Dataset:
    (folder / "own.py").write_text(f"import numpy as np\nX = np.zeros(3, np.float32)\n{line}\n")
    return load_dataset(f"{folder}/own.py:f")


@pytest.mark.parametrize(
    ("y", "kind"),
    [("3", "classes"), ("2.5", "values"), ("'text'", "texts"), ("['a', 'b']", "answers"),
     ("{'answers': ['a'], 'context': 'a b', 'offsets': [[0, 1]]}", "answers"),
     ("{'boxes': [[0, 0, 1, 1]], 'classes': [1]}", "boxes")],
)  # fmt: skip
def test_a_function_may_yield_any_kind_of_target(tmp_path: Path, y: str, kind: str) -> None:
    data = drawn(tmp_path, f"def f():\n    for _ in range(3): yield X, {y}")
    assert data.targets is not None and data.targets.kind == kind and len(data.targets) == 3
    assert len(data.source.take(0)) == 1


def test_two_arrays_are_input_and_target_of_a_model_with_one_input(tmp_path: Path) -> None:
    from edgeopt.facts import Tensor

    one = Tensor(index=0, name="x", dtype="float32", shape=(1, 3))
    data = drawn(tmp_path, "def f():\n    for i in range(2): yield X, np.array([i, .5])")
    assert data.targets is None
    fitted = data.match((one,))
    assert fitted.targets is not None
    assert [v.tolist() for v in fitted.targets.of("values")] == [[0, 0.5], [1, 0.5]]
    assert [len(sample) for sample in fitted.samples()] == [1, 1]
    two = Tensor(index=1, name="z", dtype="float32", shape=(1, 2))
    assert len(next(data.match((one, two)).samples())) == 2


def test_an_endless_function_is_drawn_as_far_as_asked(tmp_path: Path) -> None:
    data = drawn(tmp_path, "def f():\n    while True: yield X, 1")
    data.stop_at(5)
    assert data.targets is not None and len(data.targets) == 5
