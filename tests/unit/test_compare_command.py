"""`edgeopt compare` refuses what cannot be compared, and says what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from measuring import process, several

from edgeopt.cli.app import app
from edgeopt.measurement import Measurement, measure
from edgeopt.measurement.turns import TurnProcess, Turns

DEVICE: dict[str, Any] = {
    "name": "desk-pi", "runtime": "ai_edge_litert", "runtime_version": "2.3.0",
    "accelerator": "cpu", "threads": 1, "inputs": "data", "inputs_sha256": "ab" * 32,
    "facts": {"cpu": "Cortex-A76", "arch": "aarch64", "model": "Raspberry Pi 5"},
}  # fmt: skip


def report(measured: Measurement, **device: Any) -> dict[str, Any]:
    facts = DEVICE["facts"] | device.pop("facts", {})
    return {
        "schema": "edgeopt.benchmark/1",
        "model": {"inputs": [{"name": "x", "dtype": "int8", "shape": device.pop("shape", [1, 8])}]},
        "device": DEVICE | device | {"facts": facts},
        "measurement": measured.to_json(),
    }


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(name: str, document: dict[str, Any]) -> str:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        return str(path)

    return write


def compared(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["compare", *arguments], catch_exceptions=True)


def test_the_same_build_is_the_same(write: Any) -> None:
    paths = [write(f"r{n}", report(several(1e6, n))) for n in (1, 2)]
    done = compared(*paths)
    assert done.exit_code == 0, done.output
    assert "same within 2%: median x 1.00" in done.output
    assert "old is " in done.output and "r2.json" in done.output.replace("\n", "")


@pytest.mark.parametrize(("factor", "threshold", "verdict", "said"), [
    (1.05, "10%", "same", "same within 10%: median x 1.05"),
    (1.045, "5%", "inconclusive", "it is slower, and whether by more than the threshold of 5%"),
    (0.957, "5%", "inconclusive", "it is faster, and whether by more than the threshold of 5%"),
    (1.0, "0.1%", "inconclusive", "the difference is not clear of the noise"),
])  # fmt: skip
def test_the_words_say_what_is_known_and_what_is_not(
    write: Any, factor: float, threshold: str, verdict: str, said: str
) -> None:
    paths = [write(f"r{n}", report(several(f * 1e6, n))) for n, f in ((1, 1), (2, factor))]
    words = (*paths, "--threshold", threshold)
    assert said in " ".join(compared(*words).output.split())
    assert json.loads(compared(*words, "--json").stdout)["verdict"] == verdict


def test_a_confidence_near_one_is_not_rounded_to_it(write: Any) -> None:
    paths = [write(f"r{n}", report(several(1e6, n))) for n in (1, 2)]
    assert "(99.99999% interval" in compared(*paths, "--confidence", "99.99999%").output


def test_a_regression_is_exit_6_with_its_numbers(write: Any) -> None:
    paths = [write(f"r{n}", report(several(f * 1e6, n))) for n, f in ((1, 1), (2, 1.05))]
    done = compared(*paths, "--json")
    error = done.exception
    assert getattr(error, "exit_code", None) == 6 or done.exit_code == 6
    assert "slower" in str(error)
    assert error.reached["verdict"] == "slower"  # type: ignore[union-attr]
    assert error.reached["ratio"] == pytest.approx(1.05, abs=0.01)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("key", "change", "shown"),
    [
        ("inputs", {"inputs_sha256": "cd" * 32}, "abababababab and cdcdcdcdcdcd"),
        ("inputs", {"inputs": "seeded"}, "inputs data and seeded"),
        ("threads", {"threads": 4}, "threads 1 and 4"),
        ("device", {"facts": {"model": "Raspberry Pi 4"}}, "Raspberry Pi 5 and Raspberry Pi 4"),
        ("device", {"facts": {"cpu": "Cortex-A72"}}, "Cortex-A76 and Cortex-A72"),
        ("runtime", {"runtime": "tflite_runtime"}, "ai_edge_litert and tflite_runtime"),
        ("runtime-version", {"runtime_version": "2.2.0"}, "2.3.0 and 2.2.0"),
        ("accelerator", {"accelerator": "gpu"}, "cpu and gpu"),
        ("shapes", {"shape": [1, 16]}, "1x8 and 1x16"),
    ],
)
def test_what_differs_is_refused_unless_a_reason_is_given(
    write: Any, key: str, change: dict[str, Any], shown: str
) -> None:
    old = write("old", report(several(1e6, 1)))
    new = write("new", report(several(1e6, 2), **change))
    refused = compared(old, new).exception
    assert refused is not None and refused.exit_code == 6  # type: ignore[attr-defined]
    assert shown in str(refused) and f'--allow "{key}=REASON"' in str(refused)
    allowed = compared(old, new, "--allow", f"{key}=the new board", "--json")
    assert allowed.exit_code == 0, allowed.exception
    row = json.loads(allowed.stdout)["differences"][0]
    assert (row["key"], row["allowed_because"]) == (key, "the new board")


def test_another_governor_or_pinned_cores_are_a_difference(write: Any) -> None:
    def held(governor: str, cores: list[int] | None) -> dict[str, Any]:
        state = {"before": {"governor": [governor, None]}}
        runs = [process(1e6, n, conditions=state) for n in range(5)]
        return report(measure(processes=runs)) | {"preparation": {"cores": cores}}

    old = write("old", held("ondemand", None))
    for other, said in (
        (held("performance", None), "frequency governor ondemand and performance"),
        (held("ondemand", [2, 3]), "pinned to cores any and 2,3"),
    ):
        refused = str(compared(old, write("new", other)).exception)
        assert said in refused and '--allow "preparation=REASON"' in refused


def test_seeded_inputs_of_another_type_may_be_compared(write: Any) -> None:
    old = write("old", report(several(1e6, 1), inputs="seeded"))
    new = write("new", report(several(1e6, 2), inputs="seeded", inputs_sha256="cd" * 32))
    assert compared(old, new).exit_code == 0


def test_one_process_is_too_little_to_say_anything(write: Any) -> None:
    old, new = (write(f"r{n}", report(several(1e6, n, processes=1))) for n in (1, 2))
    refused = compared(old, new).exception
    assert refused is not None and refused.exit_code == 6  # type: ignore[attr-defined]
    assert "one process on each side" in str(refused)
    assert "--processes 5" in str(refused)
    done = compared(old, new, "--allow", "effort=only a first look", "--json")
    assert json.loads(done.stdout)["method"] == "runs"
    assert "how much processes differ" in json.loads(done.stdout)["notes"][0]


@pytest.mark.parametrize("value", ["threads", "threads= ", "weather=sunny"])
def test_a_waiver_needs_a_known_key_and_a_reason(write: Any, value: str) -> None:
    path = write("r", report(several(1e6, 1)))
    error = compared(path, path, "--allow", value).exception
    assert error is not None and error.exit_code == 2  # type: ignore[attr-defined]


def test_variants_of_one_interleaved_report_are_picked_by_name(write: Any) -> None:
    rows = [{"name": n, **report(several(f * 1e6, s))} for n, f, s in (("a", 1, 1), ("b", 0.9, 2))]
    whole = {"schema": "edgeopt.benchmark/1", "variants": rows, "interleaved": True}
    path = write("both", whole)
    done = compared(path, path, "--variant", "a", "--variant", "b", "--json")
    found = json.loads(done.stdout)
    assert (found["verdict"], found["variants"], found["notes"]) == ("faster", ["a", "b"], [])
    missing = compared(path, path, "--variant", "c").exception
    assert missing is not None and "It has: a, b" in str(missing)
    unnamed = compared(path, path).exception
    assert unnamed is not None and "--variant" in str(unnamed)


@pytest.mark.parametrize(("count", "method"), [(8, "turns"), (7, "ranks")])
def test_models_that_took_turns_are_judged_by_them_or_it_is_said_why_not(
    write: Any, count: int, method: str
) -> None:
    rows = [{"name": n, **report(several(1e6, s))} for n, s in (("a", 1), ("b", 2))]
    made = TurnProcess(medians_ns=((1000, 1100),) * 9, runs=(9, 9), loaded=(0, 1))
    turns = Turns(names=("a", "b"), processes=(made,) * count, note="the board was gone")
    whole = {"schema": "edgeopt.benchmark/1", "variants": rows, "interleaved": True}
    path = write("both", {**whole, "turns": turns.to_json()})
    done = compared(path, path, "--variant", "b", "--variant", "a", "--json")
    found = json.loads(done.stdout)
    assert found["method"] == method
    if method == "turns":
        assert found["ratio"] == pytest.approx(1 / 1.1) and "8 processes" in found["notes"][0]
    else:
        assert "7 processes in which both took turns count, too few" in found["notes"][0]
        assert "the board was gone" in found["notes"][0]


def test_a_device_of_a_report_of_several_is_picked_by_name(write: Any) -> None:
    rows = [{"name": n, **report(several(1e6, s))} for n, s in (("pi-a", 1), ("pi-b", 2))]
    fleet = write("fleet", {"schema": "edgeopt.benchmark/1", "devices": rows})
    assert compared(fleet, fleet, "--variant", "pi-a", "--variant", "pi-b").exit_code == 0
    alone = write("old", report(several(1e6, 3)))
    done = compared(alone, fleet, "--variant", "pi-b", "--json")
    assert json.loads(done.stdout)["variants"] == [None, "pi-b"]
    assert "leave out --variant" in str(compared(alone, alone, "--variant", "pi-b").exception)


def test_an_invalid_measurement_is_refused_with_its_reasons(write: Any) -> None:
    throttled = [process(1e6, n, invalid_reasons=("throttled",)) for n in range(5)]
    old, new = (
        write("old", report(several(1e6, 1))),
        write("new", report(measure(processes=throttled))),
    )
    refused = compared(old, new).exception
    assert refused is not None and refused.exit_code == 6  # type: ignore[attr-defined]
    assert "the new one is invalid: 0 of 5 processes" in str(refused) and "throttled" in str(
        refused
    )
    reported = write("new", report(measure(processes=throttled, judged=False)))
    done = compared(old, reported, "--json")
    assert "5 of 5 processes of the new one were disturbed" in json.loads(done.stdout)["notes"][0]


def test_two_sessions_get_an_allowance_and_say_so(write: Any) -> None:
    paths = [write(f"r{n}", report(several(1e6, n))) for n in (1, 2)]
    apart, strict = (
        json.loads(compared(*paths, "--json", "--session-noise", noise).stdout)
        for noise in ("1%", "0")
    )
    assert "--interleave" in apart["notes"][0] and "allows 1%" in apart["notes"][0]
    assert apart["interval"][0] == pytest.approx(strict["interval"][0] / 1.01)
    assert apart["interval"][1] == pytest.approx(strict["interval"][1] * 1.01)
    assert (apart["session"], strict["session"]) == (0.01, 0.0)


def test_measured_in_alternation_they_need_no_allowance(write: Any) -> None:
    rows = [{"name": n, **report(several(1e6, s))} for n, s in (("a", 1), ("b", 2))]
    for interleaved, session in ((True, 0.0), (False, 0.01)):
        whole = {"schema": "edgeopt.benchmark/1", "variants": rows, "interleaved": interleaved}
        path = write("both", whole)
        done = compared(path, path, "--variant", "a", "--variant", "b", "--json")
        assert json.loads(done.stdout)["session"] == session


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"schema": "edgeopt.benchmark/1"}', "[" * 100_000,
     '{"schema": "edgeopt.benchmark/1", "measurement": {"samples_ns": [1]}, "device": 3}',
     '{"schema": "edgeopt.benchmark/1", "measurement": {"processes": 3}}',
     '{"schema": "edgeopt.benchmark/1", "measurement": {"processes": [{"pooled": true}]}}',
     '{"schema": "edgeopt.benchmark/1", "measurement": [], "variants": 1}'],
)  # fmt: skip
def test_a_foreign_file_is_an_input_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text, encoding="utf-8")
    error = compared(str(tmp_path / "r.json"), str(tmp_path / "r.json")).exception
    assert error is not None and getattr(error, "exit_code", None) == 2, error


@pytest.mark.parametrize(
    "change",
    [
        {"model": 3},
        {"model": {"inputs": [3]}},
        {"model": {"inputs": 3}},
        {"device": {"facts": [1]}},
        {"device": {"facts": {"model": "\x1b[2J" * 9}, "threads": {"a": []}}},
    ],
)
def test_an_odd_report_is_refused_or_compared_and_never_a_crash(
    write: Any, change: dict[str, Any]
) -> None:
    good, odd = report(several(1e6, 1)), report(several(1e6, 2)) | change
    waived = [f"--allow={key}=test" for key in ("device", "runtime", "threads", "shapes", "inputs")]
    done = compared(write("good", good), write("odd", odd), *waived)
    assert getattr(done.exception, "exit_code", done.exit_code) in (0, 2, 6), done.exception
    assert "\x1b[2J" not in done.output


def test_the_terminal_shows_both_sides_and_what_was_waived(write: Any) -> None:
    old = write("old", report(several(1e6, 1)))
    new = write("new", report(several(1e6, 2), threads=2))
    shown = compared(old, new, "--allow", "threads=two [bold]cores\x1b now").output
    assert "[bold]cores� now" in shown
    assert [line.split()[0] for line in shown.splitlines()[:3]] == ["median", "old", "new"]


def test_one_measurement_is_not_compared_with_itself(write: Any) -> None:
    measured = several(1e6, 1)
    paths = [write(name, report(measured)) for name in ("old", "copy")]
    error = compared(*paths).exception
    assert error is not None and error.exit_code == 2  # type: ignore[attr-defined]
    assert "one and the same measurement" in str(error)


@pytest.mark.parametrize("time_ns", [10**400, 2**63, 0, -5])
def test_a_time_that_no_clock_can_show_names_the_file(write: Any, time_ns: int) -> None:
    odd = report(several(1e6, 2))
    odd["measurement"]["samples_ns"][3] = time_ns
    error = compared(write("good", report(several(1e6, 1))), write("odd", odd)).exception
    assert getattr(error, "exit_code", None) == 2, error
    assert "odd.json" in str(error) and "is no duration" in str(error)


def test_a_regression_among_disturbed_processes_is_to_be_measured_in_alternation(
    write: Any,
) -> None:
    slow = [process(1.2e6, n, invalid_reasons=("it shared its cores",)) for n in range(5)]
    new = write("new", report(measure(processes=slow, judged=False)))
    error = compared(write("old", report(several(1e6, 1))), new).exception
    assert error is not None and error.exit_code == 6  # type: ignore[attr-defined]
    assert "not measured in alternation" in str(error) and "--interleave" in str(error)


def test_a_build_that_computes_other_answers_is_not_called_faster(write: Any) -> None:
    wrong = report(several(0.8e6, 2)) | {"parity": {"passed": False, "max_abs_diff": 9.0}}
    paths = write("old", report(several(1e6, 1))), write("new", wrong)
    error = compared(*paths).exception
    assert error is not None and error.exit_code == 6  # type: ignore[attr-defined]
    assert "the new one computes other answers" in str(error) and "mend it first" in str(error)
    done = compared(*paths, "--allow", "parity=the tolerance was too strict", "--json")
    assert json.loads(done.stdout)["verdict"] == "faster"


def test_a_run_that_was_stopped_is_compared_as_far_as_it_came_and_says_so(write: Any) -> None:
    stopped = report(several(1e6, 2)) | {"error": {"message": "Stopped.", "exit_code": 130}}
    done = compared(write("old", report(several(1e6, 1))), write("new", stopped), "--json")
    assert json.loads(done.stdout)["notes"][0] == "The run of the new one ended early: Stopped."
