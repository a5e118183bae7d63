"""No verb writes over the model that it was given."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from tflite_models import fully_connected

from edgeopt.cli.app import app
from edgeopt.errors import InputError


@pytest.mark.parametrize(
    "words",
    [
        ["compile", "--target", "edgetpu"],
        ["convert", "--target", "cpu", "--scheme", "dynamic_int8"],
        ["deploy", "--target", "edgetpu", "--no-run"],
    ],
)
def test_output_that_is_the_model_is_refused_and_the_model_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "m.tflite"
    model.write_bytes(fully_connected())
    (tmp_path / "link.tflite").symlink_to(model)
    shutil.copy(model, tmp_path / "before.tflite")
    for same in ("m.tflite", "./m.tflite", "link.tflite"):
        done = CliRunner().invoke(app, [words[0], "m.tflite", *words[1:], "-o", same])
        assert isinstance(done.exception, InputError), done.output
        assert "never writes to" in done.exception.message
    assert model.read_bytes() == (tmp_path / "before.tflite").read_bytes()
