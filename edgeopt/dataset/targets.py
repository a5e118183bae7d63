"""Targets: what is right for each sample, in the kind that a metric asks for.

Kinds: "classes" (one number), "texts", "values" (numbers of any shape), "boxes" and "answers".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Answer", "Boxes", "Targets", "as_target"]

_WANTED = {
    "classes": ("class numbers", "one integer a sample, or one-hot rows"),
    "texts": ("texts", "one string a sample"),
    "values": ("numbers", "one number or array of numbers a sample"),
    "boxes": ("boxes", "arrays boxes (N, K, 4) and classes (N, K), or a COCO file with --labels"),
    "answers": ("answers", "the accepted answers of each sample, in a JSON file with --labels"),
}


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """The objects of one image: `boxes` (k, 4) as top, left, bottom, right in fractions of the
    image, `classes` (k,), `crowd` (k,) true where a box stands for many."""

    boxes: NDArray[np.float64] = field(repr=False)
    classes: NDArray[np.int64]
    crowd: NDArray[np.bool_] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Accepted answers to one question (none: it has no answer), and where they come from:
    `offsets` are (start, end) characters of each token in `context`, None for other tokens."""

    texts: tuple[str, ...]
    context: str | None = None
    offsets: tuple[tuple[int, int] | None, ...] = ()


class Targets:
    """One target a sample, in the order of the samples. `kind` is what they are by themselves.

    `of` gives them in the kind that is wanted and raises InputError where they are not that.
    """

    def __init__(self, raw: NDArray[Any] | Sequence[Any], what: str) -> None:
        self._raw, self._what = raw, what
        self.kind = _kind(raw)

    def __len__(self) -> int:
        return len(self._raw)

    def of(self, kind: str) -> Sequence[Any]:
        """Class numbers (int64), strings, float64 arrays, Boxes or Answers."""
        made = getattr(self, f"_{kind}")()
        if made is None:
            name, hint = _WANTED[kind]
            raise InputError(
                f"The labels {self._what} are {_WANTED[self.kind][0]}; this metric compares with "
                f"{name}.",
                f"Give {hint}, or another --metric.",
            )
        found: Sequence[Any] = made
        return found

    def _classes(self) -> Any:
        from edgeopt.dataset.sources import as_labels

        if self.kind not in ("classes", "values"):
            return None
        return as_labels(_array(self._raw), self._what)

    def _texts(self) -> Any:
        return _strings(self._raw) if self.kind == "texts" else None

    def _values(self) -> Any:
        import numpy as np

        if self.kind not in ("classes", "values"):
            return None
        return [np.asarray(value, dtype=np.float64) for value in self._raw]

    def _boxes(self) -> Any:
        return self._raw if self.kind == "boxes" else None

    def _answers(self) -> Any:
        if self.kind == "texts":
            return [Answer(texts=(text,)) for text in _strings(self._raw)]
        return self._raw if self.kind == "answers" else None


def _kind(raw: NDArray[Any] | Sequence[Any]) -> str:
    import numpy as np

    first = raw[0]
    for kind, name in ((Boxes, "boxes"), (Answer, "answers"), ((str, bytes), "texts")):
        if isinstance(first, kind):
            return name
    array = _array(raw)
    if array is None:
        return "values"
    if array.dtype.kind in "biu" and (array.ndim == 1 or array.shape[1:] == (1,)):
        return "classes"
    whole = array.dtype.kind in "biuf" and bool(np.array_equal(array, np.rint(array)))
    one_hot = array.ndim == 2 and array.shape[1] > 1 and whole
    one_hot = one_hot and bool(np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all())
    return "classes" if one_hot or (whole and array.ndim == 1) else "values"


def _array(raw: NDArray[Any] | Sequence[Any]) -> Any:
    """All targets as one array; None where their shapes differ."""
    import numpy as np

    if isinstance(raw, np.ndarray):
        return raw
    shapes = {np.shape(value) for value in raw}
    return np.asarray(raw) if len(shapes) == 1 else None


def _strings(raw: Any) -> list[str]:
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in raw]


