"""Find a layer's arrays among those of a weights file, in the layouts that Keras has had."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Protocol

from edgeopt.model.hdf5 import Dataset, Survey

__all__ = ["LegacyWeights", "StoredWeights", "Weights", "count_values"]

# Arrays by the name that Keras 2 gives them, in the order in which an operator takes them.
_ROLES = [
    "kernel",
    "depthwise_kernel",
    "pointwise_kernel",
    "recurrent_kernel",
    "embeddings",
    "alpha",
]
_TRAINED = ("float", "bfloat", "int8", "uint8", "int4", "int16", "complex")


def count_values(datasets: Sequence[Dataset]) -> int:
    """Elements of a model's arrays: not the optimizer's, not counters, not random seeds."""
    return sum(
        prod(data.shape)
        for data in datasets
        if data.dtype.startswith(_TRAINED) and not data.path.startswith("optimizer")
    )


@dataclass(frozen=True)
class _Paths:
    """Datasets sorted by path, to find those below a folder quickly."""

    paths: list[str]
    datasets: list[Dataset]
    names: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def of(cls, survey: Survey) -> _Paths:
        ordered = sorted(survey.datasets, key=lambda data: data.path)
        names = {}
        for path, name in survey.names.items():  # "layers/conv2d/vars" is named "conv2d"
            folder, _, last = path.removesuffix("/vars").rpartition("/")
            names[(folder, name)] = last
        return cls([data.path for data in ordered], ordered, names)

    def below(self, folder: str) -> list[Dataset]:
        start = bisect_left(self.paths, folder)
        end = bisect_left(self.paths, folder + "\U0010ffff", lo=start)
        return self.datasets[start:end]


class Weights(Protocol):
    """A place in the weights file: a model's, then by `child` a layer's."""

    def child(self, name: str, kind: str, order: int) -> Weights:
        """The place of a layer: `order` counts the layers of its class before it."""

    def arrays(self) -> list[Dataset]: ...


@dataclass(frozen=True)
class StoredWeights(Weights):
    """Keras 3: `layers/conv2d_1/vars/0`, by class and count; newer files name the layer too."""

    paths: _Paths
    folder: str = ""

    @classmethod
    def of(cls, survey: Survey) -> StoredWeights:
        return cls(_Paths.of(survey))

    def child(self, name: str, kind: str, order: int) -> Weights:
        snake = _snake(kind) + (f"_{order}" if order else "")
        for container in ("layers", "_layer_checkpoint_dependencies"):
            base = f"{self.folder}{container}"
            last = self.paths.names.get((base, name), snake)
            found = replace(self, folder=f"{base}/{last}/")
            if found.arrays():
                return found
        return replace(self, folder=f"{self.folder}layers/{snake}/")

    def arrays(self) -> list[Dataset]:
        found = [d for d in self.paths.below(self.folder) if "seed_generator" not in d.path]
        return sorted(found, key=_numbered)


@dataclass(frozen=True)
class LegacyWeights(Weights):
    """Keras 2: `model_weights/<layer>/.../kernel:0`; inner models share their outer's folder."""

    paths: _Paths
    folder: str = "model_weights/"
    inner: str = ""

    @classmethod
    def of(cls, survey: Survey) -> LegacyWeights:
        return cls(_Paths.of(survey))

    def child(self, name: str, kind: str, order: int) -> Weights:
        if self.folder == "model_weights/":
            return replace(self, folder=f"model_weights/{name}/")
        return replace(self, inner=f"/{name}/")

    def arrays(self) -> list[Dataset]:
        found = [d for d in self.paths.below(self.folder) if self.inner in d.path]
        return sorted(found, key=_role)


def _numbered(data: Dataset) -> tuple[str, int]:
    folder, _, last = data.path.rpartition("/")
    return folder, int(last) if last.isdecimal() else 0


def _role(data: Dataset) -> int:
    """Kernels first, biases last, what is between in the file's order."""
    name = data.path.rpartition("/")[2].partition(":")[0]
    if name in _ROLES:
        return _ROLES.index(name)
    return 99 if name == "bias" else 50


def _snake(name: str) -> str:
    """Keras' own rule (keras.src.utils.naming.to_snake_case): DepthwiseConv2D, depthwise_conv2d."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
