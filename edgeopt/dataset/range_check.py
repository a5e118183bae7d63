"""Does data have the range of values that a model was trained on? Decided from measured facts.

The first layer of a trained model answers data of the right range with values whose spread is near
1: batch normalization, folded into it, sees to that. The measured median over channels was 0.64
to 1.13 on image and audio models used rightly, 145 to 222 with values 255 (128) times too large
and 0.003 to 0.005 with values as much too small (tests/unit/test_dataset_ranges.py measures it
again). A model without normalization that was trained on 0 to 255 has a large spread too (40 to
190), and a small one says nothing there; so the outputs must agree. Logits are some units high at
the scale of training. At 1/255 of it the outputs no longer depend on the sample: that tells
values too small, and clears bytes that are right. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeopt.dataset.preprocess import Preprocess

__all__ = ["Variant", "advice", "suspicion", "unscaled_note", "variants"]

_FACTOR = 255.0
_SPREAD = 25.0  # a factor of 25 either way: between 1 and 145, and between 0.005 and 0.6
# What outputs tell of the sample, 0 to 1, measured: 0.24 to 0.9 at the right scale, 0.17 to 0.8
# at 255 times of it, up to 0.003 at 1/255 of it (0.0002 where nothing is normalized).
_NOTHING_TOLD = 0.001
_TOLD, _MUCH_TOLD = 0.05, 0.2
_AS_MUCH = 0.5


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Another reading of the data: value * factor + offset, and how --preprocess would say it."""

    factor: float
    offset: float = 0.0
    flag: str


def unscaled_note(name: str) -> str:
    """What is said of bytes that go into a float input, as long as nobody measured."""
    return (
        f"Pixels go into {name} unscaled, 0 to 255. If the model was trained on scaled input, "
        "the result is wrong: add --preprocess scale=1/255 or mean=127.5,scale=1/127.5 "
        "(scale=1 if 0 to 255 is right)."
    )


def suspicion(spread: float | None, told: float | None) -> str:
    """ "large" or "small" when the first layer's spread is out of all proportion, or when outputs
    do not depend on the sample; else ""."""
    if spread is None:
        return ""
    if spread > _SPREAD:
        return "large"
    nothing = told is not None and told < _NOTHING_TOLD
    return "small" if spread < 1 / _SPREAD or nothing else ""


def variants(kind: str, low: float, high: float, steps: Preprocess) -> tuple[Variant, ...]:
    """What to try instead of values from `low` to `high` that are suspected to be too `kind`."""
    if kind == "small":
        return (Variant(factor=_FACTOR, flag=_flag(_FACTOR, steps)),)
    found = [Variant(factor=1 / _FACTOR, flag=_flag(1 / _FACTOR, steps))]
    if low >= 0 and 2 < high <= 255 and not steps.scales_values:
        flag = "--preprocess mean=127.5,scale=1/127.5"
        found.append(Variant(factor=1 / 127.5, offset=-1.0, flag=flag))
    return tuple(found)


def _flag(factor: float, steps: Preprocess) -> str:
    """How to say it in --preprocess, which may scale already."""
    if steps.mean is None and steps.std is None:
        scale = (steps.scale or 1.0) * factor
        if abs(scale - 1) < 0.01:
            return "--preprocess scale=1 (the values as they are stored)"
        return f"--preprocess scale={'1/255' if abs(scale * _FACTOR - 1) < 0.01 else f'{scale:g}'}"
    return f"a scale {'1/255' if factor < 1 else '255'} times the present one in --preprocess"


def advice(
    data: str,
    kind: str,
    bounds: tuple[float, float],
    spread: float,
    told: float | None,
    tried: Mapping[Variant, float | None],
) -> str:
    """The warning, "" when the outputs do not confirm the suspicion.

    `told` is how much of what outputs could say about the sample they do say (mutual information
    of sample and class over its maximum, 0 to 1), None where outputs are no classes; `tried` has
    the same for each of `variants`, in their order.
    """
    known = {variant: value for variant, value in tried.items() if value is not None}
    if told is None or len(known) < len(tried):
        return ""
    plain, best = next(iter(known.values())), max(known, key=lambda variant: known[variant])
    if kind == "large" and plain < max(_TOLD, _AS_MUCH * told):
        return ""
    if kind == "small" and plain < max(_MUCH_TOLD, told / _AS_MUCH):
        return ""
    low, high = bounds
    want = [value * best.factor + best.offset for value in (low, high)]
    why = (
        f"its first layer answers with a spread of {spread:.2g}, where about 1 is usual"
        if kind == "large"
        else "its outputs hardly depend on the sample"
    )
    return (
        f"The values of {data} ({low:.4g} to {high:.4g}) look too {kind} for this model, which "
        f"seems to want {want[0]:.4g} to {want[1]:.4g}: {why}, and with those its outputs tell "
        f"the samples apart. If so, results are wrong: use {best.flag}."
    )
