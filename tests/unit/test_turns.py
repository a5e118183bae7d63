"""Models that take turns in one process: their ratio is known where their times are not."""

from __future__ import annotations

import json
import math
import random
import statistics
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from compare_models import chain
from measuring import process, several

from edgeopt.artifact import hash_path
from edgeopt.device import Device, DeviceSpec, connect, turns
from edgeopt.device.python_runner.ask import Told
from edgeopt.device.run import RunRequest
from edgeopt.device.series import Variant
from edgeopt.effort import Effort
from edgeopt.errors import DeviceError, InputError
from edgeopt.measurement import compare, measure
from edgeopt.measurement.ranks import _signed_rank, centre, centre_interval
from edgeopt.measurement.turns import TurnProcess, Turns
from edgeopt.paths import demo_dir
from edgeopt.pipeline.turning import turned
from edgeopt.progress import Silent

MODEL = demo_dir() / "fashion.tflite"


# Quantiles of Wilcoxon's signed rank statistic at 0.5%, as tabulated (Conover, table A12).
@pytest.mark.parametrize(("n", "quantile"), [(8, 1), (10, 4), (15, 16), (20, 38), (30, 110)])
def test_signed_rank_quantiles_are_the_tabulated_ones(n: int, quantile: int) -> None:
    assert _signed_rank(n, 0.005) == quantile


def test_signed_rank_counts_are_those_of_all_signs() -> None:
    sums = [sum(r for r, s in enumerate(signs, 1) if s) for signs in product((0, 1), repeat=9)]
    for tail in (0.005, 0.025, 0.2):
        k = _signed_rank(9, tail)
        assert sum(s < k for s in sums) <= tail * 512 < sum(s <= k for s in sums)


def test_below_eight_values_there_is_no_interval_at_99_percent() -> None:
    values = [0.01 * n for n in range(8)]
    assert centre_interval(values[:7], 0.99) is None
    assert centre_interval(values, 0.99) == (0.0, 0.07)
    assert centre(values) == pytest.approx(0.035)


def logs(ratio: float, seed: int, sd: float = 0.005, size: int = 8) -> list[float]:
    source = random.Random(seed)
    return [math.log(ratio) + source.gauss(0, sd) for _ in range(size)]


def test_turns_find_a_slowdown_that_the_times_do_not_show() -> None:
    old, new = several(1e6, 1, between=0.1), several(1e6, 2, between=0.1)
    found = compare(old, new, turns=logs(1.03, 1))
    assert (found.verdict, found.method, found.processes) == ("slower", "turns", (8, 8))
    assert found.ratio == pytest.approx(1.03, abs=0.005)
    assert found.interval is not None and found.interval95 is not None
    assert found.interval[0] < found.interval95[0] < found.ratio < found.interval95[1]
    assert compare(old, new).verdict == "inconclusive"


def test_turns_of_equal_models_are_the_same_where_the_times_differ() -> None:
    old, new = several(1e6, 1), several(1.1e6, 2)
    assert compare(old, new).verdict == "slower"
    assert compare(old, new, turns=logs(1, 3)).verdict == "same"


def test_equal_models_differ_at_most_once_in_a_hundred_and_three_percent_are_found() -> None:
    old, new = several(1e6, 1), several(1e6, 2)
    equal = [compare(old, new, turns=logs(1, n, sd=0.01)).verdict for n in range(300)]
    slower = [compare(old, new, turns=logs(1.03, n)).verdict for n in range(100)]
    assert equal.count("slower") + equal.count("faster") <= 3 and slower.count("slower") >= 90


def test_too_few_turns_leave_the_comparison_to_the_processes() -> None:
    old, new = several(1e6, 1), several(1.1e6, 2)
    assert compare(old, new, turns=logs(1, 3, size=7)).method == "ranks"


def test_turns_of_an_invalid_measurement_are_not_judged() -> None:
    bad = measure(processes=[process(1e6, n, invalid_reasons=("throttled",)) for n in range(5)])
    assert compare(several(1e6, 1), bad, turns=logs(1.2, 1)).verdict == "inconclusive"


