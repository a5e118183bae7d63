"""Detection: mean average precision at an intersection over union of 0.5, as COCO computes it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeopt.dataset import Boxes
from edgeopt.errors import InputError
from edgeopt.verify.metrics.metric import Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Table = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]

__all__ = ["map50", "observe_boxes"]

_MOST = 100  # detections an image, as COCO counts
_RESAMPLES = 200
_SEED = 20_240_229
_SIDE = 1000.0  # COCO wants pixels; an overlap does not depend on the scale of either axis


def observe_boxes(found: Mapping[str, Any], wanted: Boxes) -> dict[str, list[list[float]]]:
    """What was found, [top, left, bottom, right, class, score], and what is there, [.., class,
    crowd]; sides are fractions of the image."""
    rows = [
        [*map(float, box), int(number), float(score)]
        for box, number, score in zip(
            found["boxes"], found["classes"], found["scores"], strict=True
        )
    ]
    rows.sort(key=lambda row: -row[5])  # stable: ties stay in the model's order
    truth = [
        [*map(float, box), int(number), int(crowd)]
        for box, number, crowd in zip(wanted.boxes, wanted.classes, wanted.crowd, strict=True)
    ]
    return {"found": rows[:_MOST], "truth": truth}


def map50(seen: Sequence[Mapping[str, Any]]) -> Score:
    """Mean over the classes of the average precision at IoU 0.5: 101 recall points, at most 100
    detections an image, crowds ignored (pycocotools' COCOeval, one of its ten thresholds).

    The standard error is a bootstrap over images (200 resamples, seeded). Raises InputError when
    no image has a box.
    """
    import numpy as np

    evaluated = _evaluated(seen)
    if evaluated is None:
        raise InputError("No sample has a box: there is nothing to find.", "Check the labels.")
    precision = evaluated.eval["precision"][0, :, :, 0, 0]  # recall points x classes
    there = precision.max(axis=0) > -1  # -1: no box of that class
    value = float(precision[:, there].mean())
    tables = _tables(evaluated, len(seen))
    generator = np.random.default_rng(_SEED)
    values = []
    for _ in range(_RESAMPLES if len(seen) > 1 else 0):
        weights = np.bincount(generator.integers(0, len(seen), len(seen)), minlength=len(seen))
        found = [p for p in (_precision(t, weights) for t in tables) if p is not None]
        if found:
            values.append(sum(found) / len(found))
    error = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Score(value=value, standard_error=error, notes=_notes(seen, value))


def _notes(seen: Sequence[Mapping[str, Any]], value: float) -> tuple[str, ...]:
    said = {int(row[4]) for image in seen for row in image["found"]}
    there = {int(row[4]) for image in seen for row in image["truth"]}
    if said and value == 0 and not said & there:
        return (
            f"The model's classes ({min(said)} to {max(said)}) and the labels' ({min(there)} to "
            f"{max(there)}) have none in common: --decode detections,first=N says which label "
            "its first class has.",
        )
    return ()


def _evaluated(seen: Sequence[Mapping[str, Any]]) -> Any:
    """COCOeval after evaluate and accumulate; None when there is no box at all."""
    import numpy as np
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for number, image in enumerate(seen):
        for row in image["truth"]:
            box = _corner(row)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": int(row[4]),
                 "bbox": box, "area": box[2] * box[3], "iscrowd": int(row[5])}
            )  # fmt: skip
        for row in image["found"]:
            detections.append(
                {"image_id": number, "category_id": int(row[4]), "bbox": _corner(row),
                 "score": row[5]}
            )  # fmt: skip
    if not annotations:
        return None
    classes = sorted({a["category_id"] for a in annotations})
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": n} for n in range(len(seen))],
            "annotations": annotations,
            "categories": [{"id": c} for c in classes],
        }
        truth.createIndex()
        found = truth.loadRes(detections) if detections else COCO()
        if not detections:
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        work = COCOeval(truth, found, "bbox")
        work.params.iouThrs = np.array([0.5])
        work.params.areaRng, work.params.areaRngLbl = [[0, 1e10]], ["all"]
        work.params.maxDets = [_MOST]
        work.evaluate()
        work.accumulate()
    return work


def _corner(row: Sequence[float]) -> list[float]:
    top, left, bottom, right = (side * _SIDE for side in row[:4])
    return [left, top, right - left, bottom - top]


def _tables(work: Any, images: int) -> list[_Table]:
    """Per class that has boxes, of COCOeval's own matches: image, hit and ignored of every
    detection by falling score, and the number of boxes in each image."""
    import numpy as np

    per_class: dict[int, list[Any]] = {}
    for entry in filter(None, work.evalImgs):
        per_class.setdefault(entry["category_id"], []).append(entry)
    tables = []
    for _, entries in sorted(per_class.items()):
        boxes = np.zeros(images)
        for e in entries:
            boxes[e["image_id"]] = (np.asarray(e["gtIgnore"]) == 0).sum()
        scores = np.concatenate([e["dtScores"] for e in entries])
        order = np.argsort(-scores, kind="mergesort")
        where = np.concatenate([np.full(len(e["dtScores"]), e["image_id"]) for e in entries])
        hits = np.concatenate([np.asarray(e["dtMatches"])[0] > 0 for e in entries])
        ignored = np.concatenate([np.asarray(e["dtIgnore"])[0] > 0 for e in entries])
        if boxes.any():
            tables.append((where[order].astype(int), hits[order], ignored[order], boxes))
    return tables


def _precision(table: _Table, weights: NDArray[Any]) -> float | None:
    """Average precision of one class with each image counted `weights` times, over COCO's 101
    recall points; None without boxes."""
    import numpy as np

    where, hits, ignored, boxes = table
    total = float((boxes * weights).sum())
    if total == 0:
        return None
    counted = weights[where] * ~ignored
    right = np.cumsum(counted * hits)
    every = np.cumsum(counted)
    recall = right / total
    precision = right / np.maximum(every, np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, np.linspace(0, 1, 101), "left")
    return float(np.append(envelope, np.zeros(1))[np.minimum(at, len(envelope))].mean())
