"""What is said before work begins, and where what was trained ends up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.artifact import Artifact
from edgeopt.effort import Effort
from edgeopt.job import Job
from edgeopt.paths import demo_dir
from edgeopt.pipeline import candidates, converting, flow
from edgeopt.pipeline.session import Session
from edgeopt.pipeline.tuning import _Work, tune
from edgeopt.plan import parse_spec
from edgeopt.progress import Silent
from edgeopt.quality import QualityRequest
from edgeopt.report.candidates import search_text
from edgeopt.store import Store
from edgeopt.training import TrainingRequest

KERAS, TFLITE, SAMPLES = (
    demo_dir() / n for n in ("fashion.keras", "fashion.tflite", "samples.npz")
)


class Heard(Silent):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def job(**more: object) -> Job:
    given = {"calibration": f"{SAMPLES}:x_calib", "train_data": f"{SAMPLES}:x,y", **more}
    return Job(model=KERAS, target="cpu", **given)  # type: ignore[arg-type]


def planned(tmp_path: Path, asked: Job, heard: Silent | None = None) -> Session:
    session = Session(asked, Store(tmp_path), heard or Silent())
    flow._plan(session)
    return session


def test_a_plan_under_a_budget_lists_what_is_tried_in_that_order(tmp_path: Path) -> None:
    asked = job(eval_data=f"{SAMPLES}:x,y", max_accuracy_drop=0.01)
    made = flow.plan(asked, Store(tmp_path), Silent()).plan
    assert made is not None and made.search[0] == "int8" and "qat+int8" in made.search
    assert made.search == tuple(c.name for c in candidates._distinct(made.ladder, asked))
    assert made.to_json()["search"] == list(made.search)
    lines = search_text(made).splitlines()
    assert lines[1] == "1. int8" and "training" in lines[1 + made.search.index("qat+int8")]


@pytest.mark.parametrize(
    "more",
    [{}, {"eval_data": f"{SAMPLES}:x,y", "max_accuracy_drop": 0.01, "scheme": "int8"},
     {"max_accuracy_drop": 0.01}],
)  # fmt: skip
def test_nothing_is_searched_without_a_budget_data_and_an_open_choice(
    tmp_path: Path, more: dict[str, object]
) -> None:
    made = flow.plan(job(**more), Store(tmp_path), Silent()).plan
    assert made is not None and made.search == ()


def test_equalization_of_clustered_weights_is_refused_aloud_and_in_the_plan(tmp_path: Path) -> None:
    heard = Heard()
    wish = QualityRequest(equalization="on")
    trained = TrainingRequest(techniques=("cluster",))
    session = planned(tmp_path, job(quality=wish, training=trained), heard)
    (said,) = heard.notes
    assert said.startswith("--equalization on changes nothing")
    assert said in session.plan.reasons and said in session.report.notes


def test_forced_ranges_of_a_scheme_without_ranges_are_told() -> None:
    wish = QualityRequest(ranges="mse", bias_correction="on")
    (said,) = wish.unmet("float16", ())
    assert said == (
        "--ranges mse and --bias-correction on change nothing: float16 has no activation ranges."
    )
    assert wish.unmet("int8", ("zeros",)) == () == QualityRequest().unmet("float16", ("clusters",))


def test_flags_that_tensorflows_converter_does_not_heed_are_told_once(tmp_path: Path) -> None:
    heard = Heard()
    session = planned(tmp_path, job(quality=QualityRequest(ranges="octav")), heard)
    for _ in range(2):
        converting._say_unapplied(session)
    (said,) = heard.notes
    assert said.startswith("--ranges octav could not be applied")
    assert session.plan.reasons.count(said) == session.plan.remarks.count(said) == 1


@pytest.mark.parametrize(("output", "place"), [("out", "out"), ("out/mine.tflite", "out")])
def test_what_was_trained_lies_beside_the_result(tmp_path: Path, output: str, place: str) -> None:
    session = planned(tmp_path, job(output=tmp_path / output))
    cached = tmp_path / "cache"
    cached.mkdir()
    chain = [Artifact.of(KERAS, "source")]
    for stage, ending in (("float", "tflite"), ("trained", "h5"), ("optimized", "tflite")):
        (cached / f"{stage}.{ending}").write_bytes(stage.encode())
        chain.append(Artifact.of(cached / f"{stage}.{ending}", stage, chain[-1]))
    session.report = replace(session.report, artifacts=tuple(chain))
    flow._publish(session)
    paths = {a.stage: a.path for a in session.report.artifacts}
    assert paths["float"].parent == cached
    assert paths["trained"].parent == paths["optimized"].parent == tmp_path / place
    assert paths["trained"].name in ("fashion_trained.h5", "mine_trained.h5")
    assert paths["trained"].read_bytes() == b"trained"


def test_tune_says_how_much_it_will_do_before_it_does(tmp_path: Path) -> None:
    heard = Heard()
    effort = Effort(runs=6, processes=1)
    asked = Job(
        model=TFLITE,
        target="cpu",
        device="local",
        output=tmp_path / "out",
        effort=effort,
        conditions="report",
    )
    first = (parse_spec("float32"),)
    tune(asked, first, Store(tmp_path), heard)
    assert heard.notes[0] == "1 candidate: float32."
    heard.notes.clear()
    tune(asked, (*first, parse_spec("float16")), Store(tmp_path), heard)
    assert heard.notes[0] == "2 candidates: float32, float16. 1 measured before."


def test_a_training_that_several_candidates_share_is_counted_once(tmp_path: Path) -> None:
    names = ("int8", "qat+int8", "qat+float16", "prune=0.5+int8", "prune=0.8+int8")
    work = _Work(
        job=job(), planned=flow.plan(job(), Store(tmp_path), Silent()), device={},
        specs=tuple(map(parse_spec, names)), output=tmp_path, shared={}, budget=None,
    )  # fmt: skip
    assert work.announcement((), chosen=True).endswith(" 3 trainings to do.")
    said = work.announcement(("prune=0.5+int8", "prune=0.8+int8"), chosen=False)
    assert said.startswith("5 candidates: int8, qat+int8") and "2 measured before." in said
    assert "1 training to do, which takes time: choose with --candidate." in said
