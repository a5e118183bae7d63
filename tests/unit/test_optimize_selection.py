"""Selection: which candidates there are, which wins, and what the report says."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.dataset import Dataset, Preprocess, load_dataset
from edgeopt.model import read
from edgeopt.optimize import ConversionRequest, quantize
from edgeopt.optimize.calibration import calibrate
from edgeopt.optimize.selection import (
    PLAIN,
    Candidate,
    Trial,
    candidates,
    choose,
    rivals,
    settled,
)
from edgeopt.optimize.statistics import load
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent
from edgeopt.quality import QualityRequest

FLOAT = demo_dir() / "fashion.tflite"
FORCED = QualityRequest(ranges="mse", equalization="on", bias_correction="on")


def demo_data() -> Dataset:
    spec = f"{demo_dir() / 'samples.npz'}:x_calib"
    return load_dataset(spec, preprocess=Preprocess.parse("scale=1/255"))


def made(folder: Path, **wanted: Any) -> Any:
    request = ConversionRequest(scheme="int8", **wanted)
    out = folder / "out.tflite"
    return quantize(FLOAT, request, out, dataset=demo_data(), progress=Silent())


def trial(noise: float, candidate: Candidate = PLAIN, agrees: int = 10, **more: Any) -> Trial:
    return Trial(
        candidate=candidate,
        noise=tuple(noise * (1 + 0.01 * (i % 3)) for i in range(10)),
        agrees=tuple(i < agrees for i in range(10)),
        **more,
    )


def test_auto_begins_with_plain_and_tries_every_estimator() -> None:
    tried = candidates(QualityRequest())
    assert tried[0] == PLAIN
    assert {each.ranges for each in tried} == {"minmax", "percentile", "mse", "octav", "search"}
    assert len(set(tried)) == len(tried)


def test_what_is_forced_is_in_every_candidate() -> None:
    request = QualityRequest(ranges="octav", bias_correction="off")
    assert all(each.ranges == "octav" for each in candidates(request))
    assert not any(each.bias_correction for each in candidates(request))
    assert candidates(FORCED) == [Candidate(ranges="mse", equalization=True, bias_correction=True)]


def test_clusters_are_never_equalized() -> None:
    tried = candidates(QualityRequest(equalization="on"), keep=("clusters",))
    assert not any(each.equalization for each in tried)


def test_int16_activations_need_no_clipping() -> None:
    tried = candidates(QualityRequest(), scheme="int16x8")
    assert {each.ranges for each in tried} == {"minmax"}


@pytest.mark.parametrize(("samples", "known"), [(19, True), (20, False)])
def test_too_few_samples_settle_it(samples: int, known: bool) -> None:
    assert settled(candidates(QualityRequest()), samples) is known


def test_the_smallest_loss_wins() -> None:
    better = trial(0.001, Candidate(ranges="mse"))
    assert choose([trial(0.01), better]) is better


def test_a_tie_goes_to_the_simplest() -> None:
    plain = trial(0.00101)
    assert choose([plain, trial(0.001, Candidate(ranges="mse"))]) is plain


def test_between_minimum_and_maximum_and_searched_ranges_the_loss_decides() -> None:
    searched = trial(0.001, Candidate(ranges="search"))
    assert choose([trial(0.00101), searched]) is searched
    assert choose([plain := trial(0.00099), searched]) is plain


def test_a_tie_in_noise_that_changes_answers_is_none() -> None:
    better = trial(0.001, Candidate(ranges="mse"))
    assert choose([trial(0.00101, agrees=8), better]) is better


def test_lost_margins_count_against_clipping_that_only_lowers_noise() -> None:
    clipped = trial(0.004, Candidate(ranges="mse"), margin_lost=(0.5,) * 10)
    plain = trial(0.006, margin_lost=(0.1,) * 10)
    assert choose([plain, clipped]) is plain


@pytest.mark.parametrize(("flipped", "wins"), [(1, "minmax"), (3, "mse")])
def test_one_answer_near_a_draw_does_not_clip_ranges(flipped: int, wins: str) -> None:
    """A changed answer loses its whole lead, which one sample in ten may do by chance."""
    clipped = trial(0.0100, Candidate(ranges="mse"), margin_lost=(0.01,) * 10)
    lost = tuple(1.0 if i >= 10 - flipped else 0.01 for i in range(10))
    plain = trial(0.01, agrees=10 - flipped, margin_lost=lost)
    plain = replace(plain, noise=(0.008, 0.013) * 5)
    assert plain.loss > 1.5 * clipped.loss
    assert choose([plain, clipped]).candidate.ranges == wins


def test_a_result_that_is_no_number_never_wins() -> None:
    assert choose([trial(math.nan), better := trial(0.5, Candidate(ranges="mse"))]) is better


def test_the_rival_is_the_other_equalization_of_the_same_ranges() -> None:
    ways = [
        Candidate(),
        Candidate(equalization=True, bias_correction=True),
        Candidate(ranges="octav"),
    ]
    trials = [trial(noise, way) for noise, way in zip((0.010, 0.012, 0.0095), ways, strict=True)]
    assert rivals(ways[0], trials) == [ways[1]]
    assert rivals(ways[2], trials) == []
    assert rivals(ways[0], []) == []
    assert rivals(ways[0], [trials[0], trial(math.nan, ways[1])]) == []


def test_statistics_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    found = []
    for count in (1, 3):
        folder = tmp_path / str(count)
        folder.mkdir()
        data = demo_data().match(read(FLOAT).inputs)
        calibrate(FLOAT, data, limit=40, processes=count, progress=Silent(), statistics=folder)
        found.append(load(sorted(folder.iterdir()), 40, fitted=True))
    one, three = found
    assert one.samples == three.samples == 27  # every third of 40 is held out
    for name, seen in one.tensors.items():
        for part in ("low", "high", "mean", "picked", "channels"):
            wanted, other = getattr(seen, part), getattr(three.tensors[name], part)
            np.testing.assert_array_equal(wanted, other, err_msg=f"{part} of {name}")


def test_ranges_of_the_statistics_are_those_of_plain_calibration(tmp_path: Path) -> None:
    data = demo_data().match(read(FLOAT).inputs)
    plain = calibrate(FLOAT, data, limit=40, processes=1, progress=Silent())
    calibrate(FLOAT, data, limit=40, processes=1, progress=Silent(), statistics=tmp_path)
    whole = load(sorted(tmp_path.iterdir()), 40, fitted=False)
    for name, ends in whole.ranges().items():
        assert np.allclose(ends, plain.ranges[name], rtol=1e-5)


def test_auto_reports_every_candidate_with_its_loss(tmp_path: Path) -> None:
    quality = made(tmp_path).quality
    chosen = quality["chosen"]
    [own] = [
        each for each in quality["candidates"]
        if all(each[name] == value for name, value in chosen.items())
    ]  # fmt: skip
    assert own["loss"] <= quality["candidates"][0]["loss"]
    assert quality["held_out_samples"] == 33
    assert [path.name for path in tmp_path.iterdir()] == ["out.tflite"]


def test_few_samples_stay_plain_and_say_so(tmp_path: Path) -> None:
    done = made(tmp_path, calibration_samples=12)
    assert done.quality["chosen"] == vars(PLAIN)
    assert "only 12 samples" in " ".join(done.notes)


def test_improved_models_have_the_operations_of_plain_int8(tmp_path: Path) -> None:
    plain = made(
        tmp_path / "plain",
        quality=QualityRequest(ranges="minmax", equalization="off", bias_correction="off"),
    )
    better = made(tmp_path / "better", quality=FORCED)
    kinds = [[(op.op, len(op.inputs)) for op in read(m.path).operators()] for m in (plain, better)]
    assert kinds[0] == kinds[1]
    assert plain.quality is None
    assert better.quality["chosen"]["ranges"] == "mse"
    assert better.quality["why"] == "as asked for"
