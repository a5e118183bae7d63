"""Numbers: errors of regression, and how far outputs are from those of the float model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeopt.errors import InputError, ModelError
from edgeopt.verify.metrics.metric import Score, mean_error, mean_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["agreement", "mae", "mse", "observe_pair", "observe_values", "rmse", "sqnr"]


def observe_values(values: NDArray[np.float64], target: NDArray[np.float64]) -> list[float]:
    """[mean absolute error, mean squared error] of one sample, in the unit of the target."""
    import numpy as np

    if values.size != target.size:
        raise InputError(
            f"A target has {target.size} values, the model answers with {values.size}.",
            "Give the targets as the model answers, or name its output: --decode values,output=N.",
        )
    if not np.isfinite(values).all():
        raise ModelError("The model answers with infinity.", "Its weights or its input are wrong.")
    difference = values.ravel() - target.ravel()
    return [float(np.abs(difference).mean()), float(np.square(difference).mean())]


def mae(seen: Sequence[Sequence[float]]) -> Score:
    """Mean absolute error."""
    return _mean(seen, 0)


def mse(seen: Sequence[Sequence[float]]) -> Score:
    """Mean squared error."""
    return _mean(seen, 1)


def rmse(seen: Sequence[Sequence[float]]) -> Score:
    """Root of the mean squared error; its standard error by the delta method, s / (2 rmse)."""
    found = _mean(seen, 1)
    root = math.sqrt(found.value)
    spread = found.standard_error
    return Score(
        value=root, standard_error=None if spread is None or root == 0 else spread / (2 * root)
    )


def _mean(seen: Sequence[Sequence[float]], column: int) -> Score:
    values = [row[column] for row in seen]
    more = {"rmse": math.sqrt(mean_of([row[1] for row in seen]))} if column == 0 else {}
    return Score(value=mean_of(values), standard_error=mean_error(values), more=more)


def observe_pair(own: NDArray[np.float64], base: NDArray[np.float64]) -> list[float]:
    """[share of positions with the same best class, signal, noise, and both of them centred].

    Signal is the sum of squares of the float model's output, noise that of the difference; centred
    ones leave out each output's own mean, which softmax ignores too. The classes are the last axis.
    """
    import numpy as np

    if own.shape != base.shape:
        raise ModelError(
            f"The model answers with {own.size} values, its float model with {base.size}.",
            "Give the float model that it was made from, or leave --baseline out.",
        )
    same = 1.0
    if base.size > 1:
        same = float((own.argmax(axis=-1) == base.argmax(axis=-1)).mean())
    noise = own - base
    return [
        same,
        float(np.square(base).sum()),
        float(np.square(noise).sum()),
        float(np.square(base - base.mean()).sum()),
        float(np.square(noise - noise.mean()).sum()),
        float(base.shape[-1] if base.ndim else 1),
    ]


def agreement(pairs: Sequence[Sequence[float]]) -> Score:
    """The share of best classes that are the float model's; 1 is float itself."""
    values = [row[0] for row in pairs]
    value = mean_of(values)
    error = mean_error(values)
    if all(v in (0.0, 1.0) for v in values):
        error = math.sqrt(value * (1 - value) / len(values))  # of a share: binomial
    return Score(value=value, standard_error=error)


def sqnr(pairs: Sequence[Sequence[float]], *, centred: bool = False) -> Score | None:
    """Signal to quantization noise, 10 log10(sum of signal / sum of noise) in dB; None without
    noise or signal. The standard error is the ratio's (see text._ratio_error), in dB."""
    at = 3 if centred else 1
    signal, noise = [row[at] for row in pairs], [row[at + 1] for row in pairs]
    above, below = math.fsum(signal), math.fsum(noise)
    if not (0 < above < math.inf and 0 < below < math.inf):
        return None
    count, ratio = len(pairs), below / above
    error = None
    if count > 1:
        squares = math.fsum((n - ratio * s) ** 2 for s, n in zip(signal, noise, strict=True))
        spread = math.sqrt(squares / (count * (count - 1))) / (above / count)
        error = 10 / math.log(10) * spread / ratio
    return Score(value=10 * math.log10(above / below), standard_error=error)
