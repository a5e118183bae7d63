"""Training, resumed and led astray, on a network that fits in a page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeopt.train.loop import Judgement
from edgeopt.train.phase import Phase

pytestmark = pytest.mark.tf
SCRIPT = Path(__file__).with_name("training_runs.py")


@pytest.fixture(scope="module")
def came_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All runs of the script, in one process: TensorFlow is imported once."""
    pytest.importorskip("tensorflow_model_optimization", reason="needs the train extra")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path_factory.mktemp("runs"))],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_zeros_and_clusters_survive_every_later_technique(came_of: dict[str, Any]) -> None:
    for name in ("first", "point", "last"):
        kernel = came_of["all"]["kernels"][name]
        assert kernel["zeros"] >= 0.8 and kernel["values"] <= 8
    untouched = came_of["all"]["kernels"]["depth"]
    assert untouched["zeros"] == 0 and untouched["values"] > 8


def test_what_is_reported_of_a_layer_is_what_its_weights_have(came_of: dict[str, Any]) -> None:
    for row in came_of["all"]["layers"]:
        kernel = came_of["all"]["kernels"][row["name"]]
        if "prune" in row["techniques"]:
            assert row["sparsity"] == kernel["zeros"] and row["clusters"] == kernel["values"]
        else:
            assert row["sparsity"] is None and row["clusters"] is None


@pytest.mark.parametrize("technique", ["prune", "cluster", "qat"])
def test_a_resumed_training_ends_with_the_same_weights(
    came_of: dict[str, Any], technique: str
) -> None:
    equal, after = came_of[f"resumed in {technique}"]
    assert equal and after > 0


def test_history_has_a_row_for_each_epoch_and_marks_those_kept(came_of: dict[str, Any]) -> None:
    rows = came_of["all"]["history"]
    assert [r["epoch"] for r in rows] == [0, 1, 2, 3] * 3
    for technique in ("prune", "cluster", "qat"):
        assert sum(r["kept"] for r in rows if r["technique"] == technique) == 1


def test_a_pruned_model_is_only_kept_from_its_final_sparsity_on(came_of: dict[str, Any]) -> None:
    kept = [r for r in came_of["all"]["history"] if r["technique"] == "prune" and r["kept"]]
    assert kept[0]["sparsity"] >= 0.8


def test_patterns_choose_layers_also_depthwise_ones(came_of: dict[str, Any]) -> None:
    found = came_of["named"]
    assert found["depth"]["zeros"] >= 0.8 and found["point"]["zeros"] >= 0.8
    assert found["first"]["zeros"] == 0 and found["last"]["zeros"] == 0


def test_a_learning_rate_that_ruins_the_model_keeps_the_state_before(
    came_of: dict[str, Any],
) -> None:
    wild = came_of["wild"]
    assert [r["epoch"] for r in wild["history"] if r["kept"]] == [0]
    assert wild["held_back"]["after"] == wild["held_back"]["before"]
    assert "kept, with top1" in wild["notes"] and "--learning-rate" in wild["notes"]


def test_a_loss_that_becomes_nan_ends_training_with_the_last_good_state(
    came_of: dict[str, Any],
) -> None:
    found = came_of["nan"]
    assert "diverged in epoch 3" in found["stopped"] and "was kept" in found["notes"]
    assert found["finite"] and found["held_back"]["after"] is not None


@pytest.mark.parametrize("case", ["labels", "negative", "few classes"])
def test_labels_that_the_outputs_do_not_have_are_refused(
    came_of: dict[str, Any], case: str
) -> None:
    error = came_of[case]
    assert error["exit_code"] == 2 and "classes, 0 to" in error["message"]


def test_labels_that_the_model_answers_no_better_than_by_guessing_are_told(
    came_of: dict[str, Any],
) -> None:
    assert came_of["turned"]["before"] < 0.2
    assert "no better than guessing (33.3%)" in came_of["turned"]["notes"]
    assert "guessing" not in came_of["budget"]["notes"]


def test_a_pattern_without_a_layer_is_refused_with_the_layers_there_are(
    came_of: dict[str, Any],
) -> None:
    error = came_of["pattern"]
    assert error["exit_code"] == 2 and "first, depth, point, last" in error["hint"]


def test_a_model_that_answers_nan_is_refused(came_of: dict[str, Any]) -> None:
    assert came_of["broken"]["exit_code"] == 3 and "NaN" in came_of["broken"]["message"]


def test_without_labels_the_float_model_is_imitated(came_of: dict[str, Any]) -> None:
    held = came_of["unlabelled"]["held_back"]
    assert held["metric"] == "agreement" and held["labels"] is False and held["before"] == 1.0


def test_outputs_that_are_no_classes_are_imitated(came_of: dict[str, Any]) -> None:
    rows = came_of["several answers"]["history"]
    assert came_of["several answers"]["held_back"]["metric"] == "relative_error"
    assert rows[-1]["held_back_loss"] < rows[0]["held_back_loss"]


def test_training_ends_once_it_is_within_the_accuracy_budget(came_of: dict[str, Any]) -> None:
    budget = came_of["budget"]
    assert "budget" in budget["stopped"] and len(budget["history"]) < 7


def test_what_is_kept_within_a_budget_is_within_it_though_the_loss_chose_another() -> None:
    before, earlier, now = Judgement(0.1, 0.9), Judgement(0.2, 0.7), Judgement(0.3, 0.85)
    phase = Phase("prune", 0, [], [], best_epoch=1, judged=earlier, epoch=2)
    phase.offer([], now, samples=200)
    assert phase.best_epoch == 1
    assert not phase.reached(0.04, before, [], now) and not phase.reached(None, before, [], now)
    assert phase.best_epoch == 1
    assert phase.reached(0.06, before, [], now) and phase.best_epoch == 2
