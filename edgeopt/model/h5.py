"""Read a full legacy Keras .h5: the attribute model_config and the arrays' shapes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeopt.facts import Subgraph
from edgeopt.model.contents import Contents
from edgeopt.model.flatbuffer import CorruptFile
from edgeopt.model.hdf5 import survey
from edgeopt.model.keras_weights import LegacyWeights, Weights, count_values
from edgeopt.model.layers import read_layers

__all__ = ["parse_config", "read", "subgraph_of"]


def read(path: Path) -> Contents:
    """Raises CorruptFile when the HDF5 or the configuration in it cannot be read."""
    found = survey(path)
    if found.config is None:
        raise CorruptFile("it has no model_config", hint="Save the whole model, not its weights.")
    model = parse_config(found.config)
    stored = [data for data in found.datasets if data.path.startswith("model_weights/")]
    return Contents(
        subgraphs=(subgraph_of(model, lambda: LegacyWeights.of(found)),),
        parameters=count_values(stored),
        description="Keras HDF5",
    )


def parse_config(text: str | bytes) -> Mapping[str, Any]:
    """A model's configuration as JSON says it. Raises CorruptFile."""
    try:
        model = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"its configuration is not JSON ({error})") from error
    if not isinstance(model, dict) or not isinstance(model.get("class_name"), str):
        raise CorruptFile("its configuration names no model class")
    return model


def subgraph_of(model: Mapping[str, Any], weights: Callable[[], Weights]) -> Subgraph:
    """The layers as operators. Raises CorruptFile for a configuration that makes no sense."""
    try:
        return read_layers(model, weights())
    # The configuration is a stranger's JSON, as deep as Keras itself: any field of it may have
    # another type than Keras writes, and these are what reading it as Keras' would then raise.
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        ArithmeticError,
        RecursionError,
    ) as error:
        what = f"{type(error).__name__}: {error}"[:300]
        raise CorruptFile(f"its configuration is not one of Keras ({what})") from error
