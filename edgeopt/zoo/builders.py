"""Which architectures can be built, with their options and what their inputs hold. Light and pure.

The definitions themselves are in `images`, `speech`, `yolo` and `mobilebert`, which need Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from edgeopt.errors import InputError

__all__ = ["BUILDERS", "Builder", "Input", "builder_named"]

Options = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input without its batch: real values between `low` and `high`, or whole numbers from
    `low` up to and without `high`."""

    name: str
    shape: tuple[int, ...]
    low: float
    high: float
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class Builder:
    """An architecture. `make` is MODULE:FUNCTION in this package, called with `options` as keyword
    arguments; `inputs` says what the model takes with those options; `source` is the paper or the
    library that defines it; `normalized` is True where batch normalization learns statistics,
    `plain` where every layer is Keras's own, so that a .keras file holds it."""

    name: str
    title: str
    source: str
    make: str
    metric: str
    options: Options
    inputs: Callable[[Options], tuple[Input, ...]] = field(repr=False)
    normalized: bool = False
    plain: bool = True

    def chosen(self, given: Mapping[str, Any]) -> dict[str, float]:
        """The defaults with the `given` options in their place. Raises InputError for one that the
        architecture does not have, or a value that is no positive number."""
        for name, value in given.items():
            if name not in self.options:
                near = get_close_matches(name, self.options, 1)
                guess = f" Did you mean {near[0]}?" if near else ""
                raise InputError(
                    f"{self.name} has no option {name!r}.{guess}",
                    f"It has: {', '.join(self.options)}.",
                )
            whole = isinstance(self.options[name], int)
            number = isinstance(value, (int,) if whole else (int, float))
            if isinstance(value, bool) or not number or not value > 0:
                kind = "a whole number" if whole else "a number"
                raise InputError(f"{self.name}: {name} must be {kind} above 0, not {value!r}.")
        return {**self.options, **given}


def _image(options: Options) -> tuple[Input, ...]:
    side = int(options["size"])
    return (Input(name="image", shape=(side, side, 3), low=-1.0, high=1.0),)


def _unit_image(options: Options) -> tuple[Input, ...]:
    side = int(options["size"])
    return (Input(name="image", shape=(side, side, 3), low=0.0, high=1.0),)


def _frames(options: Options) -> tuple[Input, ...]:
    shape = (int(options["frames"]), int(options["features"]))
    return (Input(name="features", shape=shape, low=-3.0, high=3.0),)


def _question(options: Options) -> tuple[Input, ...]:
    length, words = (int(options["length"]),), float(options["vocabulary"])
    return (
        Input(name="input_ids", shape=length, low=0, high=words, whole=True),
        Input(name="attention_mask", shape=length, low=0, high=2, whole=True),
        Input(name="token_type_ids", shape=length, low=0, high=2, whole=True),
    )


def _application(
    name: str, title: str, paper: str, function: str, size: int = 224, **more: float
) -> Builder:
    """A classifier of images that keras.applications defines as `function`."""
    return Builder(
        name=name,
        title=title,
        source=f"{paper}; keras.applications.{function}",
        make=f"images:{name}",
        normalized=True,
        metric="top1",
        options={"size": size, **more, "classes": 1000},
        inputs=_image,
    )


_HOWARD = "Howard et al. 2017, arXiv:1704.04861"
_SANDLER = "Sandler et al. 2018, arXiv:1801.04381"
_SZEGEDY = "Szegedy et al. 2015, arXiv:1512.00567"
_HE = "He et al. 2016, arXiv:1603.05027"
_ALL = (
    _application("mobilenet_v1", "MobileNet v1", _HOWARD, "MobileNet", alpha=1.0),
    _application("mobilenet_v2", "MobileNet v2", _SANDLER, "MobileNetV2", alpha=1.0),
    _application("inception_v3", "Inception v3", _SZEGEDY, "InceptionV3", size=299),
    _application("resnet_v2_101", "ResNet v2 101", _HE, "ResNet101V2", size=299),
    Builder(
        name="wav2letter",
        title="Wav2letter",
        source="Collobert et al. 2016, arXiv:1609.03193",
        make="speech:wav2letter",
        metric="wer",
        options={"frames": 296, "features": 39, "narrow": 250, "wide": 2000, "classes": 29},
        inputs=_frames,
    ),
    Builder(
        name="deepspeech",
        title="DeepSpeech",
        source="Hannun et al. 2014, arXiv:1412.5567; recurrent layer as in Mozilla DeepSpeech 0.5",
        make="speech:deepspeech",
        metric="cer",
        options={"frames": 16, "features": 494, "units": 2048, "classes": 29},
        inputs=_frames,
    ),
    Builder(
        name="yolo_v3",
        title="YOLOv3",
        source="Redmon and Farhadi 2018, arXiv:1804.02767",
        make="yolo:yolo_v3",
        normalized=True,
        metric="map50",
        options={"size": 416, "classes": 80, "width": 32},
        inputs=_unit_image,
    ),
    Builder(
        name="mobilebert",
        title="MobileBERT",
        source="Sun et al. 2020, arXiv:2004.02984",
        make="mobilebert:mobilebert",
        plain=False,
        metric="f1",
        options={"length": 384, "layers": 24, "vocabulary": 30522},
        inputs=_question,
    ),
)
BUILDERS: Mapping[str, Builder] = {builder.name: builder for builder in _ALL}


def builder_named(name: str) -> Builder:
    """Raises InputError with the nearest name for an unknown one."""
    if name not in BUILDERS:
        near = get_close_matches(name, BUILDERS, 1)
        guess = f" Did you mean {near[0]}?" if near else ""
        raise InputError(
            f"There is no builder named {name!r}.{guess}",
            f"Known: {', '.join(BUILDERS)}; or give the path of a model file.",
        )
    return BUILDERS[name]