def taken(*factors: float, invalid: int = 0) -> Turns:
    """Each process: three cycles at levels of its own, the second model slower by its factor."""
    rows = [
        TurnProcess(
            medians_ns=tuple((level, round(level * f)) for level in (10**6, 3 * 10**6, 2 * 10**6)),
            runs=(12, 12),
            loaded=(0, 1),
            invalid_reasons=("throttled",) if n < invalid else (),
        )
        for n, f in enumerate(factors)
    ]
    return Turns(names=("a", "b"), processes=tuple(rows))


def test_a_process_tells_the_ratio_whatever_its_own_pace() -> None:
    found = taken(1.1, 1.2, 1.3)
    assert [math.exp(r) for r in found.log_ratios("a", "b")] == pytest.approx([1.1, 1.2, 1.3])
    assert [math.exp(r) for r in found.log_ratios("b", "a")] == pytest.approx(
        [1 / 1.1, 1 / 1.2, 1 / 1.3]
    )
    assert found.log_ratios("a", "c") == ()


def test_a_disturbed_process_does_not_count_unless_it_is_only_reported() -> None:
    found = taken(1.1, 1.2, 1.3, invalid=2)
    assert len(found.log_ratios("a", "b")) == 1
    told = Turns(names=found.names, processes=found.processes, judged=False)
    assert len(told.log_ratios("a", "b")) == 3


def test_turns_survive_their_report() -> None:
    found = taken(1.1, 1.2, invalid=1)
    assert Turns.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert Turns.from_json(None) == Turns(names=())


@pytest.mark.parametrize(
    "change",
    [
        {"medians_ns": []}, {"medians_ns": [[1]]}, {"medians_ns": [[1, 0]]}, {"runs": [1]},
        {"medians_ns": [[1, 10**17]]}, {"medians_ns": [[1, True]]}, {"medians_ns": 3},
        {"conditions": 3}, {"invalid_reasons": 3}, {"loaded": [0, 0]}, {"loaded": [1]},
    ],
)  # fmt: skip
def test_turns_that_edgeopt_did_not_write_are_refused(change: dict[str, Any]) -> None:
    document = json.loads(json.dumps(taken(1.1).to_json()))
    document["processes"][0].update(change)
    with pytest.raises(InputError):
        Turns.from_json(document)
    with pytest.raises(InputError):
        Turns.from_json([])


def variants(*models: Path, **others: Any) -> list[Variant]:
    return [
        Variant(name=f"m{n}", request=RunRequest(model=m, sha256=hash_path(m), **others))
        for n, m in enumerate(models)
    ]


@pytest.fixture
def device(tmp_path: Path) -> Any:
    with connect(DeviceSpec(name="here", kind="local", workdir=str(tmp_path / "w"))) as found:
        yield found


def took(device: Device, *models: Path, max_time_s: float = 60, **others: Any) -> list[Turns]:
    """All that was told, of the real agent unless a test puts a double in its place."""
    told: list[Turns] = []
    turns.take_turns(
        device, variants(*models, **others), Effort(max_time_s=max_time_s), Silent(), told.append,
        judged=False,
    )  # fmt: skip
    return told


def test_a_model_is_as_fast_as_itself(device: Device, tmp_path: Path) -> None:
    """By the real agent; the same file twice, so nothing but noise is between them."""
    found = took(device, MODEL, MODEL, max_time_s=0.5, keep=False)[-1]
    assert found.names == ("m0", "m1") and len(found.processes) == 1 and "--max-time" in found.note
    (each,) = found.processes
    assert len(each.medians_ns) >= 7 and min(each.runs) >= 4 * len(each.medians_ns)
    assert each.conditions["during"]["usage"]
    assert abs(statistics.median(found.log_ratios("m0", "m1"))) < 0.1
    assert not (tmp_path / "w").exists()  # keep=False: nothing stays behind


