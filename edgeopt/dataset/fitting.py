"""How samples are brought to the shapes and types of a model's inputs: decided once, then applied.

Sizes of images follow the model by themselves, and that is recorded; values are never rescaled
unless the user said so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from edgeopt.dataset.preprocess import Preprocess
from edgeopt.dataset.range_check import unscaled_note
from edgeopt.dataset.sources import Images
from edgeopt.errors import InputError
from edgeopt.facts import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeopt.dataset.dataset import Dataset

__all__ = ["Fit", "finished", "fit_inputs", "placed_together"]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What one model input asks of its arrays. `shape` has no batch axis; -1 is any length.

    `size` (height, width) and `color` are chosen for images when the user chose none.
    """

    input: str
    dtype: str
    shape: tuple[int, ...] | None
    size: tuple[int, int] | None = None
    color: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def fit_inputs(
    data: Dataset, inputs: tuple[Tensor, ...]
) -> tuple[tuple[int, ...], tuple[Fit, ...], tuple[str, ...]]:
    """The order of arrays, a Fit for each input, and notes. Raises InputError when they differ."""
    raw = data.source.take(0)
    order = _order(data, inputs, len(raw))
    notes: list[str] = []
    images = isinstance(data.source, Images)
    fits = []
    for tensor, index in zip(inputs, order, strict=True):
        fit = _fit(tensor, data.preprocess, images, notes)
        sample = finished(raw[index], data.preprocess, fit, f"sample 0 of {data.spec}")
        _warn_about_values(raw[index], sample, tensor, data, notes)
        fits.append(fit)
    return order, tuple(fits), tuple(notes)


def plain_name(name: str) -> str:
    """A tensor's name as its author wrote it: `serving_default_image:0` is `image`."""
    return name.removeprefix("serving_default_").split(":")[0]


def _order(data: Dataset, inputs: tuple[Tensor, ...], arrays: int) -> tuple[int, ...]:
    if arrays != len(inputs):
        listed = f" ({', '.join(data.source.names)})" if data.source.names else ""
        raise InputError(
            f"{data.spec} has {arrays} array{'s' * (arrays > 1)} a sample{listed}, the model takes "
            f"{len(inputs)}: {', '.join(plain_name(t.name) for t in inputs)}.",
            "Store an array per input in the .npz, under the input's name, or yield one per input."
            if len(inputs) > 1
            else "Name the array (NAME.npz:X), or yield one array a sample.",
        )
    names = data.source.names or data.names
    if len(names) != arrays:
        return tuple(range(arrays))
    known = {plain_name(name): i for i, name in enumerate(names)}
    wanted = [plain_name(t.name) for t in inputs]
    missing = [name for name in wanted if name not in known]
    if missing and arrays > 1:
        raise InputError(
            f"{data.spec} has no array for the input {missing[0]!r}.",
            f"It has {', '.join(known)}; the model takes {', '.join(wanted)}.",
        )
    return tuple(known.get(name, 0) for name in wanted)


def _fit(tensor: Tensor, steps: Preprocess, images: bool, notes: list[str]) -> Fit:
    shape = None if tensor.shape is None or not tensor.shape else tuple(tensor.shape[1:])
    name = plain_name(tensor.name)
    if not images or shape is None:
        return Fit(input=name, dtype=tensor.dtype, shape=shape)
    if len(shape) != 3:
        raise InputError(
            f"The input {name} has shape {_text(shape)}; an image has height, width and channels.",
            "Give this model's data as .npz, .npy or MODULE:FUNCTION.",
        )
    height, width, channels = shape if steps.layout == "nhwc" else (*shape[1:], shape[0])
    if channels not in (1, 3, -1):
        other = "layout=nchw" if steps.layout == "nhwc" else "layout=nhwc"
        swapped = shape[0] in (1, 3) if steps.layout == "nhwc" else shape[-1] in (1, 3)
        hint = f"Add --preprocess {other}." if swapped else "Give this model's data as .npz."
        raise InputError(f"The input {name} has shape {_text(shape)}: {channels} channels.", hint)
    color = None
    if steps.color is None:
        color = "gray" if channels == 1 else "rgb"
        if color == "gray":
            notes.append(f"Images are turned gray: the input {name} has one channel.")
    size = None
    if steps.resize is None and height > 0 and width > 0:
        size = (height, width)
        notes.append(f"Images are resized to {height}x{width}, the size of the input {name}.")
    return Fit(input=name, dtype=tensor.dtype, shape=shape, size=size, color=color)


