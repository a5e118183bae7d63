"""A file that lost what training gave it is not offered to the user."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from tflite_models import fully_connected

from edgeopt.artifact import Artifact
from edgeopt.errors import ModelError
from edgeopt.job import Job
from edgeopt.pipeline.preserving import preserved
from edgeopt.pipeline.session import Session
from edgeopt.plan import make_plan
from edgeopt.progress import Silent
from edgeopt.store import Store
from edgeopt.training import TrainingRequest

ZERO_AND_ONE = struct.pack("<2f", 0, 1)  # the weights are 0, 1 ... 7: one zero of eight


def session_with(folder: Path, final: bytes) -> Session:
    """One whose training pruned an eighth and whose quantization gave `final`."""
    source, result = folder / "float.tflite", folder / "final.tflite"
    source.write_bytes(fully_connected())
    result.write_bytes(final)
    training = TrainingRequest(techniques=("prune",), final_sparsity=0.125)
    job = Job(model=source, training=training, train_data="not read here")
    session = Session(job, Store(folder / "store"), Silent())
    plan = make_plan(session.facts, session.target, has_calibration=False, scheme="float32")
    first = Artifact.of(source, "source")
    session.add(plan=plan, artifacts=(first, Artifact.of(result, "optimized", first)))
    session.float_model = source
    return session


def test_kept_zeros_are_reported(tmp_path: Path) -> None:
    session = session_with(tmp_path, fully_connected())
    preserved(session)
    found = session.report.to_json()["preservation"]
    assert found["passed"] and found["kept"] == ["zeros"]
    assert found["sparsity"] == found["layers"][0]["reference_sparsity"] == 0.125


def test_lost_zeros_are_exit_3_name_the_layer_and_ship_nothing(tmp_path: Path) -> None:
    spoiled = fully_connected().replace(ZERO_AND_ONE, struct.pack("<2f", 0.001, 1))
    session = session_with(tmp_path, spoiled)
    with pytest.raises(ModelError, match="lost the zeros") as caught:
        preserved(session)
    assert caught.value.exit_code == 3
    assert caught.value.details["lines"] == [
        "y: 1 of its 1 zeros are gone (sparsity 0.00%, was 12.50%)"
    ]
    assert [a.stage for a in session.report.artifacts] == ["source"]
    assert session.report.to_json()["preservation"]["passed"] is False
