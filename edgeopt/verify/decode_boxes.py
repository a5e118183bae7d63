"""Detections: boxes, classes and scores out of a detector's outputs.

The order is TFLite_Detection_PostProcess's (boxes, classes, scores, count) when the model ends in
that operation; other models are read by the names of their outputs, else by their shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError, ModelError
from edgeopt.facts import ModelFacts, Tensor
from edgeopt.verify.decode import Decoder, Outputs, Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["checked_boxes", "detections"]

_PARTS = ("boxes", "classes", "scores", "count")
_WORDS = {
    "boxes": ("box", "location"),
    "classes": ("class", "categor"),
    "scores": ("score", "conf"),
    "count": ("count", "num"),
}
_HINT = "Name them: --decode detections,boxes=NAME,classes=NAME,scores=NAME (or their numbers)."


def detections(settings: Settings, facts: ModelFacts) -> Decoder:
    """`format` is the order of a box's numbers, `unit` normalized or pixels of the input, `first`
    the label of the first class, `threshold` the lowest score that counts."""
    where = _where(settings, facts)
    order = settings.text("format", "yxyx", ("yxyx", "xyxy", "xywh", "yxhw", "cxcywh"))
    pixels = settings.text("unit", "normalized", ("normalized", "pixels")) == "pixels"
    size = _input_size(facts) if pixels else (1.0, 1.0)
    first, threshold = settings.whole("first", 0), settings.number("threshold")

    def run(outputs: Outputs) -> dict[str, Any]:
        import numpy as np

        boxes = outputs.arrays[where["boxes"]].reshape(-1, 4)
        classes = outputs.arrays[where["classes"]].ravel()
        scores = outputs.arrays[where["scores"]].ravel()
        if not len(boxes) == len(classes) == len(scores):
            raise InputError(
                f"{len(boxes)} boxes, {len(classes)} classes and {len(scores)} scores.", _HINT
            )
        if "count" in where:
            count = int(outputs.arrays[where["count"]].ravel()[0])
            boxes, classes, scores = boxes[:count], classes[:count], scores[:count]
        kept = scores != 0 if threshold is None else scores >= threshold  # 0: padding
        if not np.array_equal(classes[kept], np.rint(classes[kept])):
            raise InputError("The output of classes holds fractions: it is another one.", _HINT)
        return {
            "boxes": _yxyx(boxes[kept], order) / np.tile(size, 2),
            "classes": classes[kept].astype(int) + first,
            "scores": scores[kept],
        }

    return Decoder(run=run, compared=(where["boxes"], where["scores"]))


def _yxyx(boxes: NDArray[np.float64], order: str) -> NDArray[np.float64]:
    import numpy as np

    a, b, c, d = boxes.T
    sides = {
        "yxyx": (a, b, c, d),
        "xyxy": (b, a, d, c),
        "xywh": (b, a, b + d, a + c),
        "yxhw": (a, b, a + c, b + d),
        "cxcywh": (b - d / 2, a - c / 2, b + d / 2, a + c / 2),
    }[order]
    return np.stack(sides, axis=1)


def _input_size(facts: ModelFacts) -> tuple[float, float]:
    shape = facts.inputs[0].shape or ()
    if len(shape) != 4 or shape[1] < 1 or shape[2] < 1:
        raise InputError("unit=pixels needs a model whose input is an image of fixed size.")
    return float(shape[1]), float(shape[2])


def _where(settings: Settings, facts: ModelFacts) -> dict[str, int]:
    """The output of each part: what the user named, else what the model tells."""
    named = {part: settings.output(facts, part) for part in _PARTS}
    found = {part: at for part, at in named.items() if at is not None}
    if {"boxes", "classes", "scores"} <= set(found):
        return found
    guessed = _by_operation(facts) or _by_name(facts.outputs) or _by_shape(facts.outputs)
    if guessed is None:
        listed = ", ".join(f"{i}: {t.name} {t.shape}" for i, t in enumerate(facts.outputs))
        raise InputError(f"Which output holds what is not told by {listed}.", _HINT)
    return {**guessed, **found}


def _by_operation(facts: ModelFacts) -> dict[str, int] | None:
    places = {t.index: i for i, t in enumerate(facts.outputs)}
    for op in facts.operators():
        if op.op == "TFLite_Detection_PostProcess" and op.subgraph == 0:
            at = [places.get(t.index) for t in op.outputs]
            if len(at) == 4 and None not in at:
                return {p: i for p, i in zip(_PARTS, at, strict=True) if i is not None}
    return None


def _by_name(outputs: Sequence[Tensor]) -> dict[str, int] | None:
    found: dict[str, int] = {}
    for part, words in _WORDS.items():
        at = [i for i, t in enumerate(outputs) if any(w in t.name.lower() for w in words)]
        if len(at) == 1:
            found[part] = at[0]
    complete = {"boxes", "classes", "scores"} <= set(found)
    return found if complete and len(set(found.values())) == len(found) else None


def _by_shape(outputs: Sequence[Tensor]) -> dict[str, int] | None:
    """Only the usual order: (k, 4), (k), (k) and, where there is one, a single number."""
    shapes = [tuple((t.shape or ())[1:]) for t in outputs]
    usual = len(shapes) in (3, 4) and len(shapes[0]) == 2 and shapes[0][1] == 4
    usual = usual and shapes[1] == shapes[2] == shapes[0][:1]
    if usual and len(shapes) == 4:
        usual = shapes[3] in ((), (1,))
    return dict(zip(_PARTS, range(len(shapes)), strict=False)) if usual else None


def checked_boxes(answer: Any, name: str) -> dict[str, Any]:
    """A user's detections: boxes (k, 4) as top, left, bottom, right in fractions, classes, scores.

    Raises InputError for another shape, ModelError for NaN.
    """
    import numpy as np

    keys = ("boxes", "classes", "scores")
    if not isinstance(answer, Mapping) or any(key not in answer for key in keys):
        raise InputError(f"{name} must return a mapping with {', '.join(keys)}.")
    try:
        made = {key: np.asarray(answer[key], dtype=np.float64) for key in keys}
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} returned boxes that are no numbers.") from error
    made["boxes"] = made["boxes"].reshape(-1, 4) if made["boxes"].size % 4 == 0 else made["boxes"]
    count = len(made["boxes"])
    if made["boxes"].ndim != 2 or any(made[k].shape != (count,) for k in keys[1:]):
        raise InputError(f"{name}: boxes must be (k, 4), classes (k,) and scores (k,).")
    if any(np.isnan(made[k]).any() for k in keys):
        raise ModelError(f"{name} returned NaN.")
    return {**made, "classes": made["classes"].astype(int)}
