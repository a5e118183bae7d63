"""Compares two runs of a model, sample by sample and output by output. Never passes in doubt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeopt.parity import Parity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Outputs = Sequence[Sequence[NDArray[np.generic]]]

__all__ = ["Parity", "compare"]


def compare(reference: Outputs, candidate: Outputs, *, exact: bool, tolerance: float) -> Parity:
    """The largest absolute difference over all samples and outputs, and whether it is allowed.

    `exact` allows none, whatever `tolerance` says, which is in units of the output. Different
    numbers of samples or outputs, shapes, types, or places of NaN and infinity fail with a reason;
    so does an empty comparison, a tolerance that is no number, and data that are no numbers.
    """
    allowed = 0.0 if exact else float(tolerance)
    samples = min(len(reference), len(candidate))
    worst: tuple[int, int] | None = None
    most = -1.0
    reason = _counts(reference, candidate)
    if not allowed >= 0 or math.isinf(allowed):
        reason = reason or f"the tolerance {tolerance} is not a finite number of 0 or more"
    for sample in range(samples):
        for output, (left, right) in enumerate(
            zip(reference[sample], candidate[sample], strict=False)
        ):
            difference, problem = _difference(left, right)
            if problem and not reason:
                reason = f"sample {sample}, output {output}: {problem}"
            if difference is not None and difference > most:
                most, worst = difference, (sample, output)
    if most > allowed and not reason:
        where = f"sample {worst[0]}, output {worst[1]}" if worst else ""
        reason = f"{where} differs by {most:.6g}, above {allowed:.6g}"
    return Parity(
        samples=samples,
        max_abs_diff=most if worst is not None else None,
        tolerance=allowed,
        passed=not reason and worst is not None,
        exact=exact,
        worst=worst,
        reason=reason or ("" if worst is not None else "the outputs hold no element"),
    )


def _counts(reference: Outputs, candidate: Outputs) -> str:
    if not reference or not candidate:
        return "there is no sample to compare"
    if len(reference) != len(candidate):
        return f"{len(reference)} samples against {len(candidate)}"
    for sample, (left, right) in enumerate(zip(reference, candidate, strict=True)):
        if len(left) != len(right) or not len(left):
            return f"sample {sample} has {len(left)} outputs against {len(right)}"
    return ""


def _difference(left: Any, right: Any) -> tuple[float | None, str]:
    """The largest difference of two arrays (None when there is none to give), and what is wrong."""
    import numpy as np

    left, right = np.asarray(left), np.asarray(right)
    if left.dtype != right.dtype:
        return None, f"{left.dtype} against {right.dtype}"
    if left.shape != right.shape:
        return None, f"shape {list(left.shape)} against {list(right.shape)}"
    if left.size == 0:
        return None, "the output is empty"
    if left.dtype.kind in "OSUV":  # strings and the like: equal or not
        same = bool(np.array_equal(left, right))
        return (0.0, "") if same else (None, f"{left.dtype} values differ")
    if left.dtype.kind in "biu":
        return _of_integers(left, right), ""
    return _of_floats(left, right)


def _of_integers(left: NDArray[Any], right: NDArray[Any]) -> float:
    """Larger minus smaller, in 64 bits without a sign: no subtraction can overflow there."""
    import numpy as np

    wide = np.uint64 if left.dtype.kind == "u" else np.int64
    high = np.maximum(left, right).astype(wide).astype(np.uint64)
    low = np.minimum(left, right).astype(wide).astype(np.uint64)
    with np.errstate(over="ignore"):  # two's complement makes the wrapped difference the true one
        return float((high - low).max())


def _of_floats(left: NDArray[Any], right: NDArray[Any]) -> tuple[float | None, str]:
    import numpy as np

    wide = np.complex128 if left.dtype.kind == "c" else np.float64
    left, right = left.astype(wide), right.astype(wide)
    finite = np.isfinite(left)
    if not np.array_equal(np.isnan(left), np.isnan(right)):
        return None, "NaN in different places"
    if not np.array_equal(finite, np.isfinite(right)):
        return None, "infinity in different places"
    infinite = np.isinf(left)
    if not np.array_equal(left[infinite], right[infinite]):
        return None, "infinity of different signs"
    if not finite.any():
        return None, "no finite value to compare"
    with np.errstate(over="ignore"):
        difference = float(np.abs(left[finite] - right[finite]).max())
    return (difference, "") if math.isfinite(difference) else (None, "the difference overflows")
