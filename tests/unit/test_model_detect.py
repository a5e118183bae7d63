"""The format is told by content, and a mistake is named for what it is."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest

from edgeopt.errors import InputError, ModelError
from edgeopt.model import detect


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("models/ic_resnet8/model.h5", "h5"),
        ("models/ic_resnet8/ref_f32.tflite", "tflite"),
        ("models/kws_dscnn/savedmodel", "savedmodel"),
        ("models/efficientnet_lite0/model.keras", "keras"),
    ],
)
def test_real_models_are_told_apart(shared: Path, path: str, kind: str) -> None:
    assert detect(shared / path) == kind


def test_the_ending_of_the_name_does_not_matter(shared: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model.keras"
    copy.write_bytes((shared / "models/kws_dscnn/ref_int8.tflite").read_bytes())
    assert detect(copy) == "tflite"


def test_hdf5_behind_a_user_block_is_found(shared: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model.h5"
    copy.write_bytes(b"\0" * 1024 + (shared / "models/kws_dscnn/model.h5").read_bytes())
    assert detect(copy) == "h5"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"TFL3", "too few"),
        (b"\x08\x08\x12\x07pytorch\x1a\x05" + b"2.1.0" * 9, "an ONNX model"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.torch" + b" " * 40, "a PyTorch file"),
        (pickle.dumps({"weights": [1, 2, 3], "name": "something"}), "a Python pickle"),
        (b"\x0a\x3c\x0a\x05input\x12\x0bPlaceholder" + b"x" * 50, "a frozen TensorFlow graph"),
        (b"\x08\x01\x12\xff\xff\x01" + b"x" * 50, "Name the folder"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"\x1f\x8b\x08\0" * 8, "a gzip archive"),
        (b"PK\x03\x04" + b"\0" * 60, "damaged or truncated"),
        (b'{"class_name": "Sequential"}', "JSON text"),
        (b"\x89HDF\r\n\x1a\n" + b"layer_names" + b"\0" * 600, "weights only"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 600, "no Keras model"),
        (b"\xff" * 100, "no format that edgeopt knows"),
    ],
)
def test_what_is_no_model_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=words) as caught:
        detect(path)
    assert caught.value.exit_code == 3 and caught.value.hint


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("archive/data.pkl", "PyTorch"),
        ("x.npy", "NumPy"),
        ("export/saved_model.pb", "zipped SavedModel"),
        ("readme.txt", "no .keras model"),
    ],
)
def test_other_zip_archives_are_named(tmp_path: Path, member: str, words: str) -> None:
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, b"content")
    with pytest.raises(ModelError, match=words):
        detect(path)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("saved_model.pbtxt", "text form"),
        ("1/saved_model.pb", "Did you mean .*1"),
        ("checkpoint", "weights without a model"),
        ("notes.txt", "without saved_model.pb"),
    ],
)
def test_a_folder_without_a_saved_model_is_explained(tmp_path: Path, file: str, words: str) -> None:
    path = tmp_path / "model" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    with pytest.raises(ModelError, match=words):
        detect(tmp_path / "model")


def test_a_missing_path_is_the_users_to_correct(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no"):
        detect(tmp_path / "none.tflite")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        detect(tmp_path / "pipe")


def test_a_file_that_may_not_be_read_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"x" * 100)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything (root)")
    with pytest.raises(InputError, match="may not be read"):
        detect(path)
