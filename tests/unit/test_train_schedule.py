"""What training decides before it begins, and what it must not lose: pure."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from edgeopt.errors import InputError, ToolError
from edgeopt.train import process
from edgeopt.train.checkpoint import forget_abandoned, load_state, save_state
from edgeopt.train.schedule import matching, schedule_for, split
from edgeopt.training import TrainingRequest


@pytest.mark.parametrize("samples", [1, 3, 54, 1000, 60_000, 1_000_000])
@pytest.mark.parametrize("technique", ["prune", "cluster", "qat"])
def test_every_schedule_reaches_its_final_sparsity_before_its_end(
    samples: int, technique: str
) -> None:
    for epochs in (None, 1, 7):
        made = schedule_for(technique, samples, TrainingRequest(epochs=epochs))
        assert 1 <= made.batch <= samples and made.total >= 1
        assert made.ramp_steps <= made.total
        assert made.ramp_steps % made.mask_every == 0  # tfmot updates masks at multiples only


def test_more_data_means_fewer_epochs() -> None:
    epochs = [schedule_for("qat", n, TrainingRequest()).epochs for n in (100, 5000, 60_000)]
    assert epochs == sorted(epochs, reverse=True) and epochs[0] > epochs[-1]


def test_the_rate_warms_up_and_decays_to_a_hundredth() -> None:
    made = schedule_for("prune", 6400, TrainingRequest(epochs=10, learning_rate=0.1))
    rates = [made.rate(step) for step in range(made.total)]
    assert rates[0] < 0.1 and max(rates) == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0.001, rel=0.1)


def test_held_back_samples_are_of_all_classes_and_never_trained_on() -> None:
    labels = np.repeat([0, 1, 2], [900, 90, 30])  # sorted and uneven, as folders are
    made = split(labels, 1020, 0.1, seed=4)
    assert not set(made.train) & set(made.held)
    assert len(made.train) + len(made.held) == 1020 and len(made.held) == 102
    assert set(labels[made.held]) == {0, 1, 2}


def test_the_split_depends_on_the_seed_alone() -> None:
    one, same, other = (split(None, 200, 0.2, seed=s).held for s in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_too_few_samples_are_not_divided_and_that_is_said() -> None:
    made = split(None, 8, 0.1, seed=0)
    assert len(made.train) == len(made.held) == 8 and "none could be held back" in made.notes[0]


@pytest.mark.parametrize(
    ("patterns", "meant"),
    [
        ((), {"conv_1", "conv_2", "dense"}),
        (("conv_*",), {"conv_1", "conv_2"}),
        (("!dense",), {"conv_1", "conv_2"}),
        (("conv_*", "!*_1"), {"conv_2"}),
        (("none",), set()),
    ],
)
def test_patterns_name_layers_and_leave_layers_out(
    patterns: tuple[str, ...], meant: set[str]
) -> None:
    assert {n for n in ("conv_1", "conv_2", "dense") if matching(n, patterns)} == meant


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    arrays = {"v0": np.arange(6, dtype=np.float32).reshape(2, 3), "v1": np.array(7)}
    save_state(tmp_path / "new", {"epoch": 3}, arrays)
    stored = load_state(tmp_path / "new")
    assert stored is not None and stored[0]["epoch"] == 3
    assert all(np.array_equal(stored[1][name], arrays[name]) for name in arrays)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut", b"not a file of ours"])
def test_a_damaged_checkpoint_is_as_if_there_were_none(tmp_path: Path, damage: bytes) -> None:
    save_state(tmp_path, {"epoch": 3}, {"v0": np.zeros(3)})
    (tmp_path / "state.npz").write_bytes(damage)
    assert load_state(tmp_path) is None


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    save_state(tmp_path, {"epoch": 3}, {"v0": np.zeros(3)})
    (tmp_path / ".edgeopt-half").write_bytes(b"PK")
    stored = load_state(tmp_path)
    assert stored is not None and not (tmp_path / ".edgeopt-half").exists()


def test_only_checkpoints_of_more_than_a_month_ago_are_forgotten(tmp_path: Path) -> None:
    for name, days in (("old", 31), ("young", 29)):
        save_state(tmp_path / name, {"epoch": 1}, {})
        then = time.time() - days * 86_400
        os.utime(tmp_path / name, (then, then))
    forget_abandoned(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["young"]
    forget_abandoned(tmp_path / "missing")


def test_without_its_libraries_training_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "_TOOLS", ("no_such_library",))
    with pytest.raises(ToolError, match=r"pip install 'edgeopt\[train\]'"):
        process.need_tools()


def test_a_request_that_cannot_be_is_refused() -> None:
    for wrong in ({"final_sparsity": 1.0}, {"clusters": 1}, {"techniques": ("shrink",)}):
        with pytest.raises(InputError):
            TrainingRequest(**wrong)  # type: ignore[arg-type]
