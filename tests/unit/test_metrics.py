"""Metrics against values from their papers, their libraries' documentation and plain arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgeopt.dataset import Answer, Boxes
from edgeopt.errors import InputError, ModelError, ToolError
from edgeopt.verify import metrics
from edgeopt.verify.metrics import METRICS, metric_named
from edgeopt.verify.metrics.metric import Score
from edgeopt.verify.metrics.text import normalized
from edgeopt.verify.metrics.values import agreement, observe_pair, sqnr


def scored(name: str, *samples: tuple[Any, Any]) -> Score:
    if library := METRICS[name].library:
        pytest.importorskip(library[0])
    metric = metric_named(name)
    return metric.score([metric.observe(given, wanted) for given, wanted in samples])


def boxes(*rows: tuple[float, ...], crowd: tuple[bool, ...] = ()) -> Boxes:
    """Rows of top, left, bottom, right, class."""
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 5)
    flags = np.asarray(crowd or (False,) * len(table), dtype=bool)
    return Boxes(boxes=table[:, :4], classes=table[:, 4].astype(np.int64), crowd=flags)


def found(*rows: tuple[float, ...]) -> dict[str, Any]:
    """Rows of top, left, bottom, right, class, score."""
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 6)
    return {"boxes": table[:, :4], "classes": table[:, 4], "scores": table[:, 5]}


A, B, FAR = (0.0, 0.0, 0.4, 0.4), (0.5, 0.5, 0.9, 0.9), (0.0, 0.6, 0.3, 0.9)


def test_top1_and_top5_count_the_rank_of_the_label() -> None:
    scores = np.arange(10.0)
    score = scored("top1", (scores, 9), (scores, 5), (scores, 0), (scores, 9))
    assert score.value == 0.5 and score.more["top5"] == 0.75
    assert score.standard_error == math.sqrt(0.5 * 0.5 / 4)
    other = scored("top5", (scores, 9), (scores, 4))
    assert other.value == 0.5 and other.more["top1"] == 0.5


def test_equal_scores_go_to_the_lower_class() -> None:
    scores = np.array([1.0, 1.0, 1.0])
    assert scored("top1", (scores, 0)).value == 1 and scored("top1", (scores, 1)).value == 0


def test_a_label_beyond_the_classes_is_refused_with_what_may_be_wrong() -> None:
    with pytest.raises(InputError, match=r"Label 3 is not one of the model's 3 classes.*first="):
        scored("top1", (np.zeros(3), 3))


def test_classes_counted_from_a_background_are_pointed_out() -> None:
    rows = [(np.eye(12)[label + 1], label) for label in range(11)] * 2
    (note,) = scored("top1", *rows).notes
    assert "one above" in note and "first=-1" in note


@pytest.mark.parametrize(
    ("name", "value"),
    # the example of Hugging Face's evaluate for both: 4 of 8 words, 14 of 41 characters
    [("wer", 0.5), ("cer", 0.34146341463414637)],
)
def test_error_rates_are_those_of_a_published_example(name: str, value: float) -> None:
    pairs = (
        ("this is the prediction", "this is the reference"),
        ("there is an other sample", "there is another one"),
    )
    score = scored(name, *pairs)
    assert score.value == pytest.approx(value, abs=1e-12) and (score.standard_error or 0) > 0
    assert not METRICS[name].higher_is_better


def test_a_silent_model_is_wrong_in_every_word_and_silence_has_no_words() -> None:
    assert scored("wer", ("", "three words here")).value == 1
    assert scored("wer", ("noise", ""), ("a b", "a b")).value == 0.5  # an insertion, of 2 words
    with pytest.raises(InputError, match="empty"):
        scored("wer", ("something", ""))


def test_the_error_of_a_rate_is_cochrans_for_a_ratio() -> None:
    # errors 1, 0 of 2, 2 words: sqrt((0.5^2 + 0.5^2) / 2) / 2
    score = scored("wer", ("a x", "a b"), ("a b", "a b"))
    assert score.standard_error == pytest.approx(math.sqrt(0.5 / 2) / 2)


def test_wrong_case_alone_is_pointed_out() -> None:
    (note,) = scored("wer", ("hello there", "HELLO THERE")).notes
    assert "case" in note


def test_answers_are_compared_as_squad_does() -> None:
    assert normalized("The  Denver Broncos!") == "denver broncos"
    assert normalized("an A.N. athlete") == "athlete"  # articles go after the punctuation
    answer = Answer(texts=("Santa Clara", "1976"))
    exact = scored("exact_match", ("the Santa Clara.", answer), ("Levi's", answer))
    assert exact.value == 0.5
    overlap = scored("f1", ("in the year 1976", answer))  # 1 of 3 words and of 1
    assert overlap.value == pytest.approx(0.5) and overlap.more["exact_match"] == 0


def test_a_question_without_an_answer_wants_none() -> None:
    assert scored("f1", ("", Answer(texts=())), ("Paris", Answer(texts=()))).value == 0.5


def test_the_area_is_that_of_scikit_learns_example() -> None:
    rows = [(0.1, 0), (0.4, 0), (0.35, 1), (0.8, 1)]
    assert scored("auc", *rows).value == 0.75
    twice = [(np.array([1 - s, s]), y) for s, y in rows]
    assert scored("auc", *twice).value == 0.75


def test_the_areas_error_is_delongs() -> None:
    # placements of the positives .5, 1 and of the negatives 1, .5: variances .125 of each kind,
    # here with n instead of n - 1: sqrt(.0625 / 2 + .0625 / 2)
    score = scored("auc", (0.1, 0), (0.4, 0), (0.35, 1), (0.8, 1))
    assert score.standard_error == pytest.approx(0.25)


def test_several_classes_are_averaged_one_against_the_rest() -> None:
    rows = [([0.7, 0.2, 0.1], 0), ([0.1, 0.8, 0.1], 1), ([0.4, 0.5, 0.1], 0), ([0.3, 0.3, 0.4], 1)]
    score = scored("auc", *rows)  # class 0: all pairs right; class 1: 3 of 4
    assert score.value == pytest.approx((1.0 + 0.75) / 2)
    assert "2 of 3 classes" in score.notes[0]


def test_one_class_alone_has_no_curve() -> None:
    with pytest.raises(InputError, match="same label"):
        scored("auc", (0.1, 1), (0.4, 1))
    with pytest.raises(InputError, match="labels go up to 2"):
        scored("auc", (0.1, 0), (0.4, 2))


def test_precision_is_cocos_for_a_hit_a_miss_and_a_hit() -> None:
    # recall 0.5 at precision 1, recall 1 at 2/3: 51 and 50 of the 101 recall points
    score = scored(
        "map50",
        (found((*A, 1, 0.9), (*FAR, 1, 0.8)), boxes((*A, 1))),
        (found((*B, 1, 0.7)), boxes((*B, 1))),
    )
    assert score.value == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert score.standard_error is not None and score.standard_error > 0


def test_an_overlap_counts_from_one_half() -> None:
    half = (0.0, 0.0, 0.4, 0.2)  # exactly half of A
    less = (0.0, 0.0, 0.4, 0.19)
    assert scored("map50", (found((*half, 1, 0.9)), boxes((*A, 1)))).value == pytest.approx(1)
    assert scored("map50", (found((*less, 1, 0.9)), boxes((*A, 1)))).value == 0


def test_a_second_find_of_one_box_is_false_and_crowds_do_not_count() -> None:
    twice = found((*A, 1, 0.9), (*A, 1, 0.8), (*B, 1, 0.7))
    score = scored("map50", (twice, boxes((*A, 1), (*B, 1))))
    assert score.value == pytest.approx((51 + 50 * 2 / 3) / 101)
    crowded = scored("map50", (twice, boxes((*A, 1), (*B, 1), crowd=(False, True))))
    assert crowded.value == pytest.approx(1)


def test_the_mean_is_over_the_classes_that_have_boxes() -> None:
    score = scored("map50", (found((*A, 1, 0.9), (*FAR, 7, 0.9)), boxes((*A, 1), (*B, 2))))
    assert score.value == pytest.approx(0.5)


def test_classes_that_never_meet_are_pointed_out() -> None:
    (note,) = scored("map50", (found((*A, 0, 0.9)), boxes((*A, 1)))).notes
    assert "first=N" in note


def test_finding_nothing_is_zero_and_nothing_to_find_is_an_error() -> None:
    assert scored("map50", (found(), boxes((*A, 1)))).value == 0
    with pytest.raises(InputError, match="No sample has a box"):
        scored("map50", (found((*A, 1, 0.9)), boxes()))


def test_the_bootstrap_is_seeded_and_counts_like_coco() -> None:
    generator = np.random.default_rng(0)
    samples = []
    for _ in range(30):
        corner = generator.random((3, 2)) * 0.6
        rows = np.hstack([corner, corner + 0.2, generator.integers(1, 4, (3, 1))])
        moved = np.hstack([rows + generator.normal(0, 0.02, rows.shape), generator.random((3, 1))])
        moved[:, 4] = rows[:, 4]
        samples.append((found(*moved), boxes(*rows)))
    first, again = scored("map50", *samples), scored("map50", *samples)
    assert first == again
    metric = metrics.boxes
    evaluated = metric._evaluated([metric.observe_boxes(f, t) for f, t in samples])
    tables = metric._tables(evaluated, len(samples))
    ours = [metric._precision(table, np.ones(len(samples))) for table in tables]
    assert np.mean(ours) == pytest.approx(first.value, abs=1e-12)


def test_errors_of_numbers_are_those_of_scikit_learns_examples() -> None:
    pairs = [(2.5, 3.0), (0.0, -0.5), (2.0, 2.0), (8.0, 7.0)]
    rows = [(np.array([given]), np.array([true])) for given, true in pairs]
    assert scored("mae", *rows).value == 0.5
    assert scored("mse", *rows).value == 0.375
    assert scored("rmse", *rows).value == pytest.approx(0.6123724356957945)
    error = np.std([0.5, 0.5, 0.0, 1.0], ddof=1) / 2
    assert scored("mae", *rows).standard_error == pytest.approx(error)


def test_targets_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match="A target has 2 values, the model answers with 3"):
        scored("mae", (np.zeros(3), np.zeros(2)))


def test_infinity_is_no_number_to_compare_but_a_rank() -> None:
    with pytest.raises(ModelError, match="infinity"):
        scored("mae", (np.array([np.inf]), np.zeros(1)))
    assert scored("auc", (-np.inf, 0), (0.5, 1), (np.inf, 1)).value == 1


def test_noise_is_in_decibels_and_an_offset_is_none_of_centred_noise() -> None:
    pair = observe_pair(np.array([3.0, 3.0]), np.array([3.0, 4.0]))
    level = sqnr([pair])
    assert level is not None and level.value == pytest.approx(10 * math.log10(25))
    shifted = observe_pair(np.array([2.0, 3.0]), np.array([1.0, 2.0]))
    assert sqnr([shifted], centred=True) is None and sqnr([shifted]) is not None


def test_agreement_is_of_every_position() -> None:
    base = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    own = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.1, 0.9]])
    assert agreement([observe_pair(own, base)]).value == 0.75
    with pytest.raises(ModelError, match="3 values, its float model with 2"):
        observe_pair(np.zeros(3), np.zeros(2))


def test_an_unknown_metric_is_refused_with_a_guess() -> None:
    with pytest.raises(InputError, match="Did you mean map50"):
        metric_named("mAP50".lower().replace("50", "5"))


def test_a_missing_library_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"needs jiwer.*pip install \"edgeopt\[metrics\]\"") as told:
        metric_named("wer")
    assert told.value.exit_code == 4
    assert metric_named("top1").library is None  # the core keeps it


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_has_a_decoder_that_exists(name: str) -> None:
    from edgeopt.verify.decode import _MAKERS

    assert set(METRICS[name].decoders) <= set(_MAKERS)
