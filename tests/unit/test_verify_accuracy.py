"""Accuracy compares the same question's answers, however the two files order their edges."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from passing_models import passing
from test_model_edit import two_of_each

from edgeopt.dataset import Preprocess
from edgeopt.errors import InputError, ModelError
from edgeopt.model.edit import in_order
from edgeopt.model.read import structure
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent
from edgeopt.verify.accuracy import Accuracy, measure_accuracy
from edgeopt.verify.accuracy_pool import PoolError, ranges, share_out
from edgeopt.verify.accuracy_runner import Recorder, output_order


def measured(model: Path, baseline: Path | None, data: Path, *names: str) -> Accuracy:
    return measure_accuracy(
        model, baseline, str(data), Preprocess(), Silent(), processes=1, input_names=names
    )


@pytest.fixture
def turned(tmp_path: Path) -> tuple[Path, Path]:
    """A model of two inputs and outputs, and the same one with both turned round."""
    plain, other = tmp_path / "plain.tflite", tmp_path / "turned.tflite"
    plain.write_bytes(two_of_each())
    other.write_bytes(in_order(two_of_each(), ["right", "left"], ["total", "difference"]))
    return plain, other


def subtractions(folder: Path) -> Path:
    """Samples whose difference left - right has its largest value at the label."""
    left = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    right = np.random.default_rng(1).normal(size=(20, 2)).astype(np.float32)
    arrays = {"left": left, "right": right, "y": (left - right).argmax(axis=1)}
    np.savez(folder / "d.npz", **arrays)
    return folder / "d.npz"


def test_a_model_with_turned_edges_agrees_with_its_float_model(
    turned: tuple[Path, Path], tmp_path: Path
) -> None:
    found = measured(turned[1], turned[0], subtractions(tmp_path))
    assert (found.baseline, found.optimized, found.more["agreement"]) == (1.0, 1.0, 1.0)
    assert found.more["sqnr_db"] is None  # no noise at all


def test_arrays_by_position_follow_the_model_that_the_user_knows(
    turned: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "pairs.py").write_text(
        "import numpy as np\n"
        "def pairs():\n"
        "    arrays = np.load(__file__.replace('pairs.py', 'd.npz'))\n"
        "    for left, right, y in zip(arrays['left'], arrays['right'], arrays['y']):\n"
        "        yield (left, right), int(y)\n"
    )
    subtractions(tmp_path)
    data = f"{tmp_path}/pairs.py:pairs"
    found = measured(turned[0], turned[0], Path(data), "left", "right")
    assert found.optimized == 1.0
    assert measured(turned[0], turned[0], Path(data), "right", "left").optimized < 0.5


def test_inputs_of_other_names_are_not_guessed(turned: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.tflite"
    other.write_bytes(turned[0].read_bytes().replace(b"left", b"lift"))
    with pytest.raises(ModelError, match=r"lift, right.*left, right"):
        measured(other, turned[0], subtractions(tmp_path))


DEMO = demo_dir() / "fashion.tflite"
SCALED = Preprocess.parse("scale=1/255")


def demo(**more: object) -> Accuracy:
    data = str(demo_dir() / "samples.npz")
    return measure_accuracy(DEMO, DEMO, data, SCALED, Silent(), **more)  # type: ignore[arg-type]


def test_the_result_is_the_same_to_the_last_digit_for_any_number_of_processes() -> None:
    one, three = demo(processes=1), demo(processes=3)
    assert one == three
    assert one.metric == "top1" and one.samples == 60 and one.baseline == one.optimized
    assert demo(processes=2, limit=7).samples == 7


def test_it_counts_what_a_plain_loop_counts() -> None:
    from ai_edge_litert.interpreter import Interpreter

    stored = np.load(demo_dir() / "samples.npz")
    interpreter = Interpreter(model_path=str(DEMO), num_threads=1)
    interpreter.allocate_tensors()
    feed, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    right = 0
    for image, label in zip(stored["x"], stored["y"], strict=True):
        interpreter.set_tensor(feed["index"], image[None].astype(np.float32) / 255)
        interpreter.invoke()
        right += interpreter.get_tensor(out["index"])[0].argmax() == label
    assert demo().optimized == right / 60


def test_worse_is_positive_whichever_way_a_metric_counts() -> None:
    up = Accuracy(metric="top1", baseline=0.9, optimized=0.8, samples=1)
    down = Accuracy(metric="mae", baseline=0.8, optimized=0.9, samples=1, higher_is_better=False)
    assert up.drop == down.drop == pytest.approx(0.1)
    assert Accuracy(metric="top1", baseline=None, optimized=0.8, samples=1).drop is None


def test_samples_are_shared_out_once_each_in_ever_smaller_ranges() -> None:
    for count, workers in ((1, 8), (1000, 2), (50_000, 3), (3_000_000, 64)):
        found = list(ranges(count, workers))
        assert [start for start, _ in found[1:]] == [stop for _, stop in found[:-1]]
        assert found[0][0] == 0 and found[-1][1] == count
        assert found[-1][1] - found[-1][0] <= max(1, count // 1000)
        assert len(found) * 8 <= 16_384  # fits into a pipe that nobody reads


def squares(start: int, stop: int) -> Iterator[int]:
    for index in range(start, stop):
        if index in (70, 90):
            raise ModelError(f"sample {index}")
        yield index * index


def test_the_lowest_samples_error_is_told_whoever_meets_one_first() -> None:
    for workers in (1, 2, 5):
        with pytest.raises(PoolError, match="sample 70"):
            share_out(200, workers, lambda: squares, lambda done: None)
    assert share_out(60, 3, lambda: squares, lambda done: None) == [i * i for i in range(60)]


def test_a_process_that_dies_is_an_error_and_none_is_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[int] = []
    fork = os.fork
    monkeypatch.setattr(os, "fork", lambda: begun.append(fork()) or begun[-1])

    def deadly(start: int, stop: int) -> Iterator[int]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield 0

    with pytest.raises(PoolError, match="ended by SIGKILL") as told:
        share_out(20, 2, lambda: deadly, lambda done: None)
    assert told.value.problem["kind"] == "crash"
    assert begun
    for process in begun:
        with pytest.raises(ChildProcessError):
            os.waitpid(process, os.WNOHANG)


def test_a_damaged_model_is_the_models_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(DEMO.read_bytes()[:5000])
    with pytest.raises(ModelError):
        measured(broken, None, demo_dir() / "samples.npz")


def test_nan_is_no_answer(tmp_path: Path) -> None:
    model = passing(tmp_path / "m.tflite", y=[1, 3])
    steps = Preprocess.parse("scale=1e38")
    np.savez(tmp_path / "d.npz", x=np.full((4, 3), 1e38, np.float32), y=np.zeros(4, int))
    with pytest.raises(InputError, match="values that do not fit"):
        measure_accuracy(model, None, str(tmp_path / "d.npz"), steps, Silent())
    (tmp_path / "recorded").mkdir()
    recorder = Recorder(tmp_path / "recorded")
    recorder.add([np.array([[np.nan, 0, 1]], np.float32)])
    recorder.close()
    np.savez(tmp_path / "one.npz", x=np.zeros((1, 3), np.float32), y=np.zeros(1, int))
    with pytest.raises(ModelError, match="answers NaN to sample 0"):
        measure_accuracy(
            model, None, str(tmp_path / "one.npz"), Preprocess(), Silent(),
            recorded=tmp_path / "recorded",
        )  # fmt: skip


def test_data_without_labels_is_held_against_the_float_model(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32))
    model = passing(tmp_path / "m.tflite", y=[1, 3])
    found = measured(model, model, tmp_path / "x.npy")
    assert (found.metric, found.baseline, found.optimized) == ("agreement", 1.0, 1.0)
    noise = measure_accuracy(
        model, model, str(tmp_path / "x.npy"), Preprocess(), Silent(), metric="sqnr_db"
    )
    assert noise.optimized is None and noise.drop is None and "without any noise" in noise.notes[0]
    with pytest.raises(InputError, match="no float model to agree with"):
        measured(model, None, tmp_path / "x.npy")
    with pytest.raises(InputError, match="no labels, for the metric mae"):
        measure_accuracy(
            model, model, str(tmp_path / "x.npy"), Preprocess(), Silent(), metric="mae"
        )


def test_outputs_of_two_files_are_paired_by_name_or_shape(turned: tuple[Path, Path]) -> None:
    plain, other = (structure(path) for path in turned)
    assert output_order(plain, plain) == (0, 1) and output_order(other, plain) == (1, 0)


def test_a_function_is_called_once_however_many_processes(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import pathlib, numpy as np\n"
        "def f():\n"
        "    log = pathlib.Path(__file__).with_name('calls')\n"
        "    log.write_text((log.read_text() if log.exists() else '') + 'x')\n"
        "    while True: yield np.random.default_rng().normal(size=3).astype('float32'), 0\n"
    )
    model = passing(tmp_path / "m.tflite", y=[1, 3])
    measure_accuracy(
        model, None, f"{tmp_path}/own.py:f", Preprocess(), Silent(), processes=2, limit=30
    )
    assert (tmp_path / "calls").read_text() == "x"