def test_every_model_has_its_own_column_whatever_the_order(device: Device, tmp_path: Path) -> None:
    """By the real agent: 12, 4 and 40 equal layers."""
    models = [chain(tmp_path / f"{n}.tflite", layers=n) for n in (12, 4, 40)]
    orders = set()
    for number in range(4):
        order = turns._order(3, 5, number)
        orders.add(order[1])
        found = turns._process(device, variants(*models), order)
        whole = Turns(names=("a", "b", "c"), processes=(found,), judged=False)
        (small,), (large,) = whole.log_ratios("a", "b"), whole.log_ratios("a", "c")
        assert math.exp(small) == pytest.approx(1 / 3, rel=0.4)
        assert math.exp(large) == pytest.approx(40 / 12, rel=0.4)
        assert found.loaded == order[1]
    assert len(orders) > 1


def test_of_two_models_each_is_loaded_first_as_often() -> None:
    for seed in range(9):
        first = [turns._order(2, seed, number)[1] for number in range(8)]
        assert first.count((0, 1)) == first.count((1, 0)) == 4
    draws = [turns._order(2, seed, 0)[0].random() for seed in range(9)]
    assert len(set(draws)) == 9


def test_models_that_are_too_slow_do_not_begin() -> None:
    assert turns.too_slow([0.1, 0.1], Effort()) == ""
    assert "no time for 8 processes of at least 24 s" in turns.too_slow([1, 1], Effort())


class Clock:
    """A double of the clock, and of the agent, each of whose processes takes a second."""

    def __init__(self, *made: TurnProcess) -> None:
        self.now, self.made = 0.0, list(made)

    def monotonic(self) -> float:
        return self.now

    def process(self, *_: object) -> TurnProcess:
        self.now += 1
        if not self.made:
            raise KeyboardInterrupt
        return self.made.pop(0)


def doubled(monkeypatch: pytest.MonkeyPatch, *made: TurnProcess) -> None:
    clock = Clock(*made)
    monkeypatch.setattr(turns, "time", clock)
    monkeypatch.setattr(turns, "_process", clock.process)


