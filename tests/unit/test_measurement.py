"""Statistics that claim no more than the samples hold."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Sequence
from typing import Any

import pytest
from measuring import SUMMARY, noisy

from edgeopt.errors import InputError, ResultError
from edgeopt.measurement import Measurement, ProcessRun, measure, median_interval, percentile


def measured(samples: Sequence[int] | None = None, **others: Any) -> Measurement:
    return measure(processes=[ProcessRun(samples_ns=samples, **others)])  # type: ignore[arg-type]


def test_median_mean_and_sample_deviation_follow_from_the_samples() -> None:
    stats = measured([10, 20, 30, 40]).stats
    assert (stats.median_ns, stats.mean_ns) == (25.0, 25.0)
    assert stats.stdev_ns == pytest.approx(statistics.stdev([10, 20, 30, 40]))


def test_percentiles_are_numpys_default_definition() -> None:
    import numpy as np

    samples = sorted(noisy(1e6, 137, seed=1, spread=0.3))
    for fraction in (0.5, 0.9, 0.99):
        assert percentile(samples, fraction) == pytest.approx(np.quantile(samples, fraction))


@pytest.mark.parametrize(
    ("count", "p90", "p99"), [(9, False, False), (10, True, False), (100, True, True)]
)
def test_a_percentile_needs_enough_samples_to_hold_it(count: int, p90: bool, p99: bool) -> None:
    stats = measured(range(1, count + 1)).stats
    assert ((stats.p90_ns is not None), (stats.p99_ns is not None)) == (p90, p99)


# Ranks from Conover's table of the binomial distribution at p = 1/2.
@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(6, 1, 6), (9, 2, 8), (10, 2, 9), (20, 6, 15), (50, 18, 33), (100, 40, 61)],
)
def test_the_median_interval_is_the_exact_binomial_one(count: int, low: int, high: int) -> None:
    assert median_interval(range(1, count + 1)) == (low, high)


def test_five_samples_hold_no_95_percent_interval() -> None:
    assert measured([1, 2, 3, 4, 5]).stats.ci95_ns is None


def test_the_median_interval_covers_the_true_median_at_least_95_times_in_100() -> None:
    source = random.Random(3)
    hits = 0
    for _ in range(1000):
        low, high = median_interval(sorted(source.expovariate(1.0) for _ in range(25))) or (1, 0)
        hits += low <= 0.693147 <= high
    assert hits >= 940


def test_one_sample_has_no_deviation() -> None:
    assert measured([7]).stats.stdev_ns is None


def test_a_run_without_samples_is_refused() -> None:
    with pytest.raises(ResultError, match="no timed inference"):
        measured([])


@pytest.mark.parametrize("time_ns", [0, -5])
def test_a_time_that_is_no_duration_is_refused(time_ns: int) -> None:
    with pytest.raises(ResultError, match="no duration"):
        measured([100, time_ns])


def test_a_summary_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ResultError, match="no duration"):
        measured(summary_ns={"mean": float("nan")})


def test_a_summary_claims_no_median_percentile_or_interval() -> None:
    found = measured(summary_ns=SUMMARY)
    assert (found.stats.mean_ns, found.stats.stdev_ns, found.runs) == (105163000.0, 1.6e7, 10)
    stats = found.to_json()["stats"]
    assert [stats[k] for k in ("median_ns", "p90_ns", "p99_ns", "ci95_ns")] == [None] * 4
    assert "no single runs" in found.notes[0]


def test_a_deviation_above_a_tenth_of_the_mean_is_a_note_and_not_invalid() -> None:
    found = measured([100, 100, 100, 160])
    assert found.valid
    assert "The standard deviation is 26% of the mean (unstable above 10%)." in found.notes


def test_a_reason_makes_the_measurement_invalid() -> None:
    found = measured([100, 101], invalid_reasons=("thermal status rose from 0 to 3",))
    assert not found.valid
    assert found.to_json()["valid"] is False


def test_not_measured_is_null_in_json_and_never_zero() -> None:
    document = measured([100, 101]).to_json()
    assert document["first_ns"] is None
    assert document["peak_rss_bytes"] is None
    assert document["warmup_ns"] is None


def test_json_holds_the_published_fields() -> None:
    published = {"warmup_ns", "samples_ns", "stats", "first_ns", "init_ns", "peak_rss_bytes"}
    published |= {"conditions", "valid", "invalid_reasons"}
    assert published <= set(measured([100, 101]).to_json())


@pytest.mark.parametrize("summary", [None, SUMMARY])
def test_json_round_trips(summary: dict[str, float] | None) -> None:
    before = measured(
        None if summary else [100, 110, 120],
        summary_ns=summary, warmup_ns=(300,), first_ns=300, init_ns=0, peak_rss_bytes=4096,
        conditions={"before": {"governor": ["performance"]}}, invalid_reasons=("busy",),
    )  # fmt: skip
    after = Measurement.from_json(json.loads(json.dumps(before.to_json())))
    assert after == before
    assert after.to_json() == before.to_json()


@pytest.mark.parametrize(
    "document",
    [{}, {"samples_ns": "fast"}, {"samples_ns": [1.5]}, {"samples_ns": [1], "summary_ns": [1]},
     {"samples_ns": [1], "conditions": 3}, {"samples_ns": [1], "init_ns": "x"},
     {"samples_ns": [True]}],
)  # fmt: skip
def test_a_foreign_document_is_an_input_error(document: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Measurement.from_json(document)
