"""Preprocess: how stored values become model input, said by the user and repeated in the report.

The steps run in one order: color, crop, resize, then value = (x - mean) * scale, or
(x - mean) / std, then layout. Nothing about values is ever guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Preprocess"]

_COLORS = ("rgb", "bgr", "gray")
_LAYOUTS = ("nhwc", "nchw")
_LARGEST_PIXELS = 16384
_EXAMPLE = "Example: --preprocess resize=224,mean=127.5,scale=1/127.5"


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """`resize` is (height, width) in pixels; `crop` the centre fraction kept of both sides.

    `mean` and `std` hold one value, or one for each channel, in the units of the stored data
    (0..255 for images). A None was not asked for. Raises InputError when values make no sense.
    """

    resize: tuple[int, int] | None = None
    crop: float | None = None
    mean: tuple[float, ...] | None = None
    scale: float | None = None
    std: tuple[float, ...] | None = None
    color: str | None = None
    layout: str = "nhwc"

    def __post_init__(self) -> None:
        if self.resize and not all(0 < side <= _LARGEST_PIXELS for side in self.resize):
            raise _bad("resize", self.resize, f"1 to {_LARGEST_PIXELS} pixels a side")
        if self.crop is not None and not 0 < self.crop <= 1:
            raise _bad("crop", self.crop, "a fraction above 0 and at most 1")
        if self.scale is not None and (self.scale == 0 or not math.isfinite(self.scale)):
            raise _bad("scale", self.scale, "a finite number that is not 0")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is None:
                continue
            if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
                raise _bad(name, values, "one number, or three as in 123.7/116.8/103.9")
        if self.std is not None and 0 in self.std:
            raise _bad("std", self.std, "numbers that are not 0")
        if self.std is not None and self.scale is not None:
            raise InputError("--preprocess has both scale and std: give one of them.", _EXAMPLE)
        if self.color is not None and self.color not in _COLORS:
            raise _bad("color", self.color, " or ".join(_COLORS))
        if self.layout not in _LAYOUTS:
            raise _bad("layout", self.layout, " or ".join(_LAYOUTS))

    @classmethod
    def parse(cls, text: str) -> Preprocess:
        """From `resize=224,mean=127,scale=1/127.5`: NAME=VALUE pairs joined by commas."""
        values: dict[str, Any] = {}
        for pair in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = (piece.strip() for piece in pair.partition("="))
            if not equals or not value:
                raise InputError(f"--preprocess has {pair!r}; it takes NAME=VALUE pairs.", _EXAMPLE)
            if name in values:
                raise InputError(f"--preprocess gives {name} twice.", _EXAMPLE)
            values[name] = value
        return cls.from_mapping(values)

    @classmethod
    def from_mapping(cls, table: Mapping[str, Any]) -> Preprocess:
        """From the TOML table [preprocess]: numbers, strings as in `parse`, or lists."""
        known = [f.name for f in fields(cls)]
        for name in table:
            if name not in known:
                near = get_close_matches(name, known, 1)
                guess = f" Did you mean {near[0]}?" if near else ""
                raise InputError(
                    f"There is no preprocessing step named {name!r}.{guess}",
                    f"Known: {', '.join(known)}.",
                )
        return cls(**{name: _READERS[name](name, value) for name, value in table.items()})

    @property
    def scales_values(self) -> bool:
        """True when the user said something about values, even scale=1."""
        return any(step is not None for step in (self.mean, self.scale, self.std))

    @property
    def empty(self) -> bool:
        return self == Preprocess()

    def values(self, array: NDArray[Any]) -> NDArray[Any]:
        """`array` (channels last) with the value formula applied: float32, or untouched."""
        import numpy as np

        if not self.scales_values:
            return array
        result = array.astype(np.float32)  # a copy of our own
        if self.mean is not None:
            result -= self._channels(self.mean, array)
        if self.std is not None:
            result /= self._channels(self.std, array)
        if self.scale is not None:
            result *= np.float32(self.scale)
        return result

    def _channels(self, values: tuple[float, ...], array: NDArray[Any]) -> Any:
        import numpy as np

        if len(values) == 1:
            return np.float32(values[0])
        if len(values) > 1 and (array.ndim == 0 or array.shape[-1] != len(values)):
            raise InputError(
                f"--preprocess gives {len(values)} values a channel, but a sample has shape "
                f"{array.shape}.",
                "Give one value for all channels.",
            )
        return np.asarray(values, dtype=np.float32)

    def arrange(self, array: NDArray[Any]) -> NDArray[Any]:
        """Height, width, channels in the order the model takes them."""
        nchw = self.layout == "nchw" and array.ndim == 3
        return array.transpose(2, 0, 1) if nchw else array

    def to_json(self) -> dict[str, Any]:
        """What was asked for, plain JSON values only."""
        given = {k: v for k, v in asdict(self).items() if v is not None}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}


def _bad(name: str, value: Any, wanted: str) -> InputError:
    return InputError(f"preprocess {name}={value!r} makes no sense: it takes {wanted}.", _EXAMPLE)


def _number(name: str, value: Any) -> float:
    """A number or a fraction written as text."""
    try:
        if isinstance(value, str) and "/" in value:
            above, below = value.split("/")
            return float(above) / float(below)
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise _bad(name, value, "a number, or a fraction such as 1/255") from error


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    if isinstance(value, str):
        return tuple(_number(name, piece.strip() or "?") for piece in value.split("/"))
    if isinstance(value, Sequence):
        return tuple(_number(name, piece) for piece in value)
    return (_number(name, value),)


def _size(name: str, value: Any) -> tuple[int, int]:
    pieces: Any = value.lower().split("x") if isinstance(value, str) else value
    if isinstance(pieces, int) and not isinstance(pieces, bool):
        return pieces, pieces
    try:
        if len(pieces) in (1, 2) and all(float(side) == int(side) for side in pieces):
            return int(pieces[0]), int(pieces[-1])
    except (TypeError, ValueError) as error:
        raise _bad(name, value, "a side in pixels (224), or HEIGHTxWIDTH (224x320)") from error
    raise _bad(name, value, "a side in pixels (224), or HEIGHTxWIDTH (224x320)")


def _word(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _bad(name, value, "a word")
    return value.lower()


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "resize": _size,
    "crop": _number,
    "mean": _numbers,
    "scale": _number,
    "std": _numbers,
    "color": _word,
    "layout": _word,
}
