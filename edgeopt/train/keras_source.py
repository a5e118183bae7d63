"""The model in a Keras file or folder, loaded by the Keras that wrote it. For a child with both.

Nothing stored in the file is run: it is read for code first, and Keras 3 loads in its safe mode.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.errors import EdgeoptError, ModelError
from edgeopt.model.stored_code import find_stored_code

__all__ = ["Original", "open_original"]

_ONLY_LAYERS = "Training needs the layers: give the .keras or .h5 file that it was made from."
_FUNCTIONAL = (
    "Build it with keras.Input and keras.Model(inputs, outputs), or as keras.Sequential with an "
    "Input, copy the weights over, and save that."
)
_WRAPPERS = ("PruneLowMagnitude", "ClusterWeights", "QuantizeWrapper", "QuantizeLayer",
             "QuantizeAnnotate")  # fmt: skip


@dataclass(frozen=True)
class Original:
    """`generation` is 3 for Keras 3, 2 for tf_keras. `mixed`: it computes in half precision."""

    model: Any
    generation: int
    mixed: bool = False


def open_original(source: Path) -> Original:
    """Load `source`: .keras, .h5 or a SavedModel folder with Keras layers in it.

    Raises ModelError for code in the file, a subclassed model, custom layers and what is no whole
    Keras model, with what to do.
    """
    if source.is_dir():
        configs = _saved_model_configs(source)
        generation = 2
    else:
        text, version = _file_config(source)
        configs, generation = [json.loads(text)], 3 if version.startswith("3") else 2
    for config in configs:
        _refuse_code(config, source)
        _refuse_classes(config, source)
    try:
        model = _load(source, generation)
    except (ModelError, MemoryError):
        raise
    except Exception as error:  # both Keras raise anything for a file that they cannot load
        raise _explained(error, source, configs) from error
    _require_layers(model, source, generation)
    mixed = any(_policy(layer).startswith("mixed_") for layer in _leaves(model))
    return Original(model, generation, mixed)


def _load(source: Path, generation: int) -> Any:
    if generation == 3:
        import keras

        return keras.models.load_model(source, compile=False, safe_mode=True)
    import tf_keras

    return tf_keras.models.load_model(source, compile=False)


def _file_config(source: Path) -> tuple[str, str]:
    """A file's model configuration as JSON text, and the version of Keras that wrote it."""
    try:
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                metadata = json.loads(archive.read("metadata.json"))
                return archive.read("config.json").decode(), str(metadata["keras_version"])
        import h5py

        with h5py.File(source, "r") as file:
            if "model_config" not in file.attrs:
                raise ModelError(
                    f"{source.name} holds weights alone, no model.", "Save it with model.save()."
                )
            config, version = file.attrs["model_config"], file.attrs.get("keras_version", b"2")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{source.name} is no Keras model that can be read ({error}).",
            "Give a .keras or .h5 file, or a SavedModel folder that Keras wrote.",
        ) from error
    return _text(config), _text(version)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _saved_model_configs(folder: Path) -> list[dict[str, Any]]:
    """What Keras wrote into a SavedModel about its model and layers: in a file of its own since
    TensorFlow 2.5, among the objects of the graph before."""
    found = [json.loads(text) for kind, text in _keras_objects(folder) if kind and text]
    if not found:
        raise ModelError(
            f"{folder.name} holds a graph of operations, no Keras layers.", _ONLY_LAYERS
        )
    return found


def _keras_objects(folder: Path) -> Iterator[tuple[str, str]]:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2
    from tf_keras.protobuf import saved_metadata_pb2

    try:
        if (folder / "keras_metadata.pb").is_file():
            metadata = saved_metadata_pb2.SavedMetadata()
            metadata.ParseFromString((folder / "keras_metadata.pb").read_bytes())
            yield from ((node.identifier, node.metadata) for node in metadata.nodes)
            return
        saved = saved_model_pb2.SavedModel()
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    except (OSError, DecodeError) as error:
        raise ModelError(
            f"{folder.name} is no SavedModel that can be read ({error}).",
            "Export it again, and copy the whole folder.",
        ) from error
    for node in saved.meta_graphs[0].object_graph_def.nodes:
        if node.user_object.identifier.startswith("_tf_keras_"):
            yield node.user_object.identifier, node.user_object.metadata