def finished(raw: Any, steps: Preprocess, fit: Fit | None, where: str) -> NDArray[Any]:
    """One raw array or PIL image as model input. Raises InputError when it does not fit."""
    import numpy as np

    color, size = (fit.color, fit.size) if fit else (None, None)
    array = _pixels(raw, steps, size, color) if _touches_pixels(raw, steps) else np.asarray(raw)
    if not _finite(array):
        raise InputError(
            f"{where[0].upper()}{where[1:]} holds NaN or infinity.", "Remove or repair that sample."
        )
    with np.errstate(over="ignore"):  # told below, with the sample's number
        array = steps.arrange(steps.values(array))
        if fit is not None:
            array = _typed(_shaped(array, fit, where), fit, where)
    if not _finite(array):
        raise InputError(
            f"{where[0].upper()}{where[1:]} has values that do not fit {array.dtype}.",
            "Scale the data (--preprocess), or store it in the model's type.",
        )
    return array


def placed_together(array: NDArray[Any], steps: Preprocess, fit: Fit) -> NDArray[Any] | None:
    """The end of `finished` for many samples along the first axis, whose values are scaled and
    checked: layout, shape and type. None where a sample does not fit, or it cannot be told."""
    import numpy as np

    if fit.shape is None or min(fit.shape, default=1) < 1:
        return None
    if steps.layout == "nchw" and array.ndim == 4:
        array = array.transpose(0, 3, 1, 2)
    have, want = array.shape[1:], fit.shape
    if have not in (want, (1, *want)) and (*have, 1) != want:
        return None
    try:
        with np.errstate(over="ignore"):
            found = _typed(array.reshape(len(array), *want), fit, "a sample")
    except InputError:
        return None
    return found if found.dtype == array.dtype or _finite(found) else None


def _finite(array: NDArray[Any]) -> bool:
    import numpy as np

    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _touches_pixels(raw: Any, steps: Preprocess) -> bool:
    return hasattr(raw, "convert") or any((steps.resize, steps.crop, steps.color))


def _pixels(
    raw: Any, steps: Preprocess, size: tuple[int, int] | None, color: str | None
) -> NDArray[Any]:
    """Color, crop and resize (bilinear with antialiasing, as PIL does it): HWC."""
    import numpy as np
    from PIL import Image

    if not hasattr(raw, "convert"):
        array = np.asarray(raw)
        array = array[0] if array.ndim == 4 and array.shape[0] == 1 else array
        flat = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
        if (
            array.dtype != np.uint8
            or flat.ndim not in (2, 3)
            or (flat.ndim == 3 and flat.shape[-1] != 3)
        ):
            raise InputError(
                f"resize, crop and color need 8-bit images; this data is {array.dtype} of shape "
                f"{_text(array.shape)}.",
                "Leave those steps out, or store the images as uint8.",
            )
        raw = Image.fromarray(np.ascontiguousarray(flat))
        color = color or ("gray" if flat.ndim == 2 else "rgb")
    wanted = steps.color or color or "rgb"
    mode = "L" if wanted == "gray" else "RGB"
    image = raw if raw.mode == mode else raw.convert(mode)
    if steps.crop is not None and steps.crop < 1:
        image = image.crop(_centre(image.width, image.height, steps.crop))
    height, width = steps.resize or size or (image.height, image.width)
    if (image.height, image.width) != (height, width):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    if wanted == "gray":
        return pixels[..., np.newaxis]
    return pixels[..., ::-1] if wanted == "bgr" else pixels


def _text(shape: tuple[int, ...]) -> str:
    return "x".join("?" if side < 0 else str(side) for side in shape) or "scalar"


