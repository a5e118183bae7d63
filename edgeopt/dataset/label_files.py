"""Files of labels beside the data (--labels): COCO and SQuAD JSON, lists in JSON, CSV and text.

What is read is plain text of bounded size; nothing in it is executed or imported.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from edgeopt.dataset.sources import Images
from edgeopt.dataset.targets import Answer, Boxes, Targets, as_target
from edgeopt.errors import InputError

if TYPE_CHECKING:
    from edgeopt.dataset.sources import Source

__all__ = ["read_labels"]

_LARGEST_BYTES = 1 << 30
_FORMS = (
    "A label file is .json (COCO annotations, SQuAD, or a list with one entry a sample), .csv "
    "(columns file and label, or label alone) or .txt (one line a sample)."
)


def read_labels(path: Path, source: Source) -> tuple[Source, Targets]:
    """The labels of a file, and the samples in their order (a file that names images chooses
    them). Raises InputError when it cannot be read or does not fit the samples."""
    text = _text(path)
    kind = path.suffix.lower()
    if kind == ".json":
        source, raw = _json(text, path, source)
    elif kind == ".csv":
        source, raw = _csv(text, path, source)
    elif kind == ".txt":
        raw = [line.strip() for line in text.splitlines()]
    else:
        raise InputError(f"{path} is not a kind of label file that edgeopt reads.", _FORMS)
    if not raw:
        raise InputError(f"{path} holds no labels.", _FORMS)
    if len(raw) != len(source):
        raise InputError(
            f"{path} has {len(raw)} labels, the data {len(source)} samples.",
            "Give one label a sample, in the samples' order, or name the files.",
        )
    return source, Targets(raw, f"of {path.name}")


def _text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > _LARGEST_BYTES:
            raise InputError(f"{path} has {size >> 20} MiB, too much for labels.", _FORMS)
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"The labels {path} cannot be read: {said}.", _FORMS) from error


def _json(text: str, path: Path, source: Source) -> tuple[Source, list[Any]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {str(error)[:100]}.", _FORMS) from error
    try:
        if isinstance(content, list):
            return source, [as_target(v, f"{path.name}, entry {i}") for i, v in enumerate(content)]
        if isinstance(content, dict) and {"images", "annotations"} <= set(content):
            return _coco(content, path, source)
        if isinstance(content, dict) and "data" in content:
            return source, _squad(content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path} is not made as its kind is: {type(error).__name__} at {str(error)[:80]}.",
            _FORMS,
        ) from error
    raise InputError(f"{path} is neither a list, nor COCO, nor SQuAD JSON.", _FORMS)


def _coco(content: Mapping[str, Any], path: Path, source: Source) -> tuple[Source, list[Any]]:
    """COCO's instances: boxes as left, top, width, height in pixels, of the images it lists."""
    if not isinstance(source, Images):
        raise InputError(
            f"{path} names images; the data is no folder of images.",
            "Give the folder of the images as the data.",
        )
    images = {image["id"]: image for image in content["images"]}
    rows: dict[Any, list[tuple[list[float], int, bool]]] = {key: [] for key in images}
    for entry in content["annotations"]:
        image = images.get(entry["image_id"])
        if image is None:
            raise InputError(f"{path} has a box of image {entry['image_id']}, which it lacks.")
        height, width = float(image["height"]), float(image["width"])
        if not (height > 0 and width > 0):
            raise InputError(f"{path}: image {image['id']} has no size.")
        if not isinstance(entry["bbox"], list):
            raise TypeError("bbox")
        left, top, wide, high = map(float, entry["bbox"])
        box = [top / height, left / width, (top + high) / height, (left + wide) / width]
        rows[image["id"]].append((box, int(entry["category_id"]), bool(entry.get("iscrowd", 0))))
    chosen = source.only([str(image["file_name"]) for image in images.values()], str(path))
    return chosen, [_boxes(rows[key], path) for key in images]


def _boxes(rows: list[tuple[list[float], int, bool]], path: Path) -> Boxes:
    import numpy as np

    made = as_target(
        {
            "boxes": np.asarray([r[0] for r in rows], dtype=np.float64).reshape(-1, 4),
            "classes": [r[1] for r in rows],
            "crowd": np.asarray([r[2] for r in rows], dtype=bool),
        },
        path.name,
    )
    assert isinstance(made, Boxes)
    return made


def _squad(content: Mapping[str, Any]) -> list[Any]:
    """SQuAD's questions in the order of the file; those without an answer accept only none."""
    return [
        Answer(
            texts=tuple(dict.fromkeys(str(a["text"]) for a in question["answers"])),
            context=str(paragraph["context"]),
        )
        for article in content["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def _csv(text: str, path: Path, source: Source) -> tuple[Source, list[Any]]:
    try:
        rows = [row for row in csv.reader(text.splitlines(), strict=True) if row]
    except csv.Error as error:
        raise InputError(f"{path} is not CSV: {error}.", _FORMS) from error
    head = [name.strip().lower() for name in rows[0]] if rows else []
    if "label" not in head:
        raise InputError(f"{path} has no column named label in its first line.", _FORMS)
    wrong = next((n for n, row in enumerate(rows, 1) if len(row) != len(head)), None)
    if wrong is not None:
        raise InputError(f"{path}: row {wrong} has other columns than the first line.", _FORMS)
    labels = [row[head.index("label")].strip() for row in rows[1:]]
    if "file" in head:
        if not isinstance(source, Images):
            raise InputError(f"{path} names files; the data is no folder of images.", _FORMS)
        files = [PurePosixPath(row[head.index("file")].strip()).as_posix() for row in rows[1:]]
        source = source.only(files, str(path))
    return source, _numbers(labels)


def _numbers(labels: list[str]) -> list[Any]:
    """Numbers where all are, whole ones where all are; else the texts."""
    for kind in (int, float):
        try:
            return [kind(label) for label in labels]
        except ValueError:
            continue
    return list(labels)
