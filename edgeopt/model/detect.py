"""Which format a model is in, by its content: names and endings are not believed."""

from __future__ import annotations

import mmap
import stat
import zipfile
from pathlib import Path

from edgeopt.errors import InputError, ModelError
from edgeopt.model.source import check

__all__ = ["detect"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_CONVERT = "Convert it to TensorFlow Lite first, then give edgeopt the .tflite:"
_KNOWN = "edgeopt reads .tflite, .keras, full .h5 models and SavedModel folders."
_ONNX = ("an ONNX model", f"{_CONVERT} onnx2tf makes a float .tflite of an ONNX file.")
_TORCH = (
    "a PyTorch file",
    f"{_CONVERT} litert_torch.convert(model, sample_inputs).export('model.tflite').",
)
_FROZEN = (
    "a frozen TensorFlow graph (GraphDef)",
    "Load it in TensorFlow and save it as a SavedModel, or convert it with "
    "tf.compat.v1.lite.TFLiteConverter.from_frozen_graph.",
)
_PICKLE = ("a Python pickle", "edgeopt never unpickles. Save the model as .keras or .tflite.")
_UNPACK = "Unpack it and name the model inside."

# First bytes of files that people give by mistake: what it is, and what to do.
_MISTAKES: tuple[tuple[bytes, tuple[str, str]], ...] = (
    (b"version https://git-lfs", ("a Git LFS pointer, not the model", "Run git lfs pull.")),
    (b"<!DOCTYPE", ("a web page", "Download the file itself (the raw link).")),
    (b"<!doctype", ("a web page", "Download the file itself (the raw link).")),
    (b"<html", ("a web page", "Download the file itself (the raw link).")),
    (b"\x1f\x8b", ("a gzip archive", _UNPACK)),
    (b"BZh", ("a bzip2 archive", _UNPACK)),
    (b"\xfd7zXZ", ("an xz archive", _UNPACK)),
    (b"LITERTLM", ("a LiteRT language-model bundle", "edgeopt does not serve language models.")),
    (b"\x93NUMPY", ("a NumPy array", "Name the model, not its data.")),
    (b"{", ("JSON text", "Weights are missing: name the .keras, .h5 or SavedModel it came from.")),
    (b"\x7fELF", ("a compiled program", _KNOWN)),
    (b"GGUF", ("a GGUF language model", "edgeopt does not serve language models.")),
)


def detect(path: Path) -> str:
    """ "tflite", "keras", "h5" or "savedmodel".

    Raises InputError when the path cannot be opened, ModelError when it is not one of these.
    """
    status = check(path)
    if stat.S_ISDIR(status.st_mode):
        return _folder(path)
    if status.st_size == 0:
        raise ModelError(f"{path} is empty.", "Copy or export the model again.")
    try:
        return _file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.", "Check the disk.") from error


def _file(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(4096)
    if head[4:8] == b"TFL3":
        return "tflite"
    if head.startswith(b"PK"):  # before HDF5, which a .keras has inside, perhaps at byte 1024
        return _zip(path)
    if _is_hdf5(path):
        return _h5(path)
    if len(head) < 8:
        raise ModelError(
            f"{path} has {len(head)} bytes, too few for a model.", "Copy or export it again."
        )
    what, hint = _mistake(path, head)
    raise ModelError(f"{path} is {what}.", hint)


def _folder(path: Path) -> str:
    if (path / "saved_model.pb").is_file():
        return "savedmodel"
    hint = f"Name the folder that holds saved_model.pb. {_KNOWN}"
    if (path / "saved_model.pbtxt").exists():
        raise ModelError(
            f"{path} holds a SavedModel in text form (saved_model.pbtxt).",
            "Save it again in binary form: tf.saved_model.save writes saved_model.pb.",
        )
    if (path / "config.json").exists() and (path / "metadata.json").exists():
        hint = "It looks like an unpacked .keras file: give edgeopt the .keras file itself."
    elif (path / "checkpoint").exists() or any(path.glob("*.index")):
        hint = "It looks like a checkpoint, weights without a model: export a SavedModel."
    elif nested := sorted(path.glob("*/saved_model.pb"))[:1]:
        hint = f"Did you mean {nested[0].parent}?"
    raise ModelError(f"{path} is a folder without saved_model.pb.", hint)


def _is_hdf5(path: Path) -> bool:
    """The signature stands at 0, or at 512 and its doublings behind a user block."""
    size = path.stat().st_size
    at = 0
    with path.open("rb") as stream:
        while at + len(_HDF5) <= size:
            stream.seek(at)
            if stream.read(len(_HDF5)) == _HDF5:
                return True
            at = 512 if at == 0 else 2 * at
    return False


def _h5(path: Path) -> str:
    """A full model has the attribute model_config; its name stands in the file as plain bytes."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(b"model_config") >= 0:
            return "h5"
        weights = data.find(b"layer_names") >= 0 or data.find(b"vars") >= 0
    if weights or path.name.endswith(".weights.h5"):
        raise ModelError(
            f"{path} holds weights only, without the model's layers.",
            "Build the model, load these weights, and save it whole: model.save('model.keras').",
        )
    raise ModelError(f"{path} is HDF5 but holds no Keras model.", _KNOWN)


def _zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
        raise ModelError(
            f"{path} is a zip archive that is damaged or truncated: {error}.",
            "Copy or export the model again.",
        ) from error
    if {"config.json", "metadata.json"} <= names:
        return "keras"
    if any(name.endswith("/data.pkl") for name in names):
        what, hint = _TORCH
    elif names and all(name.endswith(".npy") for name in names):
        what, hint = "a NumPy .npz archive", "Name the model, not its data."
    elif any(name.endswith("saved_model.pb") for name in names):
        what, hint = "a zipped SavedModel", _UNPACK
    else:
        what, hint = "a zip archive but no .keras model", _KNOWN
    raise ModelError(f"{path} is {what}.", hint)


def _mistake(path: Path, head: bytes) -> tuple[str, str]:
    """What a file of no known format seems to be, and what to do about it."""
    if path.name == "saved_model.pb" or head[:3] == b"\x08\x01\x12":
        return "the graph of a SavedModel, without its variables", "Name the folder that holds it."
    for start, mistake in _MISTAKES:
        if head.startswith(start):
            return mistake
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        torch = b"torch" in head or path.suffix in (".pt", ".pth", ".bin")
        return _TORCH if torch else _PICKLE
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if head[4:8] in (b"TFL1", b"TFL2"):
        return "a TensorFlow Lite model older than schema version 3", "Convert it again."
    # ONNX's ModelProto begins with ir_version (field 1, a small number) and names its producer.
    if head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] in b"\x12\x1a\x22\x28\x3a\x42":
        return _ONNX
    if path.suffix == ".onnx":
        return _ONNX
    if _is_graph(head):
        return _FROZEN
    return "of no format that edgeopt knows, or truncated at its start", _KNOWN


def _is_graph(head: bytes) -> bool:
    """GraphDef begins with a node (field 1), which begins with its name (field 1)."""
    for at in (2, 3, 4):  # the node's length takes one to three bytes
        if head[:1] == b"\x0a" and head[at : at + 1] == b"\x0a" and len(head) > at + 2:
            name = head[at + 2 : at + 2 + head[at + 1]]
            if name and name.isascii() and name.decode().isprintable():
                return True
    return False
