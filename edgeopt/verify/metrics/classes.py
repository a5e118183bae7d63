"""Classification: top-1 and top-5 of class scores, and the area under the ROC curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError
from edgeopt.verify.metrics.metric import Score, mean_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["auc", "observe_auc", "observe_classes", "top1", "top5"]

_SHIFTED = 0.1  # so much more often right one class further: the numbering, not the model


def observe_classes(scores: NDArray[np.float64], label: int) -> list[int]:
    """[rank of the label (0 is first; ties go to the lower class), classes, winner - label]."""
    count = len(scores)
    if not 0 <= label < count:
        raise InputError(
            f"Label {label} is not one of the model's {count} classes.",
            "Check the data's labels and which output comes first; --decode scores,first=N says "
            "which label the model's first class has (first=-1: it is a background class).",
        )
    import numpy as np

    best = int(scores.argmax())
    if best == label:
        return [0, count, 0]
    own = scores[label]
    rank = int(np.count_nonzero(scores > own)) + int(np.count_nonzero(scores[:label] == own))
    return [rank, count, best - int(label)]


def top1(seen: Sequence[Sequence[int]]) -> Score:
    """The share of samples whose label has the highest score."""
    return _top(seen, 1)


def top5(seen: Sequence[Sequence[int]]) -> Score:
    """The share of samples whose label is among the five highest scores."""
    return _top(seen, 5)


def _top(seen: Sequence[Sequence[int]], depth: int) -> Score:
    classes = max(count for _, count, _ in seen)
    shares = {d: mean_of([rank < d for rank, _, _ in seen]) for d in (1, 5)}
    value = shares[depth]
    other = 6 - depth
    further = shares[other] if other == 1 or classes > 5 else None
    return Score(
        value=value,
        standard_error=math.sqrt(value * (1 - value) / len(seen)),  # of a share: binomial
        more={f"top{other}": further},
        notes=_shifted(seen, shares[1]),
    )


def _shifted(seen: Sequence[Sequence[int]], right: float) -> tuple[str, ...]:
    for step in (1, -1):
        share = mean_of([off == step for _, _, off in seen])
        if len(seen) >= 20 and share > right + _SHIFTED and share > 2 * right:
            return (
                f"The best class is {'one above' if step > 0 else 'one below'} the label in "
                f"{share:.0%} of the samples, the label itself in {right:.0%}: is the numbering "
                f"shifted? --decode scores,first={-step} counts classes so.",
            )
    return ()


def observe_auc(scores: Any, label: int) -> list[float]:
    """[label, a score or the scores of all classes]."""
    import numpy as np

    return [int(label), *(float(v) for v in np.atleast_1d(scores))]


def auc(seen: Sequence[Sequence[float]]) -> Score:
    """Area under the ROC curve: of one score (or of class 1 of two) against labels 0 and 1; of
    several classes the unweighted mean of one against the rest, over the classes that occur.

    By sklearn.metrics.roc_auc_score. The standard error is DeLong's (1988), from each sample's
    placement value, averaged over the classes. Raises InputError when only one class occurs.
    """
    import numpy as np
    from sklearn.metrics import roc_auc_score

    labels = np.asarray([int(row[0]) for row in seen])
    scores = np.nan_to_num(np.asarray([row[1:] for row in seen], dtype=np.float64))  # finite
    several = scores.shape[1] > 2
    if not several and not np.isin(labels, (0, 1)).all():
        raise InputError(
            f"One score ranks two classes, but the labels go up to {labels.max()}.",
            "Give labels of 0 and 1 (1: what the score is high for).",
        )
    if several and (labels.min() < 0 or labels.max() >= scores.shape[1]):
        raise InputError(
            f"Labels of {labels.min()} to {labels.max()} for {scores.shape[1]} classes."
        )
    present = [c for c in range(scores.shape[1]) if (labels == c).any()] if several else [1]
    if len(np.unique(labels)) < 2:
        raise InputError(
            "All samples have the same label: a ROC curve needs both classes.",
            "Give data with more than one class.",
        )
    areas, influence = [], np.zeros(len(labels))
    for number in present:
        own = labels == number
        column = scores[:, number] if several else scores[:, -1]
        areas.append(float(roc_auc_score(own, column)))
        influence += _influence(own, column, areas[-1]) / len(present)
    notes: tuple[str, ...] = ()
    if several and len(present) < scores.shape[1]:
        notes = (f"AUC is over the {len(present)} of {scores.shape[1]} classes that occur.",)
    error = math.sqrt(math.fsum(influence**2)) / len(labels)
    return Score(value=mean_of(areas), standard_error=error, notes=notes)


def _influence(
    own: NDArray[np.bool_], scores: NDArray[np.float64], area: float
) -> NDArray[np.float64]:
    """How far each sample moves the area: its placement among the other kind, over its share."""
    import numpy as np

    result = np.zeros(len(scores))
    for mine, flip in ((own, False), (~own, True)):
        others = np.sort(scores[~mine])
        below = np.searchsorted(others, scores[mine], "left")
        upto = np.searchsorted(others, scores[mine], "right")
        placed = (below + upto) / 2 / len(others)
        placed = 1 - placed if flip else placed
        result[mine] = (placed - area) * len(scores) / mine.sum()
    return result