def _centre(width: int, height: int, fraction: float) -> tuple[int, int, int, int]:
    w, h = max(1, round(width * fraction)), max(1, round(height * fraction))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _shaped(array: NDArray[Any], fit: Fit, where: str) -> NDArray[Any]:
    """Axes of length 1 may be missing or extra (a batch axis, gray's channel); nothing else."""
    import numpy as np

    if fit.shape is None or _agrees(array.shape, fit.shape):
        return array
    if array.ndim and array.shape[0] == 1 and _agrees(array.shape[1:], fit.shape):
        return np.asarray(array[0])
    if fit.shape and fit.shape[-1] == 1 and _agrees((*array.shape, 1), fit.shape):
        return np.expand_dims(array, -1)
    hint = "Store the samples in the model's shape, or name other arrays."
    if len(fit.shape) == 3 and array.ndim in (2, 3) and fit.shape[0] > 0 < fit.shape[1]:
        hint = _image_hint(array.shape, fit.shape)
    raise InputError(
        f"{where[0].upper()}{where[1:]} has shape {_text(array.shape)}; the model's input "
        f"{fit.input} takes {_text(fit.shape)}.",
        hint,
    )


def _image_hint(have: tuple[int, ...], want: tuple[int, ...]) -> str:
    """What brings an image of one shape to another: order of axes, channels or size."""
    if len(have) == 3 and _agrees((have[1], have[2], have[0]), want):
        return "Store the axes as height, width, channels (numpy.moveaxis)."
    step = f"resize={want[0] if want[0] == want[1] else f'{want[0]}x{want[1]}'}"
    if have[:2] == want[:2]:
        step = f"color={'gray' if want[2] == 1 else 'rgb'}"
    return f"For images add --preprocess {step}."


def _agrees(have: tuple[int, ...], want: tuple[int, ...]) -> bool:
    return len(have) == len(want) and all(w in (-1, h) for h, w in zip(have, want, strict=True))


def _typed(array: NDArray[Any], fit: Fit, where: str) -> NDArray[Any]:
    import numpy as np

    if fit.dtype in ("float32", "float16", "float64"):
        return array.astype(fit.dtype, copy=False)
    if array.dtype == np.dtype(fit.dtype) or fit.dtype in ("int8", "uint8", "int16"):
        # Real values of a quantized input: whoever feeds the model applies its scale.
        return array if array.dtype.kind != "f" else array.astype(np.float32, copy=False)
    if array.dtype.kind == "f":
        raise InputError(
            f"{where[0].upper()}{where[1:]} holds {array.dtype} values; the input "
            f"{fit.input} takes {fit.dtype}.",
            "Store whole numbers, without scaling.",
        )
    limits = np.iinfo(fit.dtype) if fit.dtype != "bool" else None
    if limits and array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
        raise InputError(f"{where[0].upper()}{where[1:]} has values that do not fit {fit.dtype}.")
    return array.astype(fit.dtype)


def _warn_about_values(
    raw: Any, sample: NDArray[Any], tensor: Tensor, data: Dataset, notes: list[str]
) -> None:
    """Say loudly when pixels 0..255 go into a float input as they are, or when values are beyond
    what a quantized input represents, or within two of its steps."""
    name, quantization = plain_name(tensor.name), tensor.quantization
    stored = "uint8" if hasattr(raw, "convert") else str(getattr(raw, "dtype", ""))
    if tensor.dtype.startswith("float"):
        if stored == "uint8" and not data.preprocess.scales_values:
            notes.append(unscaled_note(name))
        return
    if not quantization or not quantization.scales or str(sample.dtype) == tensor.dtype:
        return
    step, most = quantization.scales[0], {"int8": 127, "uint8": 255, "int16": 32767}
    top = step * (most.get(tensor.dtype, 0) - quantization.zero_points[0])
    largest = abs(float(sample.max(initial=0)))
    if largest > 2 * top > 0:
        notes.append(
            f"Values reach {sample.max():.4g}, but {name} represents at most {top:.3g}: they will "
            "be clipped. Add --preprocess with the scaling that the model was trained on "
            "(scale=1/255 where it wants 0 to 1)."
        )
    elif 0 < largest <= 2 * step < top / 16:
        notes.append(
            f"Values reach {sample.max():.4g}, only a few steps of {name}, which represents up to "
            f"{top:.3g}: the model seems to want larger ones. Leave scaling out of --preprocess, "
            "or add scale=255."
        )
