"""What the benchmarks share: models with their data, runs of a .tflite, photographs cut to samples.

No benchmark by itself.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edgeopt.optimize.calibration import processes_for

__all__ = [
    "CASES",
    "SHARED",
    "Case",
    "all_outputs",
    "crops",
    "outputs",
    "photographs",
    "shared_case",
    "varied",
]

SHARED = Path(
    os.environ.get("EDGEOPT_SHARED", Path(__file__).resolve().parents[1].with_name("shared"))
)


@dataclass(frozen=True)
class Case:
    """A model and its data; as many calibration samples as there are, up to `samples`."""

    source: str
    calibration: str | None = None
    test: str | None = None
    preprocess: str = ""
    samples: int = 500


CASES = {
    "kws_dscnn": Case(
        "models/kws_dscnn/model.h5",
        "datasets/kws_mfcc/kws.npz:x_calib",
        "datasets/kws_mfcc/kws.npz:x_test,y_test",
    ),
    "fmnist_dscnn": Case(
        "models/fmnist_dscnn/model.h5",
        "datasets/fashion_mnist/calib500.npz",
        "datasets/fashion_mnist/test10k.npz",
        "scale=1/255",
    ),
    "ic_resnet8": Case("models/ic_resnet8/model.h5", "datasets/images_imagenet", samples=200),
    "efficientnet_lite0": Case(
        "models/efficientnet_lite0/model.keras",
        "datasets/images_imagenet",
        preprocess="mean=127,scale=1/128",
        samples=100,
    ),
}


def shared_case(case: Case) -> Case:
    def place(name: str | None) -> str | None:
        return name and str(SHARED / name)

    return replace(
        case,
        source=str(SHARED / case.source),
        calibration=place(case.calibration),
        test=place(case.test),
    )


def outputs(model: Path, samples: np.ndarray, output: int = 0) -> np.ndarray:
    """Real-valued outputs with this number, one flat row a sample."""
    return all_outputs(model, samples)[output]


def all_outputs(model: Path, samples: np.ndarray) -> list[np.ndarray]:
    """Real values of every output of a one-input model: an array each, one flat row a sample."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model), num_threads=processes_for(99, None))
    interpreter.allocate_tensors()
    source, results = interpreter.get_input_details()[0], interpreter.get_output_details()
    rows: list[list[np.ndarray]] = [[] for _ in results]
    for sample in samples:
        value = sample[None]
        if source["dtype"] == np.int8:
            scale, zero = source["quantization"]
            value = np.clip(np.rint(value / scale) + zero, -128, 127)
        interpreter.set_tensor(source["index"], value.astype(source["dtype"]))
        interpreter.invoke()
        for place, result in enumerate(results):
            row = interpreter.get_tensor(result["index"]).astype(np.float64).ravel()
            if result["dtype"] == np.int8:
                scale, zero = result["quantization"]
                row = (row - zero) * scale
            rows[place].append(row)
    return [np.array(each) for each in rows]


def varied(images: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Seeded crops (60 to 100% of each side, moved) and mirror images of a few samples."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        image = images[index % len(images)]
        height, width = image.shape[:2]
        part = rng.uniform(0.6, 1.0)
        top, left = rng.uniform(0, 1 - part, 2) * (height, width)
        rows = (top + np.arange(height) * part).astype(int)
        columns = (left + np.arange(width) * part).astype(int)
        image = image[rows][:, columns]
        made.append(image[:, ::-1] if rng.random() < 0.5 else image)
    return np.array(made)


# Colour photographs among scikit-image's data: the rest are drawings, textures and microscopy.
_SCIKIT_IMAGE = ("astronaut", "camera", "chelsea", "coffee", "coins", "motorcycle_left", "rocket")
_ENDINGS = (".png", ".jpg", ".jpeg")


def photographs(folder: Path | None = None) -> list[Path]:
    """Photographs in `folder` and below; without one, those that installed packages (scikit-image,
    scikit-learn) and the shared data have. Sorted by name, one of each name."""
    if folder is not None:
        found = [p for p in folder.rglob("*") if p.suffix.lower() in _ENDINGS]
    else:
        found = list((SHARED / "datasets/images_imagenet").rglob("*.png"))
        found += [p for p in _package("skimage", "data") if p.stem in _SCIKIT_IMAGE]
        found += _package("sklearn", "datasets/images")
    return sorted({path.stem: path for path in found}.values(), key=lambda path: path.stem)


def _package(name: str, folder: str) -> list[Path]:
    """The images in a folder of a package, which is not imported; none where it is missing."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return []
    place = Path(spec.origin).parent / folder
    return [p for p in place.glob("*") if p.suffix.lower() in _ENDINGS]


def crops(
    photos: list[Path], count: int, side: int, *, part: tuple[float, float], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """`count` square crops, uint8 (count, side, side, 3), and for each the number of its photo.

    A crop's side is a seeded share (`part`) of the photograph's shorter one; half are mirrored.
    Pillow's BILINEAR averages over the area when it scales down: fine texture does not alias.
    """
    from PIL import Image

    rng = np.random.default_rng(seed)
    share = -(-count // len(photos))
    made: list[Any] = []
    for number, path in enumerate(photos):
        with Image.open(path) as opened:
            opened.draft("RGB", (1600, 1600))
            picture = opened.convert("RGB")
        for _ in range(min(share, count - len(made))):
            edge = float(min(picture.size) * rng.uniform(*part))
            left, top = (rng.uniform(0, size - edge) for size in picture.size)
            box = (left, top, left + edge, top + edge)
            image = picture.resize((side, side), Image.Resampling.BILINEAR, box, 3.0)
            array = np.asarray(image)
            made.append((array[:, ::-1] if rng.random() < 0.5 else array, number))
    return np.array([image for image, _ in made]), np.array([number for _, number in made])
