"""The search under an accuracy budget, with steps that stand in for converting and measuring.

The steps here are doubles: they put a made-up accuracy into the report. What real candidates do is
in tests/contract/test_budget.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.artifact import Artifact
from edgeopt.errors import DeviceError, EdgeoptError, InputError, ModelError, ResultError, ToolError
from edgeopt.job import Job
from edgeopt.paths import demo_dir
from edgeopt.pipeline import candidates, flow
from edgeopt.pipeline.session import Session
from edgeopt.progress import Silent
from edgeopt.report import Report
from edgeopt.store import Store

Outcome = float | EdgeoptError
MODEL = demo_dir() / "fashion.tflite"
BUDGET = 0.01


def judged(outcomes: dict[str, Outcome]) -> Callable[[Session], None]:
    """A double: each scheme loses the accuracy named for it, or fails with the error."""

    def judge(session: Session) -> None:
        outcome = outcomes.get(str(session.job.scheme), 0.5)
        if isinstance(outcome, EdgeoptError):
            raise outcome
        session.add(
            plan=flow.plan(session.job, session.store, Silent()).plan,
            artifacts=(Artifact.of(MODEL, "source"), Artifact.of(MODEL, "optimized")),
            accuracy={"metric": "top1", "baseline": 0.9, "optimized": 0.9 - outcome,
                      "drop": outcome, "samples": 100, "standard_error": 0.03},
        )  # fmt: skip

    return judge


def published(session: Session) -> None:
    """A double of publishing: writes the scheme's name where the file would be."""
    assert session.job.output is not None
    path = session.job.output / f"{session.job.scheme}.tflite"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(session.job.scheme))
    session.add(
        artifacts=(session.report.artifacts[0], replace(session.report.artifacts[1], path=path))
    )


def search(
    tmp_path: Path, outcomes: dict[str, Outcome], finish: Callable[[Session], None] | None = None
) -> Report:
    job = Job(
        model=MODEL, calibration="c.npz", eval_data="e.npz", max_accuracy_drop=BUDGET,
        output=tmp_path / "out",
    )  # fmt: skip
    store = Store(tmp_path / "cache")
    planned = flow.plan(job, store, Silent())
    steps = (published, *filter(None, [finish]))
    return candidates.search(job, store, Silent(), planned, (judged(outcomes),), steps)


def told(report: Report) -> list[tuple[str, str]]:
    return [(row["name"], row["status"]) for row in report.candidates or ()]


def files(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "out").rglob("*"))


def test_it_stops_at_the_first_that_passes(tmp_path: Path) -> None:
    found = search(tmp_path, {"int8": 0.02, "dynamic_int8": 0.01})
    assert told(found) == [("int8", "missed"), ("dynamic_int8", "passed")]
    assert files(tmp_path) == ["dynamic_int8.tflite"]


def test_a_broken_candidate_is_its_row_and_does_not_stop_the_rest(tmp_path: Path) -> None:
    found = search(tmp_path, {"int8": ModelError("breaks a rule"), "dynamic_int8": 0.0})
    assert told(found) == [("int8", "failed"), ("dynamic_int8", "passed")]
    assert (found.candidates or [])[0]["error"]["message"] == "breaks a rule"


@pytest.mark.parametrize("kind", [InputError, ToolError, DeviceError])
def test_errors_of_the_input_a_tool_or_the_device_end_it_with_what_was_tried(
    tmp_path: Path, kind: type[EdgeoptError]
) -> None:
    with pytest.raises(kind) as caught:
        search(tmp_path, {"int8": 0.02, "dynamic_int8": kind("gone")})
    assert told(caught.value.reached) == [("int8", "missed")]
    assert not (tmp_path / "out").exists()


def test_when_none_passes_the_one_that_lost_least_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"float16 is the best and loses 0\.0200") as caught:
        search(tmp_path, {"int8": 0.3, "dynamic_int8": 0.04, "float16": 0.02, "int16x8": 0.5})
    reached = caught.value.reached
    assert {status for _, status in told(reached)} == {"missed"}
    assert [row["name"] for row in reached.candidates if row["path"]] == ["float16"]
    assert files(tmp_path) == ["float16.tflite"] and "float16.tflite" in caught.value.hint
    assert reached.plan.scheme == "float16" and reached.failure["exit_code"] == 3


def test_when_all_are_broken_the_first_error_is_told_and_nothing_is_kept(tmp_path: Path) -> None:
    names = ("int8", "dynamic_int8", "float16", "int16x8")
    with pytest.raises(ModelError, match="int8 is broken") as caught:
        search(tmp_path, {name: ModelError(f"{name} is broken") for name in names})
    assert {status for _, status in told(caught.value.reached)} == {"failed"}
    assert not (tmp_path / "out").exists()


def test_a_latency_that_cannot_be_had_of_a_loser_costs_nothing_else(tmp_path: Path) -> None:
    asked = []

    def compiler(session: Session) -> None:
        asked.append(session.job.scheme)
        if session.job.scheme != "float16":
            raise ToolError("there is no compiler")

    found = search(tmp_path, {"int8": 0.3, "dynamic_int8": 0.3, "float16": 0.0}, compiler)
    assert told(found)[-1] == ("float16", "passed")
    assert asked == ["int8", "float16"]  # what stopped the first would stop the second
    assert "no compiler" in (found.candidates or [])[0]["notes"][-1]
    assert files(tmp_path) == ["float16.tflite"]


@pytest.mark.parametrize("error", [ToolError("no compiler"), ResultError("too hot")])
def test_what_stops_the_winner_is_raised_with_every_candidate(
    tmp_path: Path, error: EdgeoptError
) -> None:
    def fails(session: Session) -> None:
        if session.job.output == tmp_path / "out":
            raise error

    with pytest.raises(type(error)) as caught:
        search(tmp_path, {"int8": 0.3, "dynamic_int8": 0.0}, fails)
    assert told(caught.value.reached) == [("int8", "missed"), ("dynamic_int8", "passed")]
    assert files(tmp_path) == ["dynamic_int8.tflite"]


def test_a_budget_is_searched_only_when_the_choice_is_open() -> None:
    job = Job(model=MODEL, eval_data="e.npz", max_accuracy_drop=BUDGET)
    assert candidates.wanted(job)
    assert not candidates.wanted(replace(job, scheme="int8"))
    assert not candidates.wanted(replace(job, max_accuracy_drop=None))
    with pytest.raises(InputError, match="labelled data"):
        candidates.wanted(replace(job, eval_data=None))
