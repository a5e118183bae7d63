"""The decision tree: every target, data at hand, goal and budget, and what each leads to."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeopt.errors import InputError
from edgeopt.facts import ModelFacts
from edgeopt.model import read
from edgeopt.paths import demo_dir
from edgeopt.plan import NEEDS_CALIBRATION, Plan, make_plan
from edgeopt.target import list_targets

KNOWN = {target.name: target for target in list_targets()}
TARGETS = list(KNOWN)
GOALS = (None, "size", "latency", "accuracy")
NONE, SAMPLE, TRAIN, BOTH = (
    {"has_calibration": calibration, "has_train_data": train}
    for train, calibration in itertools.product((False, True), repeat=2)
)
PARAMETERS = 22522


@pytest.fixture(scope="module")
def keras() -> ModelFacts:
    return read(demo_dir() / "fashion.keras")


def plan(facts: ModelFacts, target: str, **wishes: Any) -> Plan:
    return make_plan(facts, KNOWN[target], **{"has_calibration": False, **wishes})


def choice(made: Plan) -> str:
    settings = ",".join(f"{name}={value}" for name, value in made.quality.items())
    return "+".join((*made.techniques, str(made.scheme))) + (f":{settings}" if settings else "")


# (target class, data, goal) -> the choice without a budget, and what a guarded search tries first.
# "-": refused, for there is nothing that the target takes without data.
DECISIONS = [
    ("cpu", NONE, None, "dynamic_int8", "dynamic_int8"),
    ("cpu", NONE, "size", "dynamic_int8", "dynamic_int8"),
    ("cpu", NONE, "latency", "dynamic_int8", "dynamic_int8"),
    ("cpu", NONE, "accuracy", "float16", "float16"),
    ("cpu", SAMPLE, None, "int8", "int8"),
    ("cpu", SAMPLE, "size", "int8", "int8"),
    ("cpu", SAMPLE, "latency", "int8", "int8"),
    ("cpu", SAMPLE, "accuracy", "float16", "float16"),
    ("cpu", TRAIN, None, "int8", "int8"),
    ("cpu", TRAIN, "size", "prune+int8", "prune+cluster+int8"),
    ("cpu", TRAIN, "latency", "int8", "int8"),
    ("cpu", TRAIN, "accuracy", "float16", "float16"),
    ("cpu", BOTH, None, "int8", "int8"),
    ("cpu", BOTH, "size", "prune+int8", "prune+cluster+int8"),
    ("cpu", BOTH, "latency", "int8", "int8"),
    ("cpu", BOTH, "accuracy", "float16", "float16"),
    ("edgetpu", NONE, None, "-", "-"),
    ("edgetpu", NONE, "size", "-", "-"),
    ("edgetpu", NONE, "latency", "-", "-"),
    ("edgetpu", NONE, "accuracy", "-", "-"),
    ("edgetpu", SAMPLE, None, "int8", "int8"),
    ("edgetpu", SAMPLE, "size", "int8", "int8"),
    ("edgetpu", SAMPLE, "latency", "int8", "int8"),
    ("edgetpu", SAMPLE, "accuracy", "int8:splitting=4", "int8:splitting=4"),
    ("edgetpu", TRAIN, None, "int8", "int8"),
    ("edgetpu", TRAIN, "size", "prune+int8", "prune+cluster+int8"),
    ("edgetpu", TRAIN, "latency", "int8", "int8"),
    ("edgetpu", TRAIN, "accuracy", "qat+int8", "qat+int8"),
    ("edgetpu", BOTH, None, "int8", "int8"),
    ("edgetpu", BOTH, "size", "prune+int8", "prune+cluster+int8"),
    ("edgetpu", BOTH, "latency", "int8", "int8"),
    ("edgetpu", BOTH, "accuracy", "qat+int8", "qat+int8"),
    ("android-gpu", NONE, None, "float16", "float16"),
    ("android-gpu", NONE, "size", "dynamic_int8", "dynamic_int8"),
    ("android-gpu", NONE, "latency", "float16", "float16"),
    ("android-gpu", NONE, "accuracy", "float16", "float16"),
    ("android-gpu", SAMPLE, None, "float16", "float16"),
    ("android-gpu", SAMPLE, "size", "int8", "int8"),
    ("android-gpu", SAMPLE, "latency", "float16", "float16"),
    ("android-gpu", SAMPLE, "accuracy", "float16", "float16"),
    ("android-gpu", TRAIN, None, "float16", "float16"),
    ("android-gpu", TRAIN, "size", "prune+int8", "prune+cluster+int8"),
    ("android-gpu", TRAIN, "latency", "float16", "float16"),
    ("android-gpu", TRAIN, "accuracy", "float16", "float16"),
    ("android-gpu", BOTH, None, "float16", "float16"),
    ("android-gpu", BOTH, "size", "prune+int8", "prune+cluster+int8"),
    ("android-gpu", BOTH, "latency", "float16", "float16"),
    ("android-gpu", BOTH, "accuracy", "float16", "float16"),
]
KIND = {
    "cpu-int8": "cpu", "cpu-int8-tflite-2.14": "cpu",
    "edgetpu-v1": "edgetpu", "android-gpu": "android-gpu", "ethos-u55-u65": "edgetpu",
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_the_whole_decision_space(keras: ModelFacts, target: str) -> None:
    kind = KIND[KNOWN[target].profile.name]
    rows = [row[1:] for row in DECISIONS if row[0] == kind]
    assert len(rows) == 4 * len(GOALS)
    for data, goal, unguarded, guarded in rows:
        for budget, has_eval in itertools.product((None, 0.01), (False, True)):
            wishes = dict(data, goal=goal, max_accuracy_drop=budget, has_eval_data=has_eval)
            expected = guarded if budget is not None and has_eval else unguarded
            if expected == "-":
                with pytest.raises(InputError, match="--calibration"):
                    plan(keras, target, **wishes)
                continue
            made = plan(keras, target, **wishes)
            assert choice(made) == expected, wishes
            _holds_together(made, target, wishes)


def _holds_together(made: Plan, target: str, wishes: dict[str, Any]) -> None:
    """What is true of every plan, whatever was decided."""
    profile = KNOWN[target].profile
    names = [c.name for c in made.candidates]
    assert len(set(names)) == len(names) and made.reasons
    assert choice(made) == made.candidates[0].name and made.candidates[0].available
    for candidate in made.candidates:
        spec = candidate.spec
        has = {"calibration": wishes["has_calibration"] or wishes["has_train_data"],
               "train_data": wishes["has_train_data"]}  # fmt: skip
        assert candidate.missing == tuple(n for n in candidate.needs if not has[n])
        assert candidate.reason and candidate.cost and candidate.support
        if candidate.available:
            assert profile.schemes[str(spec.scheme)].suits
        if spec.techniques or spec.scheme in NEEDS_CALIBRATION:
            assert candidate.needs
    states = [2 if c.refused else 1 if c.missing else 0 for c in made.candidates]
    assert states == sorted(states)
    assert all(c.spec.scheme != "float32" for c in made.ladder)
    assert json.loads(json.dumps(made.to_json()))["candidates"][0]["available"] is True


@pytest.mark.parametrize("target", TARGETS)
def test_without_a_goal_what_is_cheapest_to_make_is_tried_first(
    keras: ModelFacts, target: str
) -> None:
    guarded = {"max_accuracy_drop": 0.01, "has_eval_data": True}
    ladder = plan(keras, target, **BOTH, **guarded).ladder
    effort = [2 if c.spec.techniques else 1 if c.spec.quality else 0 for c in ladder if not c.slow]
    assert effort == sorted(effort) and effort[-1] == 2
    assert not any({"prune", "cluster"} & {*c.spec.techniques} for c in ladder)
    assert [c.slow for c in ladder] == sorted(c.slow for c in ladder)


def test_the_published_table_is_in_the_plan(keras: ModelFacts) -> None:
    rows = {c.name: c for c in plan(keras, "cpu").candidates}
    published = {
        "float16": ((), 0.5, ("CPU", "GPU")),
        "dynamic_int8": ((), 0.25, ("CPU", "Android GPU")),
        "int8": (("calibration",), 0.25, ("CPU", "Android GPU", "Edge TPU")),
        "qat+int8": (("train_data",), 0.25, ("CPU", "Android GPU", "Edge TPU")),
        "int16x8": (("calibration",), 0.25, ("CPU",)),
    }
    for name, (needs, ratio, support) in published.items():
        row = rows[name]
        assert (row.needs, row.expected_size_ratio, row.support) == (needs, ratio, support)
        assert row.expected_size_bytes == round(PARAMETERS * 4 * ratio)
    slow = {c.name: c for c in plan(keras, "cpu", has_calibration=True).candidates}["int16x8"]
    assert slow.slow and "35 times" in slow.reason


def test_what_lacks_data_says_which_flag_gives_it(keras: ModelFacts) -> None:
    rows = {c.name: c for c in plan(keras, "cpu").candidates}
    assert "--calibration" in rows["int8"].reason and "--train-data" in rows["qat+int8"].reason
    made = plan(keras, "cpu")
    assert made.rejected is not None and "--calibration" in made.rejected["int8"]


def test_a_tflite_cannot_be_trained_and_the_plan_knows() -> None:
    facts = read(demo_dir() / "fashion.tflite")
    made = plan(facts, "cpu", **BOTH)
    trained = [c for c in made.candidates if c.spec.techniques]
    assert trained and all("Keras model" in c.refused for c in trained)
    assert plan(facts, "cpu", **BOTH, goal="size").techniques == ()
    with pytest.raises(InputError, match="cannot be trained"):
        plan(facts, "cpu", **BOTH, techniques=("qat",))


@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic_int8", "int8", "int16x8"])
@pytest.mark.parametrize("techniques", [("prune",), ("qat",), ("prune", "cluster", "qat")])
def test_a_technique_that_was_asked_for_goes_with_any_scheme_that_suits(
    keras: ModelFacts, techniques: tuple[str, ...], scheme: str
) -> None:
    made = plan(keras, "cpu", **TRAIN, techniques=techniques, scheme=scheme)
    assert (made.techniques, made.scheme) == (techniques, scheme)
    wasted = "qat" in techniques and scheme in ("float32", "float16")
    assert wasted == any("makes no use" in r for r in made.reasons)
    with pytest.raises(InputError, match="does not suit"):
        plan(keras, "edgetpu", **TRAIN, techniques=techniques, scheme="float16")


@pytest.mark.parametrize("target", TARGETS)
def test_a_technique_alone_takes_the_smallest_scheme_of_the_target(
    keras: ModelFacts, target: str
) -> None:
    assert plan(keras, target, **TRAIN, techniques=("qat",)).scheme == "int8"


def test_training_data_serves_for_calibration_and_the_plan_says_so(keras: ModelFacts) -> None:
    assert any("--calibration" in r for r in plan(keras, "edgetpu", **TRAIN).reasons)
    assert not any("--calibration" in r for r in plan(keras, "edgetpu", **BOTH).reasons)


def test_a_budget_that_cannot_be_held_is_told(keras: ModelFacts) -> None:
    made = plan(keras, "cpu", has_calibration=True, max_accuracy_drop=0.01)
    assert any("--eval-data" in reason for reason in made.reasons)


def test_an_io_type_leaves_only_the_schemes_that_have_it(keras: ModelFacts) -> None:
    made = plan(keras, "cpu", has_calibration=True, io="uint8")
    assert {c.spec.scheme for c in made.candidates if c.available} == {"int8"}
    with pytest.raises(InputError, match="--io uint8 goes with --scheme int8"):
        plan(keras, "cpu", scheme="float16", io="uint8")


def test_a_model_of_unknown_size_has_no_expected_size(keras: ModelFacts) -> None:
    made = plan(replace(keras, parameters=None), "cpu")
    assert made.expected_size_bytes is None
    assert all(c.expected_size_bytes is None for c in made.candidates)


def test_deciding_loads_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys, edgeopt.plan; "
        "print([m for m in ('numpy', 'tensorflow', 'rich', 'click') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", Path(__file__)


def test_pruning_without_a_budget_is_told_to_be_unguarded(keras: ModelFacts) -> None:
    budget = {"max_accuracy_drop": 0.01, "has_eval_data": True}
    for wishes, told in (({}, True), (budget, False)):
        made = plan(keras, "cpu", **BOTH, **wishes, goal="size")
        assert told == any("Nothing guards" in reason for reason in made.reasons)


def test_accuracy_above_all_may_hold_activations_twice_unless_that_is_off(
    keras: ModelFacts,
) -> None:
    wishes = {"has_calibration": True, "goal": "accuracy"}
    made = plan(keras, "edgetpu", **wishes)
    assert made.expected_size_bytes is None  # a search decides how much wider it becomes
    assert any("up to 4 times the multiplications" in reason for reason in made.reasons)
    assert made.to_json()["quality"] == {"splitting": "4"}
    assert choice(plan(keras, "edgetpu", **wishes, splitting="2")) == "int8:splitting=2"
    off = plan(keras, "edgetpu", **wishes, splitting="off")
    assert choice(off) == "int8" and off.expected_size_bytes
    refused = next(c for c in off.candidates if "splitting" in c.spec.quality)
    assert "--splitting off" in refused.refused


def test_a_split_that_is_asked_for_is_said_with_any_goal(keras: ModelFacts) -> None:
    asked = plan(keras, "edgetpu", has_calibration=True, splitting="2.5")
    assert any("up to 2.5 times" in reason for reason in asked.reasons)
    with_scheme = plan(keras, "cpu", has_calibration=True, scheme="int8", goal="accuracy")
    assert any("up to 4 times" in reason for reason in with_scheme.reasons)
    floats = plan(keras, "cpu", goal="accuracy")
    assert not any("held twice" in reason for reason in floats.reasons)