def _refuse_code(config: Any, source: Path) -> None:
    found = find_stored_code(config)
    if found is None:
        return
    custom = "Training needs layers of Keras itself: replace it in the model."
    raise ModelError(
        f"{source.name} cannot be trained: {found.text}",
        custom,
        details={"layer": found.layer, "module": found.module, "function": found.function},
    )


def _refuse_classes(config: Any, source: Path) -> None:
    """A class of the user's own, as Keras 3 writes it: registered, and from no module of Keras."""
    if isinstance(config, dict) and config.get("registered_name") and not config.get("module"):
        raise _subclassed(source, str(config.get("class_name")))
    for entry in _objects(config):
        if entry.get("registered_name") and not entry.get("module"):
            raise _custom(str(entry["class_name"]), f"the layer {_name(entry)}", source)


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Every serialized object in a configuration."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        waiting += value.values() if isinstance(value, dict) else []
        waiting += value if isinstance(value, list) else []
        if isinstance(value, dict) and isinstance(value.get("class_name"), str):
            yield value


def _name(entry: dict[str, Any]) -> str:
    inner = entry.get("config")
    return str(entry.get("name") or (inner or {}).get("name") or "?")


def _explained(error: Exception, source: Path, configs: list[dict[str, Any]]) -> EdgeoptError:
    brief = re.sub(r"\s+", " ", str(error)).strip()[:400]
    unknown = re.search(r"(?:Unknown layer:?|Could not locate class) '?\"?([\w>]+)", brief)
    if unknown:
        named = [_name(e) for e in _objects(configs) if e["class_name"] == unknown[1]]
        return _custom(unknown[1], f"the layer {named[0]}" if named else "a layer", source)
    return ModelError(
        f"{source.name} cannot be loaded for training: {brief}",
        "Save it again with a current Keras, as a .keras file.",
    )


def _custom(kind: str, name: str, source: Path) -> ModelError:
    if kind.startswith(_WRAPPERS):
        hint = (
            "Take the wrappers off first: tfmot.sparsity.keras.strip_pruning or "
            "tfmot.clustering.keras.strip_clustering; start from the float model for quantization."
        )
    else:
        hint = "Training needs layers of Keras itself: replace it in the model."
    return ModelError(
        f"{source.name} has {name} of class {kind}, whose code is not in Keras.",
        hint,
        details={"layer": name, "class": kind},
    )


def _subclassed(source: Path, kind: str) -> ModelError:
    return ModelError(
        f"{source.name} is a subclassed model ({kind}) or one without declared inputs: its layers "
        "cannot be listed.",
        _FUNCTIONAL,
    )


def _require_layers(model: Any, source: Path, generation: int) -> None:
    """A functional or Sequential model, of layers of Keras alone."""
    graph = getattr(model, "_functional", model) if generation == 3 else model
    if not getattr(graph, "_nodes_by_depth", None) or not getattr(graph, "inputs", None):
        raise _subclassed(source, type(model).__name__)
    home = "keras.src." if generation == 3 else "tf_keras.src."
    for layer in _leaves(model):
        module = type(layer).__module__
        if not module.startswith(home) or ".saving." in module:
            raise _custom(type(layer).__name__, f"the layer {layer.name}", source)


def _leaves(model: Any) -> list[Any]:
    return [layer for layer in model._flatten_layers(include_self=False) if layer is not model]


def _policy(layer: Any) -> str:
    policy = getattr(layer, "dtype_policy", None)
    return str(getattr(policy, "name", policy))
