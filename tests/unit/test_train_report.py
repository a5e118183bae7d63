"""What a person reads about a training: epochs, what was kept, why it ended early."""

from __future__ import annotations

from typing import Any

from edgeopt.report.training import training_lines


def training(stopped: str, epochs: int, kept: int) -> dict[str, Any]:
    rows = [{"technique": "prune", "epoch": e, "kept": e == kept} for e in range(epochs + 1)]
    layer = {"name": "conv", "techniques": ["prune"], "sparsity": 0.8, "clusters": None}
    held = {"metric": "top1", "before": 0.9, "after": 0.85, "samples": 200, "loss_after": 0.3}
    return {"techniques": ["prune"], "layers": [layer], "history": rows, "stopped": stopped,
            "held_back": held}  # fmt: skip


def test_one_epoch_is_no_epochs_and_what_was_kept_is_said() -> None:
    assert "1 epoch, state after epoch 1 kept" in training_lines(training("", 1, 1))
    assert "5 epochs, state before training kept" in training_lines(training("", 5, 0))


def test_a_training_that_ended_early_says_why() -> None:
    why = "prune: within the accuracy budget, epoch 3"
    assert f"stopped early: {why}" in training_lines(training(why, 3, 3))
    assert "stopped" not in training_lines(training("", 3, 3))