def test_disturbed_processes_do_not_count_and_are_named(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubled(monkeypatch, *taken(*[1.0] * 50, invalid=40).processes)
    told: list[Turns] = []
    turns.take_turns(device, variants(MODEL, MODEL), Effort(max_time_s=10), Silent(), told.append)
    assert len(told[-1].processes) == 13 and not told[-1].counted
    assert "13 of 13 were disturbed (throttled), no time for 8" in told[-1].note
    assert "13 processes in which they took turns, 0 of them undisturbed" in str(told[-1])


def test_they_go_on_until_the_ratio_is_sure(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubled(monkeypatch, *taken(*[1.0, 1.1] * 4, *[1.05] * 50).processes)
    found = took(device, MODEL, MODEL)[-1]
    assert 8 < len(found.processes) < 58 and not found.note


def test_ctrl_c_keeps_the_processes_before_it(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubled(monkeypatch, *taken(1.0, 1.0, 1.0).processes)
    told: list[Turns] = []
    with pytest.raises(KeyboardInterrupt):
        turns.take_turns(device, variants(MODEL, MODEL), Effort(), Silent(), told.append)
    assert len(told[-1].processes) == 3 and told[-1].note == "stopped"


def test_nothing_is_started_on_a_device_that_may_be_anothers(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubled(monkeypatch, *taken(*[1.0] * 9).processes)
    lost = iter(["", "", "somebody ended it"])
    device.held = SimpleNamespace(check=lambda: next(lost))  # type: ignore[assignment]
    found = took(device, MODEL, MODEL)[-1]
    assert len(found.processes) == 2 and "somebody ended it" in found.note


def test_what_stands_in_the_way_is_a_note_and_keeps_what_there_is(device: Device) -> None:
    found = took(device, MODEL, demo_dir() / "facts.json")[-1]
    assert not found.processes and found.note


def test_a_model_that_was_changed_on_the_device_is_not_timed(device: Device) -> None:
    pair = variants(MODEL, MODEL)
    rows = [{"model": str(demo_dir() / "facts.json"), "model_sha256": "0" * 64, "inputs": None}]
    asked = {"others": rows, "loaded": [0, 1], "time_s": 0.1, "seed": 0}
    with pytest.raises(DeviceError):
        turns.ask(device, pair[0].request, "turns", asked, Silent())


@pytest.mark.parametrize(
    ("effort", "change", "why"),
    [
        ({"runs": 9}, {}, "exact number"),
        ({"processes": 1}, {}, "one process"),
        ({}, {"ran": []}, "fewer than two"),
        ({}, {"name": "failed"}, "fewer than two"),
        ({}, {"valid": lambda *_: False}, "fewer than two"),
        ({}, {"request": RunRequest(model=MODEL, sha256="", accelerator="gpu")}, "on a CPU"),
        ({}, {"typical_s": lambda *_: 9.0}, "no time"),
    ],
)
def test_why_there_are_no_turns_is_said(
    device: Device, effort: dict[str, Any], change: dict[str, Any], why: str
) -> None:
    """By doubles of two measured models."""
    plain = {
        "ran": [1], "valid": lambda *_: True, "typical_s": lambda *_: 0.001, "session": None,
        "request": variants(MODEL)[0].request,
    }  # fmt: skip
    parts: Any = [SimpleNamespace(**{"name": n, **plain}) for n in "ab"]
    vars(parts[1]).update(change)
    told: list[Turns] = []
    turned(parts, device, Effort(**effort), told.append, failed={"failed": None})
    assert why in told[-1].note and not told[-1].processes


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"medians_ns": []}, {"medians_ns": [[5]]}, {"medians_ns": [[5, 0]]},
        {"medians_ns": [[5, 1.5]]}, {"medians_ns": [[5, 6]] * 2001}, {"runs": [5]},
        {"runs": [5, -1]}, {"medians_ns": {"a": 1}}, {"runs": None},
    ],
)  # fmt: skip
def test_an_answer_that_lies_is_refused(
    device: Device, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    fields = {"medians_ns": [[5, 6]], "runs": [9, 9], **answer} if answer else {}
    told = Told(fields=fields, transfer=None, notes=())
    monkeypatch.setattr(turns, "ask", lambda *_: told)
    with pytest.raises(DeviceError, match="cannot be used"):
        turns._process(device, variants(MODEL, MODEL), turns._order(2, 0, 0))


@pytest.mark.parametrize(
    "others",
    [{"accelerator": "edgetpu"}, {"options": {"runtime": "native"}},
     {"options": {"runtime": "benchmark_model"}}],
)  # fmt: skip
def test_only_the_agent_on_a_cpu_can_take_turns(device: Device, others: dict[str, Any]) -> None:
    assert turns.can_take_turns(device, [v.request for v in variants(MODEL, MODEL)])
    assert not turns.can_take_turns(device, [variants(MODEL)[0].request])
    mixed = [variants(MODEL)[0].request, variants(MODEL, **others)[0].request]
    assert not turns.can_take_turns(device, mixed)


def test_a_benchmark_in_alternation_is_judged_by_turns(tmp_path: Path) -> None:
    """As a user runs it, with `compare` on its report."""
    paths = [tmp_path / f"{name}.tflite" for name in ("old", "new")]
    for path in paths:
        path.write_bytes(MODEL.read_bytes())
    words = [
        "benchmark",
        *map(str, paths),
        "--interleave",
        "--precision",
        "50%",
        "--processes",
        "2",
    ]
    words += ["--conditions", "report", "--report", "r.json", "--max-time", "30"]
    run = [sys.executable, "-m", "edgeopt"]
    done = subprocess.run([*run, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "in which they took turns" in " ".join(done.stdout.split())
    document = json.loads((tmp_path / "r.json").read_text())
    assert len(document["turns"]["processes"]) >= 8
    assert document["comparisons"][0]["method"] == "turns"
    words = ["compare", "r.json", "r.json", "--variant", "old", "--variant", "new", "--json"]
    done = subprocess.run([*run, *words], cwd=tmp_path, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found["ratio"] == document["comparisons"][0]["ratio"] and found["method"] == "turns"
    assert any("took turns" in note for note in found["notes"])


def test_an_exact_number_of_runs_asks_for_no_turns(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "edgeopt", "benchmark", str(MODEL), str(MODEL), "--interleave"]
    done = subprocess.run(
        [*words, "--runs", "20", "--processes", "2", "--json", "--conditions", "report"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    found = json.loads(done.stdout)["turns"]
    assert found["processes"] == [] and "exact number" in found["note"]
