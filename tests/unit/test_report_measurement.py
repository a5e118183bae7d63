"""What a person reads of a measurement: what is wrong comes first, and once."""

from __future__ import annotations

import io
from typing import Any

import pytest
from measuring import process, several
from rich.console import Console
from rich.table import Table

from edgeopt.measurement import Measurement, measure
from edgeopt.model import read
from edgeopt.paths import demo_dir
from edgeopt.report import Report
from edgeopt.report.candidates import latency_text
from edgeopt.report.conditions import add_conditions, conditions_text
from edgeopt.report.measurement import add_measurement, half_text, interval_text, measurement_notes
from edgeopt.report.variants import Variant, VariantsReport, variants_summary
from edgeopt.target import load_target

SHARED = "it shared its cores: its threads waited {}% of their time for one (limit 8%)"


def shown(*parts: Any, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    for part in parts:
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def rows(measured: Measurement) -> list[list[str]]:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    add_measurement(grid, measured)
    return [line.split(None, 1) for line in shown(grid, width=300).splitlines()]


def disturbed(judged: bool) -> Measurement:
    runs = [process(1e6, n, invalid_reasons=(SHARED.format(60 + n),)) for n in range(5)]
    return measure(processes=runs, precision=0.001, judged=judged)


def test_a_clean_measurement_begins_with_the_latency_and_ends_with_a_tick() -> None:
    found = rows(several(1e6, 1, precision=0.01))
    assert (found[0][0], found[-1][0]) == ("latency", "valid")
    assert found[-1][1].strip() == "✓ 5 processes, no disturbance seen"


def test_what_is_wrong_stands_before_the_latency_and_is_no_note() -> None:
    reported = disturbed(judged=False)
    label, text = rows(reported)[0]
    assert label == "valid"
    assert text.startswith("not judged, though 5 of 5 processes were disturbed: shared its cores")
    assert "not the 0.1% asked for" in text
    assert [
        note for note in measurement_notes(reported) if "shared" in note or "wide" in note
    ] == []


def test_an_invalid_measurement_says_why_once_for_all_processes_alike() -> None:
    text = shown(*("  ".join(row) for row in rows(disturbed(judged=True))), width=300)
    assert text.startswith("valid  x invalid: 0 of 5 processes were undisturbed, 3 are needed")
    assert text.count("shared its cores") == 1
    assert "1 (much the same in 2, 3, 4 and 5): it shared its cores: its threads" in text


@pytest.mark.parametrize(
    ("ends", "typical", "said"),
    [
        ((99.0, 101.0), 100.0, "±1%"),
        ((99.0, 120.0), 100.0, "±20%"),
        ((90.0, 350.0), 100.0, "±250%"),
    ],
)
def test_half_an_interval_is_the_farther_end_of_it_everywhere(
    ends: tuple[float, float], typical: float, said: str
) -> None:
    assert half_text(ends, typical) == said
    assert interval_text(ends, typical).endswith(f"({said})")
    row = {"latency_ns": typical, "latency_valid": True, "latency_ci95_ns": list(ends)}
    assert latency_text(row) == f"{typical:.0f} ns {said}"


def one(measured: Measurement, **others: Any) -> Report:
    target = load_target("cpu")
    return Report(
        model=read(demo_dir() / "fashion.tflite"), target=target, measurement=measured, **others
    )


@pytest.mark.parametrize(("judged", "mark"), [(True, "✓"), (False, "?")])
def test_a_table_of_models_ticks_only_what_was_judged(judged: bool, mark: str) -> None:
    measured = several(1e6, 1) if judged else disturbed(judged=False)
    found = VariantsReport(
        variants=(Variant(name="a", report=one(measured)),),
        comparisons=(), order=("a",) * 5, seed=0, interleaved=True,
    )  # fmt: skip
    line = next(row for row in shown(variants_summary(found)).splitlines() if row.startswith("a "))
    assert line.split()[1] == mark


def test_a_report_of_models_that_was_stopped_claims_no_exit_code() -> None:
    whole: dict[str, Any] = {"comparisons": (), "order": (), "seed": 0, "interleaved": False}
    variants = (Variant(name="a", report=None),)
    stopped = VariantsReport(variants=variants, complete=False, **whole)
    assert stopped.to_json()["exit_code"] is None
    assert VariantsReport(variants=variants, **whole).to_json()["exit_code"] == 0


def test_what_others_used_is_told_of_how_many_cores() -> None:
    usage = {"wall_s": 2.0, "others_cpu_s": 3.0, "seen_cores": 2}
    runs = [process(1e6, n, conditions={"during": {"usage": usage}}) for n in range(3)]
    assert conditions_text(measure(processes=runs)) == "others used 1.5 of 2 cores"


def test_each_try_is_a_line_that_does_not_repeat_the_reasons() -> None:
    invalid = disturbed(judged=True)
    tries = tuple(
        {"median_ns": 1e6, "valid": False, "invalid_reasons": list(invalid.invalid_reasons)}
        for _ in range(2)
    )
    grid = Table.grid()
    add_conditions(grid, one(invalid, tries=tries))
    text = shown(grid, width=200)
    assert text.count("0 of 5 processes were undisturbed, 3 are needed") == 2
    assert "shared" not in text