def checked_numbers(array: NDArray[Any], what: str) -> NDArray[Any]:
    """Raises InputError for targets that are neither numbers nor text, and for NaN or infinity."""
    import numpy as np

    if array.dtype.kind not in "biufUS":
        raise InputError(
            f"The labels {what} are {array.dtype}.", "Give numbers or strings, no pickled objects."
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"The labels {what} hold NaN or infinity.", "Repair or remove those.")
    return array


def padded_boxes(boxes: Any, classes: Any, what: str) -> list[Boxes]:
    """From arrays of shape (N, K, 4), top, left, bottom, right as fractions, and (N, K); a class
    below 0 is no box."""
    import numpy as np

    numeric = boxes.dtype.kind in "iuf" and classes.dtype.kind in "iuf"
    if not numeric or boxes.ndim != 3 or boxes.shape[2] != 4 or classes.shape != boxes.shape[:2]:
        raise InputError(
            f"{what} has boxes of shape {boxes.shape} and classes of shape {classes.shape}.",
            "They must be numbers of shapes (N, K, 4) and (N, K); pad with class -1.",
        )
    return [
        _boxes_of(b, c, np.zeros(len(c), bool), what) for b, c in zip(boxes, classes, strict=True)
    ]


def _boxes_of(boxes: Any, classes: Any, crowd: Any, what: str) -> Boxes:
    import numpy as np

    try:
        sides = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        numbers = np.asarray(classes, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what}: boxes cannot be read: {error}.", "Give (k, 4) and (k,)."
        ) from error
    if len(sides) != len(numbers):
        raise InputError(f"{what}: {len(sides)} boxes and {len(numbers)} classes in a sample.")
    there = numbers >= 0
    sides, numbers = sides[there], numbers[there]
    if not np.isfinite(sides).all() or not np.array_equal(numbers, np.rint(numbers)):
        raise InputError(f"{what}: boxes must be finite, and classes whole numbers.")
    if (sides[:, 2:] < sides[:, :2]).any() or sides.max(initial=0) > 2 or sides.min(initial=0) < -1:
        raise InputError(
            f"{what}: boxes must be top, left, bottom, right as fractions of the image (0 to 1).",
            "Divide pixels by the height and width, or give a COCO file with --labels.",
        )
    return Boxes(boxes=sides, classes=numbers.astype(np.int64), crowd=np.asarray(crowd)[there])


def as_target(value: Any, what: str) -> Any:
    """One sample's target as users write it: a number, an array, a text, a list of accepted
    answers, {"answers", "context"?, "offsets"?} or {"boxes", "classes", "crowd"?}."""
    import numpy as np

    if isinstance(value, (str, Answer, Boxes)):
        return value
    if isinstance(value, Mapping):
        if "answers" in value:
            return _answer(value, what)
        if {"boxes", "classes"} <= set(value):
            crowd = value.get("crowd", np.zeros(np.size(value["classes"]), bool))
            return _boxes_of(value["boxes"], value["classes"], crowd, what)
        raise InputError(
            f"{what}: a label with the keys {', '.join(map(str, value))[:80]} is not known.",
            'Give {"answers": [...]} or {"boxes": ..., "classes": ...}.',
        )
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, str) for v in value):
        return Answer(texts=tuple(value))
    try:
        return checked_numbers(np.asarray(value), what)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: a label cannot be read: {error}.") from error


def _answer(value: Mapping[str, Any], what: str) -> Answer:
    texts, context = value["answers"], value.get("context")
    texts = [texts] if isinstance(texts, str) else texts
    pairs = value.get("offsets") or ()
    right = isinstance(texts, (list, tuple)) and all(isinstance(t, str) for t in texts)
    right = right and (context is None or isinstance(context, str))
    try:
        offsets = tuple(None if p is None else (int(p[0]), int(p[1])) for p in pairs)
    except (TypeError, ValueError, IndexError, KeyError):
        right = False
    if not right:
        raise InputError(
            f"{what}: a sample's answers cannot be read.",
            'Give {"answers": ["..."], "context": "...", "offsets": [[start, end] or null, ...]}.',
        )
    size = len(context or "")
    if any(o is not None and not 0 <= o[0] <= o[1] <= size for o in offsets):
        raise InputError(f"{what}: offsets lie outside of the context of {size} characters.")
    return Answer(texts=tuple(texts), context=context, offsets=offsets)
