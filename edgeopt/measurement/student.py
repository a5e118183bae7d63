"""Student's t distribution, without scipy."""

from __future__ import annotations

import math
from functools import lru_cache

__all__ = ["t_quantile"]

_TINY = 1e-300


@lru_cache(maxsize=1024)  # few differ: an interval is asked for after every process
def t_quantile(probability: float, df: float) -> float:
    """The value below which a t variable with `df` (above 0, whole or not) falls so often.

    Bisection of the distribution function, to 12 digits. Raises ValueError outside (0, 1).
    """
    if not 0 < probability < 1 or not df > 0:
        raise ValueError(f"No quantile {probability} of Student's t with {df} degrees of freedom.")
    if probability < 0.5:
        return -t_quantile(1 - probability, df)
    low, high = 0.0, 1.0
    while _below(high, df) < probability:
        low, high = high, high * 2
    for _ in range(200):
        middle = (low + high) / 2
        if high - low <= 1e-12 * high:
            break
        low, high = (middle, high) if _below(middle, df) < probability else (low, middle)
    return (low + high) / 2


def _below(value: float, df: float) -> float:
    """P(T <= value) for value >= 0 (Abramowitz and Stegun 26.7.1)."""
    return 1 - _beta(df / (df + value * value), df / 2, 0.5) / 2


def _beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b) by its continued fraction (26.5.8)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly its mirror is quick
        return 1 - _beta(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    log_front += a * math.log(x) + b * math.log1p(-x) - math.log(a)
    return math.exp(log_front) / _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """1 + d1/(1 + d2/(1 + ...)) from the front, by Lentz's method (as modified by Thompson)."""
    value, c, d = 1.0, 1.0, 0.0
    for step in range(1, 500):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (1 + term * d or _TINY)
        c = 1 + term / c or _TINY
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value
